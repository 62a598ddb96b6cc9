"""Models that come quantized keep their scales, and at full budgets give onnxruntime's integers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from mmac.compiler.frontend import ImportModel
from mmac.compiler.graph import CALIBRATION, REASON, Budget, Fold, Partition, Quantize, Terms, run
from mmac.isa.plan import FULL
from tests.compiler.graph.small import Array, feeds, model, ops, samples, save

F = np.float32
NET = """(float[1,3,12,12] x) => (float[a,b] y) {
    c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w[16,3,3,3], w[16])
    r = Relu (c)
    d = Conv <kernel_shape=[3,3], pads=[1,1,1,1], group=16> (r, w[16,1,3,3], w[16])
    e = Clip (d, lo, hi)
    p = MaxPool <kernel_shape=[2,2], strides=[2,2]> (e)
    s = Sigmoid (p)
    f = Flatten (s)
    y = Gemm <transB=1> (f, w[10,144], w[10])
}"""


class Reader(CalibrationDataReader):
    def __init__(self, data: dict[str, Array]) -> None:
        self._rows = iter(data["x"])

    def get_next(self) -> dict[str, Array] | None:
        row = next(self._rows, None)
        return None if row is None else {"x": row[None]}


def quantized(folder: Path, **options: Any) -> Path:
    """The net, quantized by onnxruntime's own tool."""
    proto = model(NET, lo=F(0), hi=F(6))
    path = folder / "qdq.onnx"
    quantize_static(save(proto, folder), path, Reader(samples(proto, 8)), **options)
    return path


def final(path: Path) -> Any:
    state = ImportModel().apply(path)
    for step in (Fold(), Quantize(), Budget((FULL,)), Partition(), Terms()):
        state = step.apply(state)
    return state


