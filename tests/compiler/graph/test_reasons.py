"""What the machine cannot do says why, in words that name the limit; what nobody can do is an error."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from mmac.compiler.graph import REASON, UNIT, Budget, Fold, Partition, Quantize, Terms, run, session
from mmac.compiler.passes import MmacWarning
from mmac.isa.errors import UnsupportedError
from mmac.isa.plan import FULL
from tests.compiler.graph.small import Array, feeds, imported, model, original

F = np.float32


def image(body: str, opset: int = 17, **constants: Any) -> onnx.ModelProto:
    """A model on an image [1, 8, 6, 6] that begins with a convolution to `h`."""
    head = "(float[1,8,6,6] x) => (float[a,b,c,d] y) { h = Conv <kernel_shape=[1,1]> (x, w[8,8,1,1], w[8])"
    return model(f"{head}\n {body} }}", opset, **constants)


def volume(body: str, **constants: Any) -> onnx.ModelProto:
    """A model on a volume [1, 2, 4, 4, 4] that begins with a matrix product to `h`."""
    head = "(float[1,4,4,8] x) => (float[a,b,c,d,e] y) { m = MatMul (x, w[8,8]) h = Reshape (m, shape)"
    return model(f"{head}\n {body} }}", shape=np.array([1, 2, 4, 4, 4]), **constants)


REASONS: dict[str, tuple[onnx.ModelProto, str, str]] = {
    "windows that do not count what is beyond the padding": (
        image("y = AveragePool<kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1],ceil_mode=1,count_include_pad=1>(h)"),
        "AveragePool",
        "ceil_mode or auto_pad of this average pool",
    ),
    "windows beyond the edge": (
        image("y = MaxPool <kernel_shape=[1,1], strides=[4,4], ceil_mode=1> (h)"),
        "MaxPool",
        "ceil_mode or auto_pad of this max pool",
    ),
    "dilated average": (
        image("y = AveragePool <kernel_shape=[2,2], dilations=[2,2]> (h)", 19),
        "AveragePool",
        "dilated average pool",
    ),
    "average of a volume": (volume("y = AveragePool <kernel_shape=[2,2,2]> (h)"), "AveragePool", "pool over 3 axes"),
    "maximum of a volume": (volume("y = MaxPool <kernel_shape=[2,2,2]> (h)"), "MaxPool", "max pool over 3 axes"),
    "padding of a volume": (
        volume("y = Pad (h, p)", p=np.array([0, 0, 1, 0, 0, 0, 0, 0, 0, 0])),
        "Pad",
        "padding of more than four axes",
    ),
    "large window": (
        model("(float[1,1,257,256] x) => (float[a,b,c,d] y) { h = Conv (x, w[1,1,1,1]) y = GlobalAveragePool (h) }"),
        "AveragePool",
        "window of more than 65,535 values",
    ),
    "large maximum": (
        model("(float[1,1,257,256] x) => (float[a,b,c,d] y) { h = Conv (x, w[1,1,1,1]) y = GlobalMaxPool (h) }"),
        "MaxPool",
        "window of more than 65,535 values",
    ),
    "large kernel": (
        model("(float[1,33,64,64] x) => (float[a,b,c,d] y) { y = Conv (x, w[1,33,64,64]) }"),
        "Conv",
        "window of more than 131,072 values",
    ),
    "long kernel": (
        model("(float[1,1,4097] x) => (float[a,b,c] y) { y = Conv (x, w[1,1,4096]) }"),
        "Conv",
        "a kernel of 4096; the machine has up to 4095",
    ),
    "large stride": (
        model("(float[1,1,300,3] x) => (float[a,b,c,d] y) { y = Conv <strides=[256,1]> (x, w[1,1,2,2]) }"),
        "Conv",
        "a stride of 256; the machine has up to 255",
    ),
    "large dilation": (
        model("(float[1,1,300,3] x) => (float[a,b,c,d] y) { y = Conv <dilations=[256,1]> (x, w[1,1,2,2]) }"),
        "Conv",
        "a dilation of 256; the machine has up to 255",
    ),
    "large stride of a pool": (
        model(
            "(float[1,1,300,3] x) => (float[a,b,c,d] y) "
            "{ h = Conv (x, w[1,1,1,1]) y = MaxPool <kernel_shape=[2,2], strides=[256,1]> (h) }"
        ),
        "MaxPool",
        "a stride of 256; the machine has up to 255",
    ),
    "gemm of two tensors": (
        model("(float[3,5] x) => (float[a,b] y) { h = MatMul (x, w[5,5]) y = Gemm <transA=1> (h, h) }"),
        "Gemm",
        "the product of two run-time tensors",
    ),
    "product of a vector": (
        model("(float[5] x) => (float[a] y) { y = MatMul (x, w[5,3]) }"),
        "MatMul",
        "operand ranks 1 and 2",
    ),
    "concatenation with a constant": (
        image("y = Concat <axis=1> (h, c)", c=np.ones((1, 1, 6, 6), F)),
        "Concat",
        "concatenation with a constant",
    ),
    "indices": (
        model("(float[1,8,2,2] x) => (int64[a,b,c,d] y) { h = Conv (x, w[8,8,1,1]) y = ArgMax <axis=1> (h) }"),
        "ArgMax",
        "'y' is int64, not float",
    ),
    "no elements": (
        image("s = Slice (h, z, z, z)\n e = Exp (s)\n y = Concat <axis=0> (h, e)", z=np.array([0])),
        "Exp",
        "'s' has no elements",
    ),
}  # fmt: skip


def finish(state: ir.Model) -> ir.Model:
    for step in (Budget((FULL,)), Partition(), Terms()):
        state = step.apply(state)
    return state


def reason_of(state: ir.Model, op_type: str) -> str:
    node = next(node for node in state.graph if node.op_type == op_type and node.metadata_props[UNIT] == "host")
    return node.metadata_props[REASON]


@pytest.mark.parametrize("name", REASONS)
def test_host_with_a_reason(name: str, tmp_path: Path) -> None:
    proto, op_type, reason = REASONS[name]
    state = finish(Quantize(feeds(proto)).apply(Fold().apply(imported(proto, tmp_path))))
    assert reason in reason_of(state, op_type)
    for array, reference in zip(run(state, feeds(proto)).values(), original(proto, feeds(proto)), strict=True):
        if array.dtype == np.float32:
            np.testing.assert_allclose(array, reference, atol=0.06 * np.abs(reference).max())


def synthetic(proto: onnx.ModelProto, folder: Path) -> ir.Model:
    with pytest.warns(MmacWarning):
        return Quantize().apply(Fold().apply(imported(proto, folder)))


def test_shape_from_the_data(tmp_path: Path) -> None:
    text = """(float[1,8,6,6] x) => (float[a,b] y) {
        h = Conv (x, w[8,8,1,1])
        n = NonZero (h)
        f = Cast <to=1> (n)
        y = Exp (f)
    }"""
    state = finish(synthetic(model(text), tmp_path))
    assert "the shape of 'f' is not known before run time" in reason_of(state, "Exp")


def test_operator_of_another_domain(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> g (float[2,3] x) => (float[2,3] y) '
        "{ a = MatMul (x, w) y = ai.onnx.ml.Scaler <scale=[2.0], offset=[1.0]> (a) }"
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(3, dtype=F), "w"))
    assert "operator domain ai.onnx.ml" in reason_of(finish(synthetic(proto, tmp_path)), "Scaler")


QDQ = """(uint8[1,32] q) => (uint8[a,b] o) {{
    x = DequantizeLinear (q, scale, zero)
    k = DequantizeLinear {parameters}
    {bias}
    r = Gemm (x, k{last})
    o = QuantizeLinear (r, scale, zero)
}}"""

WEIGHTS: dict[str, tuple[str, str, int, dict[str, Array], str]] = {
    "blocks": (
        "<axis=0, block_size=16> (w8, blocks)", "", 21, {"blocks": np.full((2, 4), 0.1, F)}, "block-quantized weights",
    ),
    "sixteen bits": ("(w16, scale)", "", 21, {}, "weights are int16, not int8 or uint8"),
    "bias of eight bits": (
        "(w8, scale)", "b = DequantizeLinear (b8, scale)", 17, {}, "bias 'b' is not quantized to int32",
    ),
    "weights far from their zero point": ("(u8, scale, zero)", "", 17, {}, "reach -3…252, not -128…127"),
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTS)
def test_quantized_weights_that_do_not_fit(name: str, tmp_path: Path) -> None:
    parameters, bias, opset, more, reason = WEIGHTS[name]
    constants: dict[str, Any] = {
        "scale": F(0.1),
        "zero": np.uint8(3),
        "w8": np.ones((32, 4), np.int8),
        "w16": np.full((32, 4), 300, np.int16),
        "u8": np.tile(np.array([0, 255, 7, 9], np.uint8), (32, 1)),
        "b8": np.ones(4, np.int8),
        **more,
    }
    text = QDQ.format(parameters=parameters, bias=bias, last=", b" if bias else "")
    proto = model(text, opset, **{key: value for key, value in constants.items() if key in text})
    state = finish(Quantize().apply(Fold().apply(imported(proto, tmp_path))))
    assert reason in reason_of(state, "Gemm")


def test_bias_beyond_the_accumulator(tmp_path: Path) -> None:
    text = """(uint8[1,2] q) => (uint8[a,b] o) {
        x = DequantizeLinear (q, s, z)
        k = DequantizeLinear <axis=1> (w8, ws)
        r = Gemm (x, k, b)
        o = QuantizeLinear (r, s, z)
    }"""
    arrays = {"w8": np.ones((2, 3), np.int8), "ws": np.array([1, 1e-9, 1], F), "b": np.array([0, 50, 0], F)}
    proto = model(text, s=F(0.1), z=np.uint8(0), **arrays)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError) as info:
        Quantize().apply(Fold().apply(imported(proto, tmp_path)))
    assert "node 'gemm2', output channel 1: a bias of 50 is 5e+11 steps of the accumulator; within int32" in str(
        info.value
    )


def test_model_that_onnxruntime_refuses() -> None:
    node = ir.node("NoSuchOperator", [], outputs=[ir.Value(name="y", type=ir.TensorType(ir.DataType.FLOAT))], name="n")
    broken = ir.Model(ir.Graph([], [node.outputs[0]], nodes=[node], opset_imports={"": 17}, name="g"), ir_version=8)
    with pytest.raises(UnsupportedError, match=r"model 'g': onnxruntime refuses it: .*NoSuchOperator"):
        session(broken)


def test_sample_that_the_model_does_not_accept(tmp_path: Path) -> None:
    text = """(int64[1,2] x) => (float[a,b,c] y) {
        e = Gather (w[5,4], x)
        y = MatMul (e, w[4,3])
    }"""
    folded = Fold().apply(imported(model(text), tmp_path))
    with pytest.raises(
        UnsupportedError, match=r"calibration: onnxruntime fails on a sample: .*; give samples that the"
    ):
        Quantize({"x": np.array([[0, 9]])}).apply(folded)
    Quantize({"x": np.array([[0, 4]])}).apply(folded)
