"""Signal-to-noise ratio of each level: the figure itself, and that it is the program's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.compiler import Options, compile_model
from mmac.compiler.graph import Correct, noted_sqnr
from mmac.compiler.graph.level_constants import SCALE, to_metadata
from mmac.compiler.graph.quality import SQNR, sqnr_db
from mmac.compiler.stages import to_onnx
from mmac.isa.errors import UnsupportedError
from mmac.isa.plan import FULL, Level
from mmac.isa.program import Program
from mmac.runtime import Session
from tests.compiler import nets
from tests.compiler.graph.small import Array, model, samples, save, stages

LEVELS = (Level(4, 1), Level(8, 2), FULL)
TEXT = """(float[1,4,9,9] x) => (float[a,b] y, int64[a,c] k, float[1,12,7,7] r) {
    c = Conv (x, w[12,4,3,3], w[12])
    r = Relu (c)
    d = Conv (r, w[16,12,3,3], w[16])
    g = GlobalAveragePool (d)
    f = Flatten (g)
    y = MatMul (f, w[16,20])
    k = ArgMax <axis=1> (y)
}"""


def measured(program: Program, model: Path, feeds: list[dict[str, Array]]) -> list[float]:
    """The same by running program and model, all outputs of a run as one row of numbers."""
    peer = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    session = Session(program)

    def row(arrays: list[Array]) -> Array:
        return np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])

    expected = np.stack([row(peer.run(None, feed)) for feed in feeds])
    found = np.stack([[row(session.run(None, feed, level)) for feed in feeds] for level in range(len(LEVELS))])
    return list(10 * np.log10((expected**2).sum() / ((found - expected) ** 2).sum(axis=(1, 2))))


def single(data: dict[str, Array], count: int) -> list[dict[str, Array]]:
    """The first samples of a model whose batch is 1."""
    return [{name: array[i : i + 1] for name, array in data.items()} for i in range(count)]


@pytest.mark.parametrize(("correct", "used"), [(True, 16), (False, 4)])
def test_it_is_that_of_the_program(correct: bool, used: int, tmp_path: Path) -> None:
    proto = model(TEXT)
    path, data = save(proto, tmp_path), samples(proto, 20)
    program = compile_model(path, Options(LEVELS, calibration=data, correct=correct)).program
    found = [prediction.sqnr_db for prediction in program.predictions]
    assert found == pytest.approx(measured(program, path, single(data, used)), abs=0.006)
    assert found[0] != found[1] != found[2]


def test_a_quantized_model_is_compared_with_itself(tmp_path: Path) -> None:
    """Its integers are the program's where nothing is dropped."""
    proto = nets.build("residual")
    data = samples(proto, 3)
    path = tmp_path / "qdq.onnx"
    path.write_bytes(to_onnx(stages(proto, tmp_path)["quantize"]))
    program = compile_model(path, Options(LEVELS, calibration=data)).program
    low, middle, full = (prediction.sqnr_db or 0 for prediction in program.predictions)
    assert low < middle < full - 10


def test_without_data_nothing_is_known(tmp_path: Path) -> None:
    path = save(model(TEXT), tmp_path)
    with pytest.warns(UserWarning, match="no calibration data"):
        program = compile_model(path, Options(LEVELS)).program
    assert [prediction.sqnr_db for prediction in program.predictions] == [None] * 3


def test_constants_from_training_are_measured_too(tmp_path: Path) -> None:
    proto = model(TEXT)
    partitioned = stages(proto, tmp_path, LEVELS)["partition"]
    plain = Correct(samples(proto), fit=False).apply(partitioned)
    (layer,) = (node for node in partitioned.graph if node.name == "conv2")
    layer.metadata_props[SCALE] = to_metadata(np.full((3, 16), 1e-9, np.float32), SCALE)
    after = Correct(samples(proto)).apply(partitioned)
    assert layer.metadata_props[SCALE] == next(n for n in after.graph if n.name == "conv2").metadata_props[SCALE]
    assert all(own < other for own, other in zip(noted_sqnr(after), noted_sqnr(plain), strict=True))


def test_a_stage_that_does_not_know_its_original_has_none(tmp_path: Path) -> None:
    proto = model(TEXT)
    partitioned = stages(proto, tmp_path, LEVELS)["partition"]
    assert noted_sqnr(partitioned) == ()
    partitioned.graph.meta.clear()
    for fit in (False, True):
        assert SQNR not in Correct(samples(proto), fit).apply(partitioned).metadata_props


def test_a_sample_on_which_the_model_fails(tmp_path: Path) -> None:
    """A model with scales of its own first meets the samples here."""
    proto = model(
        """(float[1,8] x, int64 i) => (float[1,4] y, float[1] z) {
            m = MatMul (x, w[8,4])
            q = QuantizeLinear (m, scale, zero)
            y = DequantizeLinear (q, scale, zero)
            z = Gather <axis=1> (y, i)
        }""",
        scale=np.float32(0.1),
        zero=np.uint8(100),
    )
    data = {"x": samples_of_x(), "i": np.array([1, 9])}
    with pytest.raises(UnsupportedError, match="calibration: onnxruntime fails on a sample: "):
        compile_model(save(proto, tmp_path), Options(LEVELS, calibration=data))


def samples_of_x() -> Array:
    return np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)


# ----------------------------------------------------------------------------------------------------------- the figure


@given(seed=st.integers(0, 2**32 - 1), gain=st.sampled_from([1e-6, 1.0, 1e6]))
def test_the_figure(seed: int, gain: float) -> None:
    rng = np.random.default_rng(seed)
    wanted = {"a": rng.normal(0, gain, (3, 2, 5)), "b": rng.normal(0, gain, (3, 1))}
    noise = {name: rng.normal(0, gain * np.array([[1.0], [0.1]]), (2, array.size)) for name, array in wanted.items()}
    found = {name: [array + n.reshape(array.shape) for n in noise[name]] for name, array in wanted.items()}
    signal = sum(float((array**2).sum()) for array in wanted.values())
    expected = [10 * np.log10(signal / sum(float((noise[name][i] ** 2).sum()) for name in wanted)) for i in range(2)]
    samples = {name: list(array) for name, array in wanted.items()}
    assert sqnr_db(samples, found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("wanted", "found", "decibels"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0]], 200),
        ([[0.0, 0.0]], [[0.0, 0.0]], 200),
        ([[0.0, 0.0]], [[1.0, 0.0]], -200),
        ([[3.0, np.inf]], [[2.7, 5.0]], 20),
        ([[3.0, np.nan]], [[2.7, np.nan]], 20),
        ([[3.0, 1.0]], [[np.nan, 1.0]], -200),
        ([[3.0, 1.0]], [[np.inf, 1.0]], -200),
        ([[True, True]], [[True, False]], 10 * np.log10(2)),
        ([[3, 1]], [[3, 2]], 10),
        ([["a", "b"]], [["a", "c"]], 200),
    ],
)
def test_values_that_have_no_ratio(wanted: list[object], found: list[object], decibels: float) -> None:
    assert sqnr_db({"y": [np.array(wanted[0])]}, {"y": [np.array(found)]}) == pytest.approx([decibels])