def onnxruntimes(path: Path, inputs: dict[str, Array] | None = None) -> Array:
    """With the option that keeps u8s8 kernels from saturating on processors without VNNI."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    inputs = inputs or feeds(model(NET, lo=F(0), hi=F(6)))
    return np.asarray(ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, inputs)[0])


KINDS = ["Conv", "Conv", "MaxPool", "Table", "Flatten", "MatMul"]
VARIANTS = {
    "per channel": {"per_channel": True, "weight_type": QuantType.QInt8},
    "per tensor": {"weight_type": QuantType.QInt8},
    "unsigned weights": {"weight_type": QuantType.QUInt8, "extra_options": {"WeightSymmetric": True}},
    "symmetric": {"weight_type": QuantType.QInt8, "extra_options": {"ActivationSymmetric": True}},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_integers_equal_onnxruntimes(name: str, tmp_path: Path) -> None:
    options = {"activation_type": QuantType.QUInt8, "quant_format": QuantFormat.QDQ, **VARIANTS[name]}
    path = quantized(tmp_path, **options)
    state = final(path)
    apart = name == "symmetric"  # then a ReLU is not the same as a clamp at the zero point
    assert ops(state) == ([*KINDS[:1], "Table", *KINDS[1:2], "Table", *KINDS[2:]] if apart else KINDS)
    assert state.metadata_props[CALIBRATION] == "model"
    inputs = feeds(model(NET, lo=F(0), hi=F(6)))
    np.testing.assert_array_equal(run(state, inputs)["y"], onnxruntimes(path))


def test_signed_activations(tmp_path: Path) -> None:
    """onnxruntime runs these in float, so that a sum next to a rounding border may fall on the other side."""
    path = quantized(tmp_path, activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, per_channel=True)
    state = final(path)
    assert ops(state) == KINDS
    inputs = feeds(model(NET, lo=F(0), hi=F(6)))
    result, expected = run(state, inputs)["y"], onnxruntimes(path)
    step = float(next(v for n, v in state.graph.initializers.items() if n.endswith("y_scale")).const_value.numpy())
    assert np.abs(result - expected).max() <= step * 1.001


def test_sixteen_bit_activations_stay_with_the_host(tmp_path: Path) -> None:
    path = quantized(tmp_path, activation_type=QuantType.QUInt16, weight_type=QuantType.QInt8)
    state = final(path)
    reasons = {node.metadata_props[REASON] for node in state.graph if node.op_type == "Conv"}
    assert len(reasons) == 1
    assert "uint16" in reasons.pop()
    inputs = feeds(model(NET, lo=F(0), hi=F(6)))
    np.testing.assert_allclose(run(state, inputs)["y"], onnxruntimes(path), atol=1e-3)


# ------------------------------------------------------------------------------------------- hand-written QDQ models

HEAD = """(uint8[1,4,6,6] q) => ({result}) {{
    x = DequantizeLinear (q, s, z)
    k = DequantizeLinear <axis=0> (w8, ws)
    {body}
}}"""


def by_hand(body: str, result: str = "uint8[a,b,c,d] o", **more: Any) -> onnx.ModelProto:
    """A model on uint8 integers, with weights ``k`` and quantization parameters s, z and t, u."""
    rng = np.random.default_rng(6)
    constants: dict[str, Any] = {
        "s": F(0.05),
        "z": np.uint8(120),
        "w8": rng.integers(-127, 128, (4, 4, 1, 1)).astype(np.int8),
        "ws": rng.uniform(0.001, 0.01, 4).astype(F),
        "t": F(0.02),
        "u": np.uint8(131),
        **more,
    }
    return model(HEAD.format(body=body, result=result), **{k: v for k, v in constants.items() if k in body + "szw8ws"})


def check(proto: onnx.ModelProto, folder: Path, kinds: list[str]) -> Any:
    """The final model has these operators and, unless sums fall next to a border, the same integers."""
    state = final(save(proto, folder))
    assert ops(state) == kinds
    q = np.random.default_rng(8).integers(0, 256, (1, 4, 6, 6)).astype(np.uint8)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    expected = ort.InferenceSession(proto.SerializeToString(), options).run(None, {"q": q})[0]
    difference = np.abs(next(iter(run(state, {"q": q}).values())).astype(np.int64) - expected.astype(np.int64))
    assert difference.max() <= 1
    assert difference.mean() < 0.03
    return state


def test_integer_inputs_and_outputs(tmp_path: Path) -> None:
    state = check(by_hand("c = Conv (x, k) o = QuantizeLinear (c, t, u)"), tmp_path, ["Conv"])
    assert len(state.graph) == 1


def test_float_bias_is_quantized(tmp_path: Path) -> None:
    proto = by_hand("c = Conv (x, k, b) o = QuantizeLinear (c, t, u)", b=np.array([1, -2, 0.5, 0], F))
    check(proto, tmp_path, ["Conv"])


def test_bias_of_another_scale(tmp_path: Path) -> None:
    body = "b = DequantizeLinear (b32, bs) c = Conv (x, k, b) o = QuantizeLinear (c, t, u)"
    proto = by_hand(body, b32=np.array([100, -200, 50, 0], np.int32), bs=F(0.01))
    check(proto, tmp_path, ["Conv"])


def test_change_of_scale_is_a_table(tmp_path: Path) -> None:
    check(by_hand("o = QuantizeLinear (x, t, u)"), tmp_path, ["Table"])


def test_layout_without_conversion_after_it(tmp_path: Path) -> None:
    body = """k2 = DequantizeLinear (w2, s)
        r = Transpose <perm=[0,2,1,3]> (x)
        m = MaxPool <kernel_shape=[2,2]> (r)
        c = Conv (m, k2)
        o = QuantizeLinear (c, t, u)"""
    proto = by_hand(body, w2=np.random.default_rng(0).integers(-9, 9, (3, 6, 1, 1)).astype(np.int8))
    check(proto, tmp_path, ["Transpose", "MaxPool", "Conv"])


def test_layout_without_conversion_before_it(tmp_path: Path) -> None:
    body = "c = Conv (x, k) r = Transpose <perm=[0,2,3,1]> (c) f = Relu (r) o = QuantizeLinear (f, t, u)"
    state = final(save(by_hand(body), tmp_path))
    assert "Conv" in ops(state, "host"), "nobody knows the range between them"
    body = "c = Conv (x, k) f = Relu (c) r = Transpose <perm=[0,2,3,1]> (f) o = QuantizeLinear (r, t, u)"
    check(by_hand(body), tmp_path, ["Conv", "Transpose"])


def test_concat_of_unlike_scales_changes_them_first(tmp_path: Path) -> None:
    body = """c = Conv (x, k)
        n = QuantizeLinear (c, t, u)
        d = DequantizeLinear (n, t, u)
        j = Concat <axis=1> (x, d)
        o = QuantizeLinear (j, t, u)"""
    check(by_hand(body), tmp_path, ["Conv", "Table", "Concat"])


def test_padding_with_a_value_between_the_steps(tmp_path: Path) -> None:
    body = "p = Pad (x, n, v) o = QuantizeLinear (p, t, u)"
    proto = by_hand(body, n=np.array([0, 0, 1, 1, 0, 0, 1, 1]), v=F(0.111))
    check(proto, tmp_path, ["Table", "Pad"])


def test_quantized_scalars_of_a_chain(tmp_path: Path) -> None:
    body = """one = DequantizeLinear (c3, s, z)
        a = Add (x, one)
        r = Clip (a, zero, one)
        m = Mul (r, x)
        o = QuantizeLinear (m, t, u)"""
    check(by_hand(body, c3=np.uint8(180), zero=F(0)), tmp_path, ["Table"])


def test_quantized_bounds_of_a_clip(tmp_path: Path) -> None:
    body = """one = DequantizeLinear (c3, s, z)
        c = Conv (x, k)
        r = Clip (c, zero, one)
        o = QuantizeLinear (r, t, u)"""
    state = check(by_hand(body, c3=np.uint8(140), zero=F(0)), tmp_path, ["Conv"])
    attributes = state.graph[0].attributes
    assert (attributes["y_min"].as_int(), attributes["y_max"].as_int()) == (131, 131 + 50)


REFUSED = {
    "run-time result": (
        "c = Conv (x, k) o = QuantizeLinear (c, t, u) p = Exp (c)",
        "also used without being quantized",
    ),
    "float weights": ("c = Conv (x, w[4,4,1,1]) o = QuantizeLinear (c, t, u)", "weights 'weight6' are not quantized"),
    "scales along another axis": (
        "k2 = DequantizeLinear <axis=1> (w8, ws) c = Conv (x, k2) o = QuantizeLinear (c, t, u)",
        "along another axis",
    ),
    "no result": ("o = Conv (x, k)", "its result 'o' is not quantized"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(name: str, tmp_path: Path) -> None:
    body, reason = REFUSED[name]
    result = "uint8[a,b,c,d] o" + (", float[e,f,g,h] p" if name == "run-time result" else "")
    result = "float[a,b,c,d] o" if name == "no result" else result
    proto = by_hand(body, result)
    state = final(save(proto, tmp_path))
    conv = next(node for node in state.graph if node.op_type == "Conv")
    assert reason in conv.metadata_props[REASON]


# --------------------------------------------------------------------------------------------------------- QOperator


@pytest.mark.parametrize("weight_type", [QuantType.QInt8, QuantType.QUInt8])
def test_quantized_operators(tmp_path: Path, weight_type: QuantType) -> None:
    """Models of onnxruntime's older form: QLinearConv, QGemm, QLinearSigmoid …"""
    path = quantized(
        tmp_path,
        quant_format=QuantFormat.QOperator,
        activation_type=QuantType.QUInt8,
        weight_type=weight_type,
        per_channel=True,
        extra_options={"WeightSymmetric": True},
    )
    assert {"QLinearConv", "QLinearSigmoid", "QGemm"} <= {node.op_type for node in onnx.load(path).graph.node}
    state = final(path)
    assert ops(state) == KINDS
    inputs = feeds(model(NET, lo=F(0), hi=F(6)))
    np.testing.assert_array_equal(run(state, inputs)["y"], onnxruntimes(path))


