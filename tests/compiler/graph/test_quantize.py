"""Where conversions are put, what the parameters are, and what calibration does."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.compiler.graph import CALIBRATION, Fold, Quantize, run
from mmac.compiler.graph.constants import constant_of
from mmac.compiler.graph.qdq import Affine, compact_zero_points
from mmac.compiler.passes import MmacWarning
from mmac.isa.errors import MalformedError, UnsupportedError, UsageError
from mmac.isa.plan import MAX_BETA
from mmac.isa.terms import data_table
from tests.compiler.graph.small import Array, feeds, imported, model, original, samples

F = np.float32
NET = """(float[2,3,9,9] x) => (float[a,b] y) {
    c = Conv <pads=[1,1,1,1]> (x, w[8,3,3,3], w[8])
    r = Relu (c)
    p = MaxPool <kernel_shape=[3,3]> (r)
    s = Sigmoid (p)
    m = Mul (p, s)
    f = Flatten (m)
    g = MatMul (f, w[392,5])
    y = Add (g, w[5])
}"""


def quantized(
    proto: onnx.ModelProto, folder: Path, data: dict[str, Array] | None = None, method: str = "minmax"
) -> ir.Model:
    return Quantize(data or samples(proto), method).apply(Fold().apply(imported(proto, folder)))


def points(state: ir.Model) -> dict[str, tuple[float, int]]:
    """Scale and zero point of each value that is quantized at run time."""
    found = {}
    for node in state.graph:
        if node.op_type == "QuantizeLinear":
            scale, zero = (constant_of(v) for v in node.inputs[1:])
            assert node.inputs[0] is not None
            assert scale is not None
            assert zero is not None
            found[node.inputs[0].name or ""] = float(scale), int(zero)
    return found


def constants(state: ir.Model, op_type: str, index: int) -> list[Array]:
    """Integers, scale and so on behind operand `index` of the first node of `op_type`."""
    node = next(node for node in state.graph if node.op_type == op_type)
    dq = node.inputs[index].producer()  # type: ignore[union-attr]
    assert dq is not None
    return [array for v in dq.inputs if (array := constant_of(v)) is not None]


def test_conversions_stand_between_operations_only(tmp_path: Path) -> None:
    state = quantized(model(NET), tmp_path)
    assert list(points(state)) == ["x", "r", "p", "m", "f", "y_float"]
    assert state.graph.outputs[0].name == "y"
    assert state.metadata_props[CALIBRATION] == "data"


def test_pooling_and_layout_share_the_scale(tmp_path: Path) -> None:
    found = points(quantized(model(NET), tmp_path))
    assert found["r"] == found["p"]
    assert found["m"] == found["f"]
    assert found["r"] != found["m"]
    assert found["r"][1] == 0, "a ReLU begins at 0"


def test_concat_takes_the_union_of_the_ranges(tmp_path: Path) -> None:
    text = """(float[1,4,6,6] x) => (float[a,b,c,d] y) {
        a = Conv (x, w[4,4,1,1])
        b = Conv (x, w[4,4,1,1])
        t = Mul (b, ten)
        y = Concat <axis=1> (a, t)
    }"""
    proto = model(text, ten=F(10))
    found = points(quantized(proto, tmp_path))
    assert found["a"] == found["t"] == found["y_float"]


def test_minmax_covers_the_data_exactly(tmp_path: Path) -> None:
    proto = model("(float[1,64] x) => (float[a,b] y) { y = MatMul (x, w[64,4]) }")
    data = samples(proto, 20)
    scale, zero = points(quantized(proto, tmp_path, data))["x"]
    low, high = data["x"].min(), data["x"].max()
    assert scale == pytest.approx((high - low) / 255, rel=1e-6)
    assert zero == round(-low / scale)


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_histogram_methods_cut_outliers(tmp_path: Path, method: str) -> None:
    proto = model("(float[1,5000] x) => (float[a,b] y) { y = MatMul (x, w[5000,4]) }")
    data = samples(proto, 50)
    data["x"][7, 3] = 20
    clipped = points(quantized(proto, tmp_path, data, method))["x"][0]
    assert clipped < 0.9 * points(quantized(proto, tmp_path, data))["x"][0]


def test_histogram_equals_onnxruntimes_calibrator(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The same collector through onnxruntime's front door: `create_calibrator`."""
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    proto = model("(float[1,500] x) => (float[a,b] y) { c = MatMul (x, w[500,40]) y = Tanh (c) }")
    data = samples(proto, 12)
    found = points(quantized(proto, tmp_path, data, "entropy"))
    onnx.save(proto, tmp_path / "float.onnx")
    calibrator = create_calibrator(
        tmp_path / "float.onnx",
        augmented_model_path=str(tmp_path / "augmented.onnx"),
        calibrate_method=CalibrationMethod.Entropy,
    )

    class Reader:
        def __init__(self) -> None:
            self.rows = iter(data["x"])

        def get_next(self) -> dict[str, Array] | None:
            row = next(self.rows, None)
            return None if row is None else {"x": row[None]}

    for row in data["x"]:  # one sample at a time, as mmac feeds it
        reader = Reader()
        reader.rows = iter([row])
        calibrator.collect_data(reader)
    ranges = calibrator.compute_data()
    for name in ("x", "c"):
        low, high = (float(edge) for edge in ranges[name].range_value)
        assert found[name][0] == pytest.approx(Affine.from_range(low, high).scale, rel=1e-6)
    assert "Collecting" in capfd.readouterr().out, "onnxruntime prints, mmac does not"


