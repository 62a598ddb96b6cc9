"""Figures against plain computations and other programs, layers that go wrong, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from mmac.compiler import Options, compare, compile_model
from mmac.compiler.comparison import Comparison, LevelErrors, run
from mmac.compiler.comparison.errors import VARIANTS
from mmac.isa.errors import MalformedError, UsageError
from mmac.isa.plan import parse_levels
from mmac.isa.program import Program
from mmac.runtime import Session
from mmac.runtime.ports import dequantize
from tests.cli import conftest as cli
from tests.compiler import nets
from tests.compiler.comparison.damage import negated, scaled
from tests.compiler.graph.small import model
from tests.compiler.random_graphs import random_graph

LEVELS = "8x2,full"
NETS = ("residual", "branches", "squeeze", "sequence", "pad")

Arrays = dict[str, np.ndarray]


def samples(model: onnx.ModelProto, first: int, count: int) -> Arrays:
    feeds = [nets.inputs(model, seed) for seed in range(first, first + count)]
    return {name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]}


@dataclass(frozen=True)
class Case:
    """A network, its program (calibrated with `known`), and what there is to find with `fresh`."""

    path: Path
    model: onnx.ModelProto
    known: Arrays
    fresh: Arrays
    program: Program

    @cached_property
    def result(self) -> Comparison:
        return self.compare()

    def compare(self, program: Program | None = None, **options: Any) -> Comparison:
        return compare(self.path, program or self.program, self.fresh, **options)

    def compile(self, levels: str, **options: Any) -> Program:
        return compile_model(self.path, Options(parse_levels(levels), calibration=self.known, **options)).program


def make(name: str, folder: Path) -> Case:
    path = nets.save(name, folder)
    model = onnx.load(path)
    known, fresh = samples(model, 0, 8), samples(model, 8, 3)
    program = compile_model(path, Options(parse_levels(LEVELS), calibration=known)).program
    return Case(path, model, known, fresh, program)


@pytest.fixture(scope="module", params=NETS)
def case(request, tmp_path_factory):
    return make(request.param, tmp_path_factory.mktemp("nets"))


@pytest.fixture(scope="module")
def residual(tmp_path_factory):
    return make("residual", tmp_path_factory.mktemp("residual"))


def feeds(case: Case) -> list[Arrays]:
    batch = {value.name: value.type.tensor_type.shape.dim[0].dim_value for value in case.model.graph.input}
    count = len(next(iter(case.fresh.values()))) // next(iter(batch.values()))
    return [{name: a[i * batch[name] : (i + 1) * batch[name]] for name, a in case.fresh.items()} for i in range(count)]


def by_tensor(level: LevelErrors) -> dict[str, Any]:
    return {layer.tensor: layer for layer in level.layers}


def sqnr_db(reference: np.ndarray, found: np.ndarray) -> float:
    return 10 * math.log10(np.square(reference).sum() / np.square(found - reference).sum())


def test_figures_are_those_of_a_plain_computation(case):
    """The float model with every tensor an output, and every tensor of the program: then a few lines of numpy."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    known = {value.name for value in model.graph.output}
    made = [name for node in model.graph.node for name in node.output if name not in known]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    peer = ort.InferenceSession(model.SerializeToString())
    session = Session(case.program)
    result = case.result
    assert result.samples == 3
    assert len(result.levels) == 2
    for number, level in enumerate(result.levels):
        layers = [layer for layer in level.layers if layer.reference in {*made, *known}]
        assert len(layers) >= 4
        for layer in layers:
            info = case.program.tensor[layer.tensor]
            pairs = [
                (peer.run([layer.reference], feed)[0], session.run([layer.tensor], feed, level=number)[0])
                for feed in feeds(case)
            ]
            reference = np.stack([a for a, _ in pairs]).astype(np.float64)
            found = dequantize(np.stack([b for _, b in pairs]), info.scale, info.zero_point).astype(np.float64)
            assert layer.accumulated.sqnr_db == pytest.approx(sqnr_db(reference, found), abs=1e-3)
            cosine = (reference * found).sum() / np.linalg.norm(reference) / np.linalg.norm(found)
            assert layer.accumulated.cosine == pytest.approx(cosine, abs=1e-6)
            assert layer.accumulated.max_abs_error == pytest.approx(np.abs(found - reference).max(), rel=1e-4)
            assert layer.values == found.size
        (output,) = level.outputs
        reference = np.stack([peer.run(None, feed)[0] for feed in feeds(case)]).astype(np.float64)
        found = np.stack([session.run(None, feed, number)[0] for feed in feeds(case)]).astype(np.float64)
        assert output.errors.sqnr_db == pytest.approx(sqnr_db(reference, found), abs=1e-3)