def test_quantized_addition_pooling_and_concatenation(tmp_path: Path) -> None:
    text = """(float[1,3,8,8] x) => (float[a,b] y) {
        c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w[8,3,3,3], w[8])
        d = Conv <kernel_shape=[1,1]> (c, w[8,8,1,1], w[8])
        s = Add (c, d)
        l = LeakyRelu (s)
        m = Mul (l, d)
        k = Concat <axis=1> (m, d)
        a = AveragePool <kernel_shape=[2,2], strides=[2,2]> (k)
        g = GlobalAveragePool (a)
        f = Flatten (g)
        y = MatMul (f, w[16,5])
    }"""
    proto, path = model(text), tmp_path / "q.onnx"
    options = {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QUInt8}
    quantize_static(save(proto, tmp_path), path, Reader(samples(proto)), weight_type=QuantType.QInt8, **options)
    state = final(path)
    assert ops(state, "host") == []
    kinds = ["Conv", "Conv", "Add", "Table", "Mul", "Table", "Table", "Concat", "AveragePool", "AveragePool"]
    assert ops(state) == [*kinds, "Flatten", "MatMul"]
    exact = onnxruntimes(path, feeds(proto))
    # its additions and poolings are not rounded at defined places
    assert np.abs(run(state, feeds(proto))["y"] - exact).max() < 0.03 * np.abs(exact).max()