def test_calibration_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quantized(model(NET), tmp_path, method="entropy")
    assert capfd.readouterr() == ("", "")


def test_weights_are_symmetric_per_output_channel(tmp_path: Path) -> None:
    proto = model(NET)
    state = quantized(proto, tmp_path)
    integers, scale, zero = constants(state, "Conv", 1)
    weights = onnx.numpy_helper.to_array(proto.graph.initializer[0])
    assert integers.dtype == np.int8
    assert not zero.any()
    np.testing.assert_array_equal(np.abs(integers).max(axis=(1, 2, 3)), 127)
    np.testing.assert_allclose(scale, np.abs(weights).max(axis=(1, 2, 3)) / 127, rtol=1e-6)
    assert np.abs(integers * scale.reshape(-1, 1, 1, 1) - weights).max() <= scale.max() / 2 * 1.001


def test_bias_is_in_steps_of_both_scales(tmp_path: Path) -> None:
    state = quantized(model(NET), tmp_path)
    bias, bias_scale = constants(state, "Conv", 2)
    assert bias.dtype == np.int32
    np.testing.assert_array_equal(bias_scale, F(points(state)["x"][0]) * constants(state, "Conv", 1)[1])


def test_tiny_channel_with_a_large_bias(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((16, 4)).astype(F)
    weights[:, 1], weights[:, 2] = 1e-12, 0
    proto = model(
        "(float[1,16] x) => (float[a,b] y) { m = MatMul (x, k) y = Add (m, c) }",
        k=weights,
        c=np.array([1, 5, -7, 0], F),
    )
    state = quantized(proto, tmp_path)
    np.testing.assert_allclose(run(state, feeds(proto))["y"], original(proto, feeds(proto))[0], atol=0.1)


def test_degenerate_ranges(tmp_path: Path) -> None:
    proto = model("(float[1,4] x) => (float[a,b] y) { m = MatMul (x, k) y = Relu (m) }", k=np.zeros((4, 3), F))
    state = quantized(proto, tmp_path, {"x": np.zeros((3, 4), F)})
    assert all(scale > 0 for scale, _ in points(state).values())
    np.testing.assert_array_equal(run(state, {"x": np.ones((1, 4), F)})["y"], 0)


@pytest.mark.parametrize(("low", "high"), [(-1, 3), (0, 6), (2, 5), (-4, -2), (0, 0), (-1e-38, 1e-38), (-1, np.inf)])
def test_affine_represents_zero(low: float, high: float) -> None:
    affine = Affine.from_range(low, high)
    assert affine.scale > 0
    assert 0 <= affine.zero_point <= 255
    assert affine.quantize(np.zeros(1, F))[0] == affine.zero_point


@given(
    low=st.floats(-1e4, -1e-4),
    high=st.floats(1e-4, 1e4),
    beta=st.integers(2, MAX_BETA),
)
def test_truncated_data_fit_a_byte_where_that_is_cheap(low: float, high: float, beta: int) -> None:
    exact, affine = Affine.from_range(low, high), Affine.for_terms(low, high)
    table = data_table(affine.zero_point, signed=False, beta=beta)
    assert np.ptp(table) <= 255 or affine == exact
    assert exact.scale * 0.999 <= affine.scale <= exact.scale * 1.051
    # as from_range: at most half a step is cut off
    assert -low <= (affine.zero_point + 0.5001) * affine.scale
    assert high <= (255.5001 - affine.zero_point) * affine.scale


def test_compact_zero_points_are_all() -> None:
    def fits(zero: int) -> bool:
        tables = [data_table(zero, signed=False, beta=beta) for beta in range(2, MAX_BETA + 1)]
        return all(table.max() - table.min() <= 255 for table in tables)

    assert compact_zero_points().tolist() == [zero for zero in range(256) if fits(zero)]
    assert {0, 128, 255} <= set(compact_zero_points().tolist())


def test_only_data_that_are_truncated_get_compact_zero_points(tmp_path: Path) -> None:
    """Not the model's inputs, nor what no array layer reads."""
    half = np.eye(16, dtype=F) * F(0.5)
    proto = model("(float[1,16] x) => (float[a,b] y) { m = MatMul (x, k) y = MatMul (m, k) }", k=half)
    data = {"x": np.linspace(-120, 135, 16, dtype=F)[None]}
    zeros = {name: zero for name, (_, zero) in points(quantized(proto, tmp_path, data)).items()}
    assert zeros == {"x": 120, "m": 122, "y_float": 120}


def test_values_that_no_scale_can_hold(tmp_path: Path) -> None:
    proto = model("(float[1,16] x) => (float[a,b] y) { m = MatMul (x, w[16,16]) y = Exp (m) }")
    with pytest.raises(MalformedError, match=r"calibration of 'm': values from .* to .*; finite values up to 1e\+35"):
        quantized(proto, tmp_path, {"x": np.full((2, 16), 1e36, F)})


def test_synthetic_data_warn_and_are_repeatable(tmp_path: Path) -> None:
    folded = Fold().apply(imported(model(NET), tmp_path))
    states = []
    for _ in range(2):
        with pytest.warns(MmacWarning, match="no calibration data"):
            states.append(Quantize().apply(folded))
    assert states[0].metadata_props[CALIBRATION] == "synthetic"
    assert points(states[0]) == points(states[1])


def test_argument_is_left_alone(tmp_path: Path) -> None:
    folded = Fold().apply(imported(model(NET), tmp_path))
    before = str(folded)
    Quantize(samples(model(NET))).apply(folded)
    assert str(folded) == before


# ------------------------------------------------------------------------------------------- wrong calibration data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"z": np.zeros((2, 3, 9, 9), F)}, "no array for input 'x' among 'z'; an array [samples, …] for each of 'x'"),
        ({"x": np.zeros((2, 3, 9, 8), F)}, "'x': samples of shape [3, 9, 8]; [3, 9, 9]"),
        ({"x": np.zeros((2, 3, 9, 9))}, "'x': type float64; float32"),
        ({"x": np.zeros((1, 3, 9, 9), F)}, "1 samples; at least the model's batch of 2"),
        ({"x": np.full((2, 3, 9, 9), np.nan, F)}, "'x': NaN or infinite values"),
        ({"x": np.float32(3)}, "'x': a single number; an array of samples"),
    ],
)
def test_wrong_data(tmp_path: Path, data: dict[str, Array], message: str) -> None:
    with pytest.raises(MalformedError) as info:
        quantized(model(NET), tmp_path, data)
    assert message in str(info.value)