def test_nothing_is_wrong_with_what_the_compiler_makes(case):
    result = case.result
    assert result.first_wrong is None
    assert all(layer.wrong_values == 0 for level in result.levels for layer in level.layers)


def test_the_parts_of_the_noise_add_up(case):
    for level in case.result.levels:
        for errors in [e for layer in level.layers for e in (layer.accumulated, layer.local)]:
            assert list(errors.noise) == list(errors.stages_db) == list(VARIANTS)
            assert errors.stages_db["constants"] == errors.sqnr_db
            running = np.cumsum(list(errors.noise.values()))
            for noise, stage in zip(running, errors.stages_db.values(), strict=True):
                assert noise == pytest.approx(0 if stage is None else 10 ** (-stage / 10), abs=1e-9)


def test_the_variants_are_programs_of_their_own(residual):
    """8 bits: the level `full`. Weight terms: no correction, all terms of data. Data terms: no correction."""
    low = by_tensor(residual.result.levels[0])
    others = {
        "calibration": (residual.program, 1),
        "weight_terms": (residual.compile("8x5", correct=False), 0),
        "data_terms": (residual.compile("8x2", correct=False), 0),
    }
    for name, (program, level) in others.items():
        other = by_tensor(residual.compare(program, levels=[level]).levels[0])
        assert other.keys() == low.keys()
        for tensor, layer in low.items():
            assert layer.accumulated.stages_db[name] == pytest.approx(other[tensor].accumulated.sqnr_db, abs=1e-6)
    assert len({round(db, 3) for db in low["e_quantized"].accumulated.stages_db.values()}) == 4


def test_local_errors_are_those_of_the_layer_alone(residual):
    """Of conv2: its float layer on the program's own data, written out."""
    session = Session(residual.program)
    level = residual.result.levels[0]
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in residual.model.graph.initializer}
    node = next(node for node in residual.model.graph.node if node.name == "conv2")
    noise, power = 0.0, 0.0
    for feed in feeds(residual):
        infos = [residual.program.tensor[name] for name in ("b_quantized", "d_quantized")]
        found = session.run([info.name for info in infos], feed, 0)
        b, d = (dequantize(q, info.scale, info.zero_point) for q, info in zip(found, infos, strict=True))
        padded = np.pad(b, ((0, 0), (0, 0), (1, 1), (1, 1)))
        w, bias = weights[node.input[1]], weights[node.input[2]]
        h, v = b.shape[2:]
        y = sum(padded[:, :, i : i + h, j : j + v] * w[:, 0, i, j][:, None, None] for i in range(3) for j in range(3))
        y = np.clip(y + bias[:, None, None], 0, 6).astype(np.float64)
        noise, power = noise + np.square(d - y).sum(), power + np.square(y).sum()
    assert by_tensor(level)["d_quantized"].local.sqnr_db == pytest.approx(10 * math.log10(power / noise), abs=1e-3)


def test_memory_bound_does_not_change_results(residual, monkeypatch):
    expected = residual.result.to_json()
    monkeypatch.setattr(run, "_MEMORY_BYTES", 1)  # one sample and one tensor at a time
    found = residual.compare().to_json()
    assert flat(found) == pytest.approx(flat(expected), rel=1e-5, abs=1e-7)


def flat(value: Any, path: str = "") -> dict[str, float]:
    if isinstance(value, Mapping):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{path}/{key}").items()}
    if isinstance(value, list):
        return {k: v for key, item in enumerate(value) for k, v in flat(item, f"{path}/{key}").items()}
    return {path: value} if isinstance(value, int | float) else {}


def test_a_layer_with_other_weights_is_found_and_named(case):
    for layer in case.program.plan.layers:
        result = case.compare(negated(case.program, layer.name), levels=[0], samples=1)
        (level,) = result.levels
        assert [each.layer for each in level.layers if each.wrong_values] == [layer.name]
        at, first = result.first_wrong
        assert at is level
        assert first is level.first_wrong
        assert (first.layer, first.finding.kind) == (layer.name, "values")


