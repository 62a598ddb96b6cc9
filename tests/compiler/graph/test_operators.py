"""Every operator that the machine has, from float to exact integers; and what is left to the host, with the reason."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from mmac.compiler.graph import REASON, UNIT, run
from mmac.isa.verify import verify
from mmac.runtime.targets import load_target
from tests.compiler.exact import back_end, front_end, wrong_tensors
from tests.compiler.graph import machine
from tests.compiler.graph.small import feeds, model, ops, original, stages

F = np.float32
I = np.int64  # noqa: E741

X = "(float[1,8,6,6] x) => (float[a,b,c,d] y)"
CONV = "h = Conv <kernel_shape=[1,1]> (x, w[8,8,1,1], w[8])"


def image(body: str, opset: int = 17, **constants: object) -> onnx.ModelProto:
    """A model on an image [1, 8, 6, 6] that begins with a convolution to `h`."""
    return model(f"{X} {{ {CONV}\n {body} }}", opset, **constants)  # type: ignore[arg-type]


def sequence(body: str, opset: int = 17, **constants: object) -> onnx.ModelProto:
    """A model on a sequence [2, 5, 12] that begins with a matrix product to `h`."""
    head = "(float[2,5,12] x) => (float[a,b,c] y) { h = MatMul (x, w[12,8])\n "
    return model(head + body + " }", opset, **constants)  # type: ignore[arg-type]


# the operators after the first convolution or product, in the order of the graph
MAPPED: dict[str, tuple[onnx.ModelProto, list[str]]] = {
    "relu": (image("y = Relu (h)"), []),
    "relu6": (image("y = Clip (h, lo, hi)", lo=F(0), hi=F(6)), []),
    "clip above": (image("y = Clip (h, , hi)", hi=F(0.5)), []),
    "clip of relu": (image("r = Relu (h)\n y = Clip (r, lo, hi)", lo=F(0.1), hi=F(1.5)), []),
    "depthwise": (image("y = Conv <kernel_shape=[3,3], group=8, pads=[1,1,1,1]> (h, w[8,1,3,3], w[8])"), ["Conv"]),
    "grouped": (image("y = Conv <group=2> (h, w[6,4,2,3])"), ["Conv"]),
    "multiplier": (image("y = Conv <group=8> (h, w[16,1,2,2])"), ["Conv"]),
    "dilated": (image("y = Conv <dilations=[2,1], strides=[1,2], pads=[2,0,1,1]> (h, w[6,8,3,2])"), ["Conv"]),
    "same lower": (image('y = Conv <auto_pad="SAME_LOWER", strides=[2,2]> (h, w[6,8,4,4])'), ["Conv"]),
    "valid": (image('y = Conv <auto_pad="VALID"> (h, w[6,8,4,4])'), ["Conv"]),
    "residual": (image("y = Add (h, x)"), ["Add"]),
    "difference": (image("d = Sub (h, x)\n y = Relu (d)"), ["Add"]),
    "three": (image("y = Sum (h, x, h)"), ["Add", "Add"]),
    "product": (image("y = Mul (h, x)"), ["Mul"]),
    "gate": (image("g = GlobalAveragePool (h)\n s = Sigmoid (g)\n y = Mul (h, s)"), ["AveragePool", "Table", "Mul"]),
    "offset map": (image("r = Relu (h)\n y = Add (r, c)", c=np.linspace(-1, 2, 36, dtype=F).reshape(6, 6)), ["Add"]),
    "factor map": (image("r = Relu (h)\n y = Mul (c, r)", c=np.linspace(-1, 2, 8, dtype=F).reshape(8, 1, 1)), ["Mul"]),
    "batch norm": (
        image(
            "r = Relu (h)\n y = BatchNormalization (r, g, g, m, g)", g=np.linspace(0.5, 1, 8, dtype=F), m=np.zeros(8, F)
        ),
        ["Mul", "Add"],
    ),
    "silu": (image("s = Sigmoid (h)\n y = Mul (h, s)"), ["Table"]),
    "hard swish": (image("y = HardSwish (h)"), ["Table"]),
    "hard swish spelt out": (
        image(
            "a = Add (h, three)\n c = Clip (a, zero, six)\n m = Mul (h, c)\n y = Div (m, six)",
            three=F(3),
            zero=F(0),
            six=F(6),
        ),
        ["Table"],
    ),
    "gelu": (
        image(
            "d = Div (h, r)\n e = Erf (d)\n a = Add (e, one)\n m = Mul (h, a)\n y = Mul (m, half)",
            r=F(np.sqrt(2)),
            one=F(1),
            half=F(0.5),
        ),
        ["Table"],
    ),
    "gelu operator": (image("y = Gelu (h)", 20), ["Table"]),
    "mish": (image("s = Softplus (h)\n t = Tanh (s)\n y = Mul (h, t)"), ["Table"]),
    "mish operator": (image("y = Mish (h)", 18), ["Table"]),
    "leaky relu": (image("y = LeakyRelu <alpha=0.2> (h)"), ["Table"]),
    "prelu": (image("y = PRelu (h, s)", s=np.full((8, 1, 1), 0.25, F)), ["Table"]),
    "elu": (image("y = Elu (h)"), ["Table"]),
    "square": (image("y = Mul (h, h)"), ["Table"]),
    "power": (image("a = Abs (h)\n y = Pow (a, e)", e=F(1.5)), ["Table"]),
    "from a scalar": (image("s = Sigmoid (h)\n y = Sub (one, s)", one=F(1)), ["Table"]),
    "scalars of several axes": (
        image("r = Sigmoid (h)\n y = Add (r, c)", c=np.full((1, 1, 1, 1), 0.5, F)),
        ["Table"],
    ),
    "max pool": (image("y = MaxPool <kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]> (h)"), ["MaxPool"]),
    "max pool up": (image("y = MaxPool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1> (h)"), ["MaxPool"]),
    "max pool dilated": (image("y = MaxPool <kernel_shape=[2,2], dilations=[2,3]> (h)"), ["MaxPool"]),
    "global max": (image("y = GlobalMaxPool (h)"), ["MaxPool"]),
    "average": (image("y = AveragePool <kernel_shape=[3,2], strides=[2,1], pads=[1,0,1,1]> (h)"), ["AveragePool"]),
    "average padded": (
        image("y = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1> (h)"),
        ["AveragePool"],
    ),
    "average up": (image("y = AveragePool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1> (h)"), ["AveragePool"]),
    "mean": (image("y = ReduceMean <axes=[-1,-2]> (h)"), ["AveragePool"]),
    "mean of rows": (image("y = ReduceMean <axes=[3]> (h)"), ["AveragePool"]),
    "largest of columns": (image("y = ReduceMax <axes=[2]> (h)"), ["MaxPool"]),
    "mean of 18": (image("y = ReduceMean (h, axes)", 18, axes=np.array([2, 3])), ["AveragePool"]),
    "concat": (image("r = Relu (h)\n y = Concat <axis=1> (r, h, x)"), ["Table", "Concat"]),
    "pad": (image("y = Pad (h, p)", p=np.array([0, 0, 1, 2, 0, 1, 0, 0])), ["Pad"]),
    "pad with value": (image("y = Pad (h, p, v)", p=np.array([0, 0, 1, 2, 0, 1, 0, 0]), v=F(0.7)), ["Pad"]),
    "resize": (
        image(
            'y = Resize <mode="nearest", coordinate_transformation_mode="half_pixel"> (h, , s)',
            s=np.array([1, 1, 2, 3], F),
        ),
        ["Resize"],
    ),
    "resize to size": (
        image(
            'y = Resize <mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"> (h, , , s)',
            s=np.array([1, 8, 24, 12]),
        ),
        ["Resize"],
    ),
    "slice": (
        image(
            "y = Slice (h, a, b, c, d)", a=np.array([1, 1]), b=np.array([6, 6]), c=np.array([2, 3]), d=np.array([3, 2])
        ),
        ["Slice"],
    ),
    "split": (
        image("a, b = Split <axis=1> (h, s)\n y = Concat <axis=1> (b, a)", s=np.array([3, 5])),
        ["Split", "Concat"],
    ),
    "channel shuffle": (
        image(
            "a = Reshape (h, f)\n b = Transpose <perm=[0,2,1,3,4]> (a)\n y = Reshape (b, g)",
            f=np.array([1, 2, 4, 6, 6]),
            g=np.array([1, 8, 6, 6]),
        ),
        ["Reshape", "Transpose", "Reshape"],
    ),
    "depth to space": (image('y = DepthToSpace <blocksize=2, mode="CRD"> (h)'), ["DepthToSpace"]),
    "squeeze": (
        image("a = GlobalAveragePool (h)\n b = Squeeze (a, two)\n y = Unsqueeze (b, two)", two=np.array([2])),
        ["AveragePool", "Squeeze", "Unsqueeze"],
    ),
    "conv 1-D": (sequence("y = Conv <kernel_shape=[3], pads=[1,1]> (h, w[4,5,3], w[4])"), ["Conv"]),
    "max pool 1-D": (sequence("y = MaxPool <kernel_shape=[3], strides=[2]> (h)"), ["MaxPool"]),
    "average pool 1-D": (sequence("y = AveragePool <kernel_shape=[2]> (h)"), ["AveragePool"]),
    "bias": (sequence("y = Add (h, w[8])"), []),
    "bias and clamp": (sequence("b = Add (w[8], h)\n y = Relu (b)"), []),
    "bias of one": (sequence("y = Add (h, c)", c=np.array([[0.5]], F)), []),
    "left matrix": (sequence("y = MatMul (w[3,5], h)"), ["Transpose", "MatMul", "Transpose"]),
    "flat batch": (sequence("y = MatMul (h, c)", c=np.linspace(-1, 1, 32, dtype=F).reshape(1, 8, 4)), ["MatMul"]),
}


@pytest.mark.parametrize("name", MAPPED)
def test_operator_becomes_exact_integers(name: str, tmp_path: Path) -> None:
    proto, expected = MAPPED[name]
    steps = stages(proto, tmp_path)
    final = steps["terms"]
    assert ops(final, "host") == []
    assert ops(final)[1:] == expected
    exact = machine.evaluate(final, feeds(proto))
    quantized = run(steps["quantize"], feeds(proto), optimize=False)
    partitioned = run(steps["partition"], feeds(proto), optimize=False)
    for (key, array), reference in zip(run(final, feeds(proto)).items(), original(proto, feeds(proto)), strict=True):
        np.testing.assert_array_equal(partitioned[key], quantized[key])
        np.testing.assert_array_equal(array, exact[key])
        np.testing.assert_allclose(array, reference, atol=0.06 * np.abs(reference).max())


HOSTED: dict[str, tuple[onnx.ModelProto, str, str]] = {
    "softmax": (image("y = Softmax (h)"), "Softmax", "neither the array nor the vector unit has Softmax"),
    "conv transpose": (image("y = ConvTranspose (h, w[8,4,2,2])"), "ConvTranspose", "has ConvTranspose"),
    "run-time product": (
        sequence("t = Transpose <perm=[0,2,1]> (h)\n y = MatMul (h, t)"),
        "MatMul",
        "two run-time tensors",
    ),
    "run-time weights": (
        image("s = Slice (h, a, b, c)\n y = Conv (x, s)", a=np.array([0]), b=np.array([3]), c=np.array([3])),
        "Conv",
        "computed at run time",
    ),
    "per-channel slope": (
        image("y = PRelu (h, s)", s=np.linspace(0, 1, 8, dtype=F).reshape(8, 1, 1)),
        "PRelu",
        "PRelu",
    ),
    "linear resize": (
        image('y = Resize <mode="linear"> (h, , s)', s=np.array([1, 1, 2, 2], F)),
        "Resize",
        "mode linear",
    ),
    "fractional resize": (
        image('y = Resize <mode="nearest"> (h, , s)', s=np.array([1, 1, 1.5, 2], F)),
        "Resize",
        "whole number",
    ),
    "uneven resize": (
        image(
            'y = Resize <mode="nearest", coordinate_transformation_mode="align_corners"> (h, , s)',
            s=np.array([1, 1, 3, 3], F),
        ),
        "Resize",
        "does not repeat",
    ),
    "sum": (image("y = ReduceSum <keepdims=1> (h, a)", a=np.array([1])), "ReduceSum", "ReduceSum"),
    "run-time division": (image("e = Exp (x)\n y = Div (h, e)"), "Div", "Div"),
    "reflection": (
        image('y = Pad <mode="reflect"> (h, p)', p=np.array([0, 0, 1, 2, 0, 0, 0, 0])),
        "Pad",
        "padding mode reflect",
    ),
    "reversal": (
        image("y = Slice (h, a, b, c, a)", a=np.array([-1]), b=np.array([-100]), c=np.array([2])),
        "Slice",
        "negative step",
    ),
    "woven axes": (
        image(
            "a = Reshape (h, f)\n b = Transpose <perm=[0,1,4,2,5,3]> (a)\n y = Reshape (b, g)",
            f=np.array([1, 2, 2, 2, 6, 6]),
            g=np.array([1, 2, 12, 12]),
        ),
        "Transpose",
        "moves 5 blocks",
    ),
    "woven operand": (
        image(
            "r = Relu (h)\n a = Reshape (r, f)\n e = Add (a, c)\n y = Reshape (e, g)",
            f=np.array([2, 4, 2, 3, 6]),
            g=np.array([1, 8, 6, 6]),
            c=np.linspace(-1, 1, 24, dtype=F).reshape(2, 1, 2, 1, 6),
        ),
        "Add",
        "pattern of 5 loops",
    ),
    "left constant": (sequence("y = MatMul (w[2,3,5], h)"), "MatMul", "a constant of rank 3 on the left"),
    "batched constant": (sequence("y = MatMul (h, w[2,8,3])"), "MatMul", "the weight must be a matrix"),
    "crop": (image("y = Pad (h, p)", p=np.array([0, 0, -1, 0, 0, 0, 0, 0])), "Pad", "negative padding"),
    "after the host": (image("s = Softmax (h)\n y = Add (s, h)"), "Add", "comes from the host"),
    "indices": (
        model("(float[1,2,4,4] x) => (float[a,b,c,d] y, int64[e,f,g,h] z) { y, z = MaxPool <kernel_shape=[2,2]> (x) }"),
        "MaxPool",
        "indices",
    ),
    "volume": (model("(float[1,2,4,4,4] x) => (float[a,b,c,d,e] y) { y = Conv (x, w[3,2,2,2,2]) }"), "Conv", "3-D"),
}


@pytest.mark.parametrize("name", HOSTED)
def test_the_rest_is_on_the_host_with_a_reason(name: str, tmp_path: Path) -> None:
    proto, op_type, reason = HOSTED[name]
    final = stages(proto, tmp_path)["terms"]
    node = next(node for node in final.graph if node.op_type == op_type and node.metadata_props[UNIT] == "host")
    assert reason in node.metadata_props[REASON]
    for array, reference in zip(run(final, feeds(proto)).values(), original(proto, feeds(proto)), strict=True):
        assert array.shape == reference.shape


def test_normalisation_stays_float(tmp_path: Path) -> None:
    """The mean that is subtracted is no pooling: eight bits would not do for it."""
    body = """m = ReduceMean <axes=[2]> (h)
        d = Sub (h, m)
        q = Mul (d, d)
        v = ReduceMean <axes=[2]> (q)
        e = Add (v, tiny)
        s = Sqrt (e)
        y = Div (d, s)"""
    final = stages(sequence(body, tiny=F(1e-5)), tmp_path)["terms"]
    assert ops(final, "vector") == []


def test_nothing_to_do_leaves_the_model_to_the_host(tmp_path: Path) -> None:
    proto = model("(float[2,3] x) => (float[a,b] y) { y = Softmax (x) }")
    final = stages(proto, tmp_path)["terms"]
    assert [node.op_type for node in final.graph] == ["Softmax"]
    np.testing.assert_array_equal(run(final, feeds(proto))["y"], original(proto, feeds(proto))[0])


def units(state: ir.Model) -> dict[str, str]:
    return {node.name or "": node.metadata_props[UNIT] for node in state.graph}


def test_conversions_at_the_border_are_io(tmp_path: Path) -> None:
    final = stages(image("y = Softmax (h)"), tmp_path)["terms"]
    assert list(units(final).values()) == ["io", "array", "host", "host"]
    assert list(units(stages(image("y = Relu (h)"), tmp_path)["terms"]).values()) == ["io", "array", "io"]


def test_a_conversion_that_the_host_reads_is_the_hosts(tmp_path: Path) -> None:
    """Though its result is an output of the model as well."""
    proto = model(f"(float[1,8,6,6] x) => (float[1,8,6,6] h, float[1,8,6,6] y) {{ {CONV}\n y = Softmax (h) }}")
    partitioned = front_end(proto, tmp_path)
    assert list(units(partitioned).values()) == ["io", "array", "host", "host"]
    program = back_end(partitioned, load_target("vc707"))
    verify(program)
    assert not wrong_tensors(partitioned, program, feeds(proto), [7])