TWO_INPUTS = """(float[5,1,4] sequence, float[1,4] state, float gain) => (float[a,b,c] y) {
    p = MatMul (sequence, w[4,4])
    q = MatMul (state, w[4,4])
    s = Add (p, q)
    y = Mul (s, gain)
}"""


def test_inputs_of_different_batches(tmp_path: Path) -> None:
    """Each array is cut by axis 0 of its own input; a scalar has one number per sample."""
    rng = np.random.default_rng(0)
    sizes = {"sequence": (3 * 5, 1, 4), "state": (3, 4), "gain": (3,)}
    data = {name: rng.standard_normal(size).astype(F) for name, size in sizes.items()}
    found = points(quantized(model(TWO_INPUTS), tmp_path, data))
    for name in ("sequence", "state"):
        assert found[name][0] == F((data[name].max() - data[name].min()) / 255)
    data["state"] = data["state"][:2]
    with pytest.raises(MalformedError, match=r"different numbers of samples: .*'sequence': 3, 'state': 2"):
        quantized(model(TWO_INPUTS), tmp_path, data)


def test_unknown_method(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="calibration method 'magic': no such method; minmax, entropy, percentile"):
        quantized(model(NET), tmp_path, method="magic")


# ---------------------------------------------------------------------------------------------------------- overflow