def test_a_damaged_layer_stands_out_by_its_local_error(residual):
    found = residual.compare(negated(residual.program, "conv4"), levels=[1]).levels[0]
    (worst,) = found.worst(1)
    assert worst.layer == "conv4"
    others = [layer.local.sqnr_db for layer in found.layers if layer.layer != "conv4" and layer.local.sqnr_db]
    assert worst.local.sqnr_db < 5 < 20 < min(others)


@pytest.mark.parametrize("factor", [0.6, 1.5, 4])
@pytest.mark.parametrize("layer", ["conv0", "conv2", "conv4", "gemm8"])
def test_a_layer_with_other_scales_is_found_and_named(residual, layer, factor):
    result = residual.compare(scaled(residual.program, layer, factor))
    _, first = result.first_wrong
    assert (first.layer, first.finding.kind) == (layer, "constants")
    assert "with the model's own" in first.finding.text
    assert not any(each.wrong_values for level in result.levels for each in level.layers)


def test_ranges_that_do_not_fit_are_found(residual):
    small = {name: array / 100 for name, array in residual.known.items()}
    program = compile_model(residual.path, Options(parse_levels("full"), calibration=small)).program
    level, first = residual.compare(program).first_wrong
    assert first.finding.kind == "range"
    assert first.tensor == "x_quantized"
    assert first.accumulated.sqnr_db < 1
    assert level.first_wrong is first


def test_samples_and_levels_can_be_chosen(residual):
    seen = []
    result = residual.compare(levels=[1], samples=2, progress=lambda *args: seen.append(args))
    assert result.samples == 2
    assert [str(level.level) for level in result.levels] == ["full"]
    assert [number for _, number, _ in seen] == list(range(len(seen)))
    assert {count for *_, count in seen} == {len(seen)}
    assert seen[0][0] == "full x_QuantizeLinear"


class Reader(CalibrationDataReader):
    def __init__(self, data: Arrays) -> None:
        self._rows = iter([{name: a[i : i + 1] for name, a in data.items()} for i in range(4)])

    def get_next(self) -> Arrays | None:
        return next(self._rows, None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_quantized_model_is_its_own_reference(residual, tmp_path):
    path = tmp_path / "qdq.onnx"
    quantize_static(
        str(residual.path), str(path), Reader(residual.known), per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    program = compile_model(path, Options(parse_levels("8x2,full"), calibration=residual.known)).program
    low, full = compare(path, program, residual.fresh).levels
    arrays = [layer for layer in full.layers if layer.op in ("Conv", "MatMul")]
    assert len(arrays) == 4
    # the array gives onnxruntime's integers; its vector operations may be a step apart
    assert all(layer.local.sqnr_db is None for layer in arrays)
    assert not any(layer.wrong_values for layer in full.layers)
    assert full.outputs[0].errors.sqnr_db is None or full.outputs[0].errors.sqnr_db > 40
    assert low.outputs[0].errors.sqnr_db < 35
    broken = compare(path, negated(program, arrays[1].layer), residual.fresh)
    assert broken.first_wrong[1].layer == arrays[1].layer


def test_host_segments_and_symbolic_dimensions(tmp_path):
    """A Softmax on the host, and a batch that was bound to 2."""
    path = tmp_path / "net.onnx"
    onnx.save(cli.net(), path)
    data = {"image": cli.images(6)}
    program = compile_model(path, Options(parse_levels("8x2,full"), calibration=data, dims={"batch": 2})).program
    result = compare(path, program, data)
    assert result.samples == 3
    assert result.first_wrong is None
    assert result.levels[0].layers[0].values == 6 * 3 * 8 * 8
    assert [output.output for output in result.levels[0].outputs] == ["scores"]
    assert result.levels[1].outputs[0].errors.sqnr_db > 30
    wrong = compare(path, negated(program, "conv2"), data)
    assert wrong.first_wrong[1].layer == "conv2"


@settings(max_examples=4)
@given(seed=st.integers(0, 10_000))
def test_any_graph_is_what_it_was_compiled_to(seed, tmp_path_factory):
    model = random_graph(seed)
    path = tmp_path_factory.mktemp("random") / "random.onnx"
    onnx.save(model, path)
    data = samples(model, 0, 2)
    program = compile_model(path, Options(parse_levels("8x2"), calibration=data)).program
    (level,) = compare(path, program, data).levels
    assert [layer.layer for layer in level.layers if layer.wrong_values] == []
    assert len(level.outputs) == len(model.graph.output)


def other_layer(program: Program) -> Program:
    layers = (replace(program.plan.layers[0], name="conv9"), *program.plan.layers[1:])
    return replace(program, plan=replace(program.plan, layers=layers))


def fewer_layers(program: Program) -> Program:
    return replace(program, plan=replace(program.plan, layers=program.plan.layers[:-1]))


def other_tensor(program: Program, **fields: Any) -> Program:
    tensors = tuple(replace(t, **fields) if t.name == "b_quantized" else t for t in program.tensors)
    return replace(program, tensors=tensors)


def other_port(program: Program, which: str, **fields: Any) -> Program:
    (port,) = getattr(program, which)
    changed: dict[str, Any] = {which: (replace(port, **fields),)}
    return replace(program, **changed)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda p: other_port(p, "inputs", name="z"), r"input 'x' is none in the program, float32\["),
        (lambda p: other_port(p, "inputs", shape=(1, 3, 1, 1)), r"input 'x' is float32\[1, 3, 1, 1\] in the program"),
        (lambda p: other_port(p, "outputs", name="z"), r"output 'y' is none in the program"),
        (other_layer, "budget of 'conv9': no array layer has such a name"),
        (fewer_layers, "array layer 'gemm8' is in one of them only"),
        (lambda p: other_tensor(p, shape=(1, 24, 1, 1)), r"tensor 'b_quantized' is uint8\[1, 24, 1, 1\] in"),
        (lambda p: other_tensor(p, name="q"), "the program has no tensor for 'b'"),
    ],
)
def test_a_program_of_another_model_is_refused(residual, change, text):
    with pytest.raises(MalformedError, match=f"not compiled from this model: {text}") as error:
        residual.compare(change(residual.program))
    assert str(residual.path) in str(error.value) or "model 'residual'" in str(error.value)
    assert "compile the model again" in str(error.value)


