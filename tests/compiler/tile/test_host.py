"""Host segments: what crosses their borders, and what onnxruntime cannot run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from mmac.compiler import Options, compile_model
from mmac.isa.errors import UnsupportedError
from mmac.isa.plan import FULL
from mmac.runtime import Session
from tests.compiler.graph.small import model, save


def results(proto: onnx.ModelProto, folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Those of the program at full budgets, and onnxruntime's."""
    path, given = save(proto, folder), _given(proto)
    calibration = {name: array[None] if not array.ndim else array for name, array in given.items()}
    program = compile_model(path, Options(levels=(FULL,), calibration=calibration)).program
    peer = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return Session(program).run(None, given), peer.run(None, given)


def _given(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Random numbers for each input."""
    rng, given = np.random.default_rng(3), {}
    for value in proto.graph.input:
        kind = value.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        given[value.name] = np.asarray(rng.standard_normal(shape), dtype)
    return given


@pytest.mark.parametrize("shape", ["", "[1]", "[5]", "[9]", "[2,3]"])
def test_scalars_and_short_vectors(tmp_path: Path, shape: str) -> None:
    proto = model(f"(float{shape} x) => (float{shape} y) {{ y = Relu (x) }}")
    for found, expected in zip(*results(proto, tmp_path), strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=np.abs(expected).max() / 60 + 1e-6)


def test_what_only_a_subgraph_reads_is_computed_before_it(tmp_path: Path) -> None:
    text = """(bool c, float[1,3,8,8] x) => (float[a,b,d,e] y) {
        r = Conv (x, w[4,3,3,3])
        s = Relu (r)
        y = If (c) <
            then_branch = t () => (float[1,4,6,6] t1) { t1 = CumSum (s, axis) },
            else_branch = f () => (float[1,4,6,6] f1) { f1 = Identity (s) }
        >
    }"""
    proto = model(text, axis=np.array(1, np.int64))
    (found,), (expected,) = results(proto, tmp_path)
    np.testing.assert_allclose(found, expected, atol=np.abs(expected).max() / 25)


@pytest.mark.parametrize(
    ("text", "opset"),
    [
        ("(float[4] x) => (float[4] y) { y = RandomUniformLike (x) }", 22),
        ("(int16[4] x) => (int16[4] y) { y = Max (x, x) }", 13),
    ],
)
def test_what_onnxruntime_has_no_kernel_for(tmp_path: Path, text: str, opset: int) -> None:
    with pytest.raises(UnsupportedError) as caught:
        compile_model(save(model(text, opset), tmp_path), Options(levels=(FULL,)))
    assert "onnxruntime refuses it: " in str(caught.value)
    assert str(caught.value).endswith("has kernels for; export the model at another opset, such as 17")


def test_sequences_stay_inside_a_segment(tmp_path: Path) -> None:
    text = "(float[6] x) => (float[2] y) { s = SplitToSequence (x, two) y = SequenceAt (s, one) }"
    proto = model(text, two=np.array(2, np.int64), one=np.array(1, np.int64))
    (found,), (expected,) = results(proto, tmp_path)
    np.testing.assert_array_equal(found, expected)


def test_a_sequence_cannot_pass_the_device(tmp_path: Path) -> None:
    """The condition of the If comes from a layer that reads what made the sequence."""
    text = """(float[1,3,8,8] x) => (float[a] y) {
        n = CumSum (x, one)
        s = SequenceConstruct (n, n)
        r = Conv (n, w[4,3,3,3])
        v = Relu (r)
        t = ReduceProd <keepdims=0> (v)
        u = Cast <to=7> (t)
        k = Mul (u, zero)
        m = SequenceAt (s, k)
        y = ReduceSum <keepdims=0> (m, axes)
    }"""
    proto = model(text, one=np.array(1, np.int64), zero=np.array(0, np.int64), axes=np.array([0, 1, 2], np.int64))
    with pytest.raises(UnsupportedError, match="value 's' between the device and onnxruntime: is a sequence; tensors"):
        results(proto, tmp_path)