def overflowing(bias: int, weight: int, y_scale: float, rows: int = 8) -> onnx.ModelProto:
    """A QDQ MatMul with two channels: an ordinary one, and one with this bias and weight."""
    text = """(float[1,8] x) => (float[a,b] y) {
        q = QuantizeLinear (x, s, z)
        d = DequantizeLinear (q, s, z)
        wd = DequantizeLinear <axis=1> (w8, ws)
        bd = DequantizeLinear <axis=0> (b32, bs)
        m = MatMul (d, wd)
        a = Add (m, bd)
        r = Relu (a)
        o = QuantizeLinear (r, t, z)
        y = DequantizeLinear (o, t, z)
    }""".replace("[1,8]", f"[1,{rows}]")
    weights = np.stack([np.full(rows, 3, np.int8), np.full(rows, weight, np.int8)], axis=1)
    scales = np.array([0.01, 1e-9], F)
    return model(
        text,
        s=F(0.02),
        z=np.uint8(128),
        w8=weights,
        ws=scales,
        b32=np.array([5, bias], np.int32),
        bs=scales * F(0.02),
        t=F(y_scale),
    )


def test_saturated_bias_of_a_dead_channel_is_made_safe(tmp_path: Path) -> None:
    """onnxruntime's quantizer gives channels without weights a bias next to −2^31."""
    proto = overflowing(-(2**31) + 3, 100, 0.05)
    state = Quantize().apply(Fold().apply(imported(proto, tmp_path)))
    assert not constants(state, "MatMul", 1)[0][:, 1].any()
    assert constants(state, "MatMul", 1)[0][:, 0].all()
    np.testing.assert_array_equal(run(state, feeds(proto))["y"], original(proto, feeds(proto))[0])


def test_sum_that_could_overflow_is_refused(tmp_path: Path) -> None:
    folded = Fold().apply(imported(overflowing(2**31 - 100, 100, (2**31 - 100) * 2e-11 / 100.5), tmp_path))
    with pytest.raises(
        UnsupportedError, match=r"node 'matmul4', output channel 1: its sum can reach \d+; less than 2\^31"
    ):
        Quantize().apply(folded)


def test_long_reduction_is_refused(tmp_path: Path) -> None:
    proto = overflowing(0, 127, 0.05, rows=2**31 // (128 * 128) + 1)
    with pytest.raises(UnsupportedError, match="output channel 1"):
        Quantize().apply(Fold().apply(imported(proto, tmp_path)))