def test_a_model_with_other_weights_is_named_as_such(residual, tmp_path):
    """Nothing but its integers tells the program of a net from that of another one of the same form."""
    other = tmp_path / "residual.onnx"
    onnx.save(nets.build("residual", seed=5), other)
    _, first = compare(other, residual.program, residual.fresh).first_wrong
    assert (first.layer, first.finding.kind) == ("conv0", "values")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, "data: no array for input 'x' among none; an array"),
        ({"z": np.zeros((1, 3, 13, 11), np.float32)}, "data: no array for input 'x' among 'z'; an array"),
        ({"x": np.zeros((1, 3, 13, 12), np.float32)}, r"data 'x': samples of shape \[3, 13, 12\]; \[3, 13, 11\]"),
        ({"x": np.zeros((1, 3, 13, 11), np.float64)}, "data 'x': type float64; float32"),
        ({"x": np.zeros((0, 3, 13, 11), np.float32)}, "data 'x': 0 samples; at least the model's batch of 1"),
        ({"x": np.full((1, 3, 13, 11), np.nan, np.float32)}, "data 'x': NaN or infinite values; finite values"),
    ],
)
def test_bad_data_are_refused(residual, data, text):
    with pytest.raises(MalformedError, match=text):
        compare(residual.path, residual.program, data)


def test_groups_with_budgets_of_their_own_are_not_taken_for_damage(residual):
    """The budgets below the layer are those of the program's streams."""
    spent = {"#1..-2": {"alpha": [5, 14], "spend": "largest"}}
    result = residual.compare(residual.compile("8x2,20x3", budgets=spent))
    assert not any(layer.wrong_values for level in result.levels for layer in level.layers)


def test_a_reordered_program_is_refused(tmp_path):
    """Its tensors have their channels in another order than the model's."""
    text = """(float[1,16,6,6] x) => (float[1,16,6,6] y) {
        a = Conv (x, w[32,16,1,1])
        b = Conv (a, w[32,32,1,1])
        y = Conv (b, w[16,32,1,1])
    }"""
    path = tmp_path / "net.onnx"
    onnx.save(model(text), path)
    budgets = {"#1": {"alpha_of_channels": [4] * 16 + [9] * 16}}
    options = Options(budgets=budgets, reorder=True, calibration=nets.inputs(model(text)))
    program = compile_model(path, options).program
    with pytest.raises(UsageError, match="its channels were sorted, such as those of 'b_quantized_reordered'"):
        compare(path, program, {"x": np.zeros((1, 16, 6, 6), np.float32)})
