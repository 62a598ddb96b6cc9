"""`Session`: levels, names, quantization at the ports, host segments, and what bad input gets."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from mmac.isa.container import save
from mmac.isa.errors import MalformedError, MmacError, UsageError, VerificationError
from mmac.isa.plan import FULL, Level
from mmac.isa.program import DebugEntry, TensorInfo
from mmac.runtime import Session
from mmac.runtime.ports import dequantize, quantize
from tests.runtime import definition
from tests.runtime.definition import Array, Quantization, Window
from tests.runtime.programs import Builder

ROOT = Path(__file__).parents[2]
LEVELS = (Level(2, 1), Level(8, 2), FULL)
SHAPE = (1, 4, 5, 3)
X_SCALE, Y_SCALE = 0.05, 0.1
Q = Quantization(a_zero=100, y_zero=20)
WINDOW = Window(kernel=(3, 3), pads=(1, 1, 1, 1))


class Case:
    """Float image → convolution → table → float output, with the host between the two on request."""

    def __init__(self, host: bytes | None = None) -> None:
        rng = np.random.default_rng(7)
        self.weights = rng.integers(-127, 128, (4, 3, 3, 3))
        self.bias, self.scale = rng.integers(-99, 99, (1, 4)), np.full((1, 4), 0.004, np.float32)
        self.table = rng.permutation(256).astype(np.uint8)
        self.x = rng.normal(0, 4, (1, 3, 4, 5)).astype(np.float32)
        self.builder = builder = Builder(LEVELS)
        out = (1, 4, 5, 4)
        x = builder.tensor("x_q", SHAPE, scale=X_SCALE, zero_point=100)
        hidden = builder.tensor("hidden", out)
        looked = builder.tensor("looked", out) if host else hidden
        # the output takes bytes of an earlier tensor, which must still be there for those who ask
        y = builder.tensor("y_q", out, base=looked.base, scale=Y_SCALE, zero_point=20)
        builder.array_layer(
            x, hidden, self.weights, self.bias, self.scale, window=WINDOW, q=Q, tile=(1, 2, 5, 2)
        )  # fmt: skip
        if host:
            builder.host(host, ["hidden"], ["looked"])
        middle = builder.tensor("middle", out)
        builder.lookup(looked, middle, self.table, (1, 2, 5, 4))
        builder.move(middle, y, (1, 4, 5, 4))
        builder.input("image", "float32", "x_q")
        builder.output("scores", "float32", "y_q")
        self.program = builder.build()

    def hidden(self, level: Level) -> Array:
        x = quantized(self.x, X_SCALE, 100, "uint8").transpose(0, 2, 3, 1)
        sums = definition.convolution(x, self.weights, WINDOW, 1, Q, level.alpha, level.beta)
        return definition.requantize(sums, self.bias, self.scale, Q).transpose(0, 3, 1, 2)

    def scores(self, level: Level) -> Array:
        steps = self.table[self.hidden(level)].astype(np.int32) - 20
        return steps.astype(np.float32) * np.float32(Y_SCALE)


def ort(model: onnx.ModelProto, inputs: dict[str, Array]) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, inputs)[0]
    return result


Value = tuple[str, int, list[int] | None]
"""Name, element type, shape."""


def one_node(op: str, inputs: list[Value], output: Value) -> onnx.ModelProto:
    node = helper.make_node(op, [name for name, _, _ in inputs], [output[0]])
    values = [helper.make_tensor_value_info(*value) for value in inputs]
    graph = helper.make_graph([node], "one", values, [helper.make_tensor_value_info(*output)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def quantized(x: Array, scale: float, zero_point: int, dtype: str) -> Array:
    kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.INT8
    arguments: list[Value] = [("x", TensorProto.FLOAT, None), ("scale", TensorProto.FLOAT, []), ("zero", kind, [])]
    feeds = {"x": x, "scale": np.array(scale, np.float32), "zero": np.array(zero_point, dtype)}
    return ort(one_node("QuantizeLinear", arguments, ("y", kind, None)), feeds)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.fixture(scope="module")
def session(case: Case) -> Session:
    return Session(case.program, engine="reference")


@pytest.mark.parametrize(
    ("scale", "zero_point", "dtype"), [(0.05, 100, "uint8"), (0.3, -7, "int8"), (2**-3, 0, "int8")]
)
def test_quantize_and_dequantize_are_onnx(scale: float, zero_point: int, dtype: str) -> None:
    rng = np.random.default_rng(1)
    ties = (np.arange(-600, 600) / 2 * scale).astype(np.float32)
    wide = rng.normal(0, 60 * scale, 4000).astype(np.float32)
    x = np.concatenate([ties, wide, np.array([3e38, -3e38, np.inf, -np.inf, 1e-40, -0.0], np.float32)])
    q = quantize(x, scale, zero_point, dtype)
    np.testing.assert_array_equal(q, quantized(x, scale, zero_point, dtype))
    kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.INT8
    arguments: list[Value] = [("x", kind, None), ("scale", TensorProto.FLOAT, []), ("zero", kind, [])]
    feeds = {"x": q, "scale": np.array(scale, np.float32), "zero": np.array(zero_point, dtype)}
    expected = ort(one_node("DequantizeLinear", arguments, ("y", TensorProto.FLOAT, None)), feeds)
    np.testing.assert_array_equal(dequantize(q, scale, zero_point), expected)


def test_describes_ports_as_onnxruntime_does(session: Session) -> None:
    (given,), (result,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, given.type) == ("image", [1, 3, 4, 5], "tensor(float)")
    assert (result.name, result.shape, result.type) == ("scores", [1, 4, 4, 5], "tensor(float)")


def test_every_level_of_one_live_session(case: Case, session: Session) -> None:
    for number in (0, 2, 1, 0):
        (scores,) = session.run(["scores"], {"image": case.x}, level=number)
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(scores, case.scores(LEVELS[number]))
    assert not np.array_equal(case.scores(LEVELS[0]), case.scores(LEVELS[1]))


def test_level_by_index_name_or_object(case: Case, session: Session) -> None:
    one: list[Any] = [1, np.int64(1), "1", "8x2", Level(8, 2)]
    for level in one:
        np.testing.assert_array_equal(session.run(None, {"image": case.x}, level)[0], case.scores(LEVELS[1]))
    for top in (None, "full", FULL, 2):
        np.testing.assert_array_equal(session.run(None, {"image": case.x}, top)[0], case.scores(FULL))


def test_intermediate_tensors_by_name(case: Case, session: Session) -> None:
    plain = session.run(None, {"image": case.x})[0]
    hidden, scores, middle, x = session.run(["hidden", "scores", "middle", "x_q"], {"image": case.x})
    np.testing.assert_array_equal(hidden, case.hidden(FULL))
    np.testing.assert_array_equal(middle, case.table[hidden])
    np.testing.assert_array_equal(x, quantized(case.x, X_SCALE, 100, "uint8"))
    np.testing.assert_array_equal(scores, plain)


def test_an_input_whose_bytes_are_reused() -> None:
    builder = Builder(LEVELS)
    x, y = builder.tensor("x", SHAPE), builder.tensor("y", SHAPE)
    builder.move(x, y, SHAPE)
    builder.lookup(y, builder.tensor("z", SHAPE, base=x.base), np.arange(256)[::-1].astype(np.uint8), SHAPE)
    builder.input("in", "uint8", "x")
    builder.output("out", "uint8", "z")
    data = np.arange(60, dtype=np.uint8).reshape(1, 3, 4, 5)
    x_then, out = Session(builder.build(), engine="reference").run(["x", "out"], {"in": data})
    np.testing.assert_array_equal(x_then, data)
    np.testing.assert_array_equal(out, 255 - data)


def test_results_are_not_touched_by_later_runs(case: Case, session: Session) -> None:
    hidden, scores = session.run(["hidden", "scores"], {"image": case.x})
    copies = hidden.copy(), scores.copy()
    session.run(["hidden", "scores"], {"image": -case.x})
    np.testing.assert_array_equal(hidden, copies[0])
    np.testing.assert_array_equal(scores, copies[1])


def test_runs_a_file(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "net.mmac"
    save(case.program, path)
    for given in (path, str(path)):
        (scores,) = Session(given, engine="reference").run(None, {"image": case.x}, "8x2")
        np.testing.assert_array_equal(scores, case.scores(LEVELS[1]))


def test_integer_ports_are_taken_as_they_are(case: Case) -> None:
    builder = Builder(LEVELS)
    x, y = builder.tensor("x", SHAPE, "int8", scale=0.5, zero_point=3), builder.tensor("y", SHAPE, "int8")
    builder.move(x, y, SHAPE)
    builder.input("in", "int8", "x")
    builder.output("out", "int8", "y")
    data = np.arange(-30, 30, dtype=np.int8).reshape(1, 3, 4, 5)
    (out,) = Session(builder.build(), engine="reference").run(None, {"in": data})
    np.testing.assert_array_equal(out, data)


def test_one_input_feeds_several_tensors() -> None:
    builder = Builder(LEVELS)
    fine = builder.tensor("fine", SHAPE, scale=0.25, zero_point=10)
    coarse = builder.tensor("coarse", SHAPE, "int8", scale=1.0, zero_point=0)
    for source in (fine, coarse):
        dtype = builder.tensors[source.name].dtype
        builder.move(source, builder.tensor(f"{source.name}_copy", SHAPE, dtype), SHAPE)
        builder.output(source.name, dtype, f"{source.name}_copy")
    builder.input("x", "float32", "fine", "coarse")
    x = np.linspace(-3, 3, 60, dtype=np.float32).reshape(1, 3, 4, 5)
    results = Session(builder.build(), engine="reference").run(["fine", "coarse"], {"x": x})
    np.testing.assert_array_equal(results[0], quantized(x, 0.25, 10, "uint8"))
    np.testing.assert_array_equal(results[1], quantized(x, 1.0, 0, "int8"))


def at_most_200() -> bytes:
    """A host segment: looked = min(hidden, 200)."""
    dtype = TensorProto.UINT8
    node = helper.make_node("Min", ["hidden", "limit"], ["looked"])
    limit = helper.make_tensor("limit", dtype, [], [200])
    values = [helper.make_tensor_value_info(name, dtype, (1, 4, 4, 5)) for name in ("hidden", "looked")]
    graph = helper.make_graph([node], "host", values[:1], values[1:], [limit])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_host_segment_between_device_code() -> None:
    case = Case(at_most_200())
    session = Session(case.program, engine="reference")
    assert session.host_ms == [0, 0, 0]
    for level in (0, 2):
        looked, scores = session.run(["looked", "scores"], {"image": case.x}, level)
        expected = np.minimum(case.hidden(LEVELS[level]), 200)
        np.testing.assert_array_equal(looked, expected)
        steps = case.table[expected].astype(np.int32) - 20
        np.testing.assert_array_equal(scores, steps.astype(np.float32) * np.float32(Y_SCALE))
        assert session.host_ms[level] > 0
    assert [level.host_ms for level in session.report.levels] == [session.host_ms[0], 0, session.host_ms[2]]


def test_tensors_that_only_the_host_holds() -> None:
    """image → host (softmax) → scores, nothing on the device."""
    model = one_node("Softmax", [("image", TensorProto.FLOAT, [1, 8])], ("scores", TensorProto.FLOAT, [1, 8]))
    builder = Builder(LEVELS)
    for name in ("image", "scores"):
        builder.tensors[name] = TensorInfo(name, "float32", (1, 8))
    builder.host(model.SerializeToString(), ["image"], ["scores"])
    builder.input("image", "float32", "image")
    builder.output("scores", "float32", "scores")
    x = np.arange(8, dtype=np.float32).reshape(1, 8)
    (scores,) = Session(builder.build(), engine="reference").run(None, {"image": x})
    np.testing.assert_array_equal(scores, ort(model, {"image": x}))


def test_host_segment_that_lies_about_its_types() -> None:
    builder = Builder(LEVELS)
    builder.tensors = {n: TensorInfo(n, t, (1, 4, 4, 5)) for n, t in (("hidden", "uint8"), ("looked", "float32"))}
    builder.host(at_most_200(), ["hidden"], ["looked"])
    builder.input("hidden", "uint8", "hidden")
    builder.output("looked", "float32", "looked")
    session = Session(builder.build(), engine="reference")
    with pytest.raises(MalformedError, match=r"host segment 0: output looked is uint8\[1, 4, 4, 5\]; float32"):
        session.run(None, {"hidden": np.zeros((1, 4, 4, 5), np.uint8)})


def test_host_segment_that_is_no_model() -> None:
    builder = Builder(LEVELS)
    builder.tensors = {name: TensorInfo(name, "uint8", (2,)) for name in ("a", "b")}
    builder.host(b"\x08\x01garbage", ["a"], ["b"])
    builder.input("a", "uint8", "a")
    builder.output("b", "uint8", "b")
    session = Session(builder.build(), engine="reference")
    with pytest.raises(MalformedError, match="onnxruntime refuses it"):
        session.run(None, {"a": np.zeros(2, np.uint8)})


def float_image(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("inputs", "error", "text"),
    [
        ({}, UsageError, r"input 'image': missing; float32\[1, 3, 4, 5\]"),
        ({"imgae": float_image(1, 3, 4, 5)}, UsageError, r"input 'imgae': no such input; image; did you mean image\?"),
        ({"image": float_image(2, 3, 4, 5)}, MalformedError, r"shape \[2, 3, 4, 5\]; \[1, 3, 4, 5\]"),
        ({"image": np.zeros((1, 3, 4, 5))}, MalformedError, "dtype float64; float32"),
        ({"image": [[1.0]]}, MalformedError, "a list; a numpy array"),
        ({"image": np.full((1, 3, 4, 5), np.nan, np.float32)}, MalformedError, "contains NaN"),
    ],
)
def test_wrong_inputs(session: Session, inputs: dict[str, Array], error: type[MmacError], text: str) -> None:
    with pytest.raises(error, match=text):
        session.run(None, inputs)


@pytest.mark.parametrize("level", [3, -1, "9x2", "banana", Level(9, 2)])
def test_wrong_level(case: Case, session: Session, level: int | str | Level) -> None:
    with pytest.raises(UsageError, match="level"):
        session.run(None, {"image": case.x}, level)


def test_report_covers_every_level(session: Session) -> None:
    assert [level.level for level in session.report.levels] == ["2x1", "8x2", "full"]


def test_wrong_output_name(case: Case, session: Session) -> None:
    with pytest.raises(UsageError, match=r"output 'score': no such tensor; scores, x_q, .*; did you mean scores\?"):
        session.run(["score"], {"image": case.x})


def test_wrong_engine(case: Case) -> None:
    with pytest.raises(UsageError, match="engine 'quick': no such engine; cell, fast, reference"):
        Session(case.program, engine="quick")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MmacError, match=r"absent\.mmac"):
        Session(tmp_path / "absent.mmac")


def test_refuses_what_the_verifier_refuses(case: Case) -> None:
    with pytest.raises(VerificationError):
        Session(dataclasses.replace(case.program, code=case.program.code[:-1]), engine="reference")
    with pytest.raises(VerificationError):
        Session(
            dataclasses.replace(case.program, debug=(DebugEntry(0, 1, "n", "op", 0, ("nowhere",)),)), engine="reference"
        )


def test_runtime_needs_no_compiler_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, mmac.runtime\n"
        "assert not {'numpy', 'onnxruntime', 'onnx'} & set(sys.modules), 'heavy import'\n"
        "mmac.runtime.Session, mmac.runtime.estimate, mmac.runtime.load_target\n"
        "assert not [m for m in sys.modules if m.startswith(('mmac.compiler', 'onnx'))]\n"
        "assert not hasattr(mmac.runtime, 'nothing')\n"
    )
    path = f"{ROOT / 'isa'}:{ROOT / 'runtime'}"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": path}, cwd="/")
