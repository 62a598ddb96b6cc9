"""The operators that mMAC has: one record each, which is the one place to touch for a new one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.constants import constant_of, is_constant
from mmac.compiler.graph.edit import attribute
from mmac.isa import table

Floats = npt.NDArray[np.float64]

_MAX_DIMS = 4
"""Dimensions of the addresses in an instruction."""

MAX_TAPS = 65535
"""Values in a window of a pool: their sum is exact in binary32, as 255 · 65,535 < 2^24."""

MAX_WINDOW = 1 << 17
"""Values in a window of a convolution, all channels: half of the activation scratchpad of the default target."""

Check = Callable[[ir.Node], str]
"""Why a node cannot be mapped (an empty string if it can)."""

_ARITHMETIC = (
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Min",
    "Max",
    "Neg",
    "Abs",
    "Sign",
    "Reciprocal",
    "Sqrt",
    "Exp",
    "Log",
)
_STEPS = ("Ceil", "Floor", "Round", "Relu", "Clip", "LeakyRelu", "PRelu", "ThresholdedRelu", "HardSigmoid", "HardSwish")
_SMOOTH = ("Sigmoid", "Tanh", "Erf", "Softplus", "Softsign", "Elu", "Celu", "Selu", "Gelu", "QuickGelu", "Mish")
_CURVES = ("Sin", "Cos", "Tan", "Atan", "Sinh", "Cosh", "Asinh", "Swish", "Shrink")
_CHOICES = ("Where", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Not", "And", "Or", "Cast")

UNARY = frozenset((*_ARITHMETIC, *_STEPS, *_SMOOTH, *_CURVES, *_CHOICES))
"""Operators that, on one tensor and scalar constants, are a function of each element: a 256-entry table."""


@dataclass(frozen=True)
class Operator:
    """One operation of the array, of the vector unit or of the layout of memory.

    Attributes:
        kind: op_type in the domain ``mmac``; for a layout operator the ONNX op_type.
        unit: ``array``, ``vector`` or ``layout``.
        core: ONNX op_types of its central node.
        roles: names of the run-time operands, in the order of the node's inputs.
        check: why a core node cannot be mapped.
        tail: whether Relu and Clip after it become its clamp.
        shares_scale: whether the output has the scale and zero point of the input.
    """

    kind: str
    unit: str
    core: frozenset[str]
    roles: tuple[str, ...]
    check: Check
    tail: bool = False
    shares_scale: bool = False


def _rank(value: ir.Value | None) -> int:
    shape = static_shape(value)
    return -1 if shape is None else len(shape)


def _check_window(node: ir.Node, kernel: Sequence[int], values: int, most: int) -> str:
    """Windows whose geometry fits the fields of the instruction `conv`, and which are not too large."""
    sizes = {"kernel": kernel, "stride": attribute(node, "strides", []), "dilation": attribute(node, "dilations", [])}
    for what, found in sizes.items():
        limit = table.Conv.layout[f"{what}_w"].maximum  # that of the height is as wide
        if max(found, default=1) > limit:
            return f"a {what} of {max(found)}; the machine has up to {limit}"
    return f"window of more than {most:,} values" if values > most else ""


def _check_pool(node: ir.Node) -> str:
    kernel = attribute(node, "kernel_shape", [])
    return _check_window(node, kernel, math.prod(kernel), MAX_TAPS)


def check_conv(node: ir.Node) -> str:
    """1-D and 2-D convolutions with constant weights."""
    if not all(is_constant(value) for value in node.inputs[1:] if value is not None):
        return "weights or bias are computed at run time"
    if _rank(node.inputs[0]) not in (3, 4):
        return f"{_rank(node.inputs[0]) - 2}-D convolution; the array has 1-D and 2-D ones"
    _, channels, *kernel = static_shape(node.inputs[1]) or (1, 1)
    taps = math.prod(kernel)
    return _check_window(node, kernel, taps * channels if taps > 1 else 1, MAX_WINDOW)  # 1 x 1 kernels can be cut


def check_matmul(node: ir.Node) -> str:
    """Products with a constant right-hand matrix [K, N]."""
    if is_constant(node.inputs[0]):
        return f"a constant of rank {_rank(node.inputs[0])} on the left; only a matrix can change sides"
    if not all(is_constant(value) for value in node.inputs[1:] if value is not None):
        return "the product of two run-time tensors"
    if _rank(node.inputs[1]) != 2 or _rank(node.inputs[0]) < 2:
        return f"operand ranks {_rank(node.inputs[0])} and {_rank(node.inputs[1])}; the weight must be a matrix"
    if node.op_type == "Gemm" and (
        attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1 or attribute(node, "transA", 0)
    ):
        return "alpha, beta or transA of the Gemm are not 1, 1, 0"
    return ""


def check_nothing(node: ir.Node) -> str:
    """Functions of one element fit as they are."""
    return ""


def check_average_pool(node: ir.Node) -> str:
    """Sums of windows, all of whose taps are known."""
    if attribute(node, "ceil_mode", 0) or attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return "ceil_mode or auto_pad of this average pool"
    if _rank(node.inputs[0]) not in (3, 4):
        return f"average pool over {_rank(node.inputs[0]) - 2} axes"
    if any(d != 1 for d in attribute(node, "dilations", [1])):
        return "dilated average pool"
    return _check_pool(node)


def check_max_pool(node: ir.Node) -> str:
    """Max pooling without the indices output."""
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        return "the indices of a max pool are used"
    if attribute(node, "ceil_mode", 0) or attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return "ceil_mode or auto_pad of this max pool"
    if _rank(node.inputs[0]) not in (3, 4):
        return f"max pool over {_rank(node.inputs[0]) - 2} axes"
    return _check_pool(node)


def check_layout(node: ir.Node) -> str:
    """Shape operators whose parameters are constants."""
    if not all(is_constant(value) for value in node.inputs[1:] if value is not None):
        return f"parameters of {node.op_type} are computed at run time"
    return ""


def check_slice(node: ir.Node) -> str:
    """Parts with constant bounds, taken forwards."""
    if reason := check_layout(node):
        return reason
    steps = constant_of(node.inputs[4]) if len(node.inputs) > 4 else None
    return "a slice with a negative step" if steps is not None and (steps < 0).any() else ""


def check_transpose(node: ir.Node) -> str:
    """Permutations of at most four blocks of axes that stay together: an address has four strides."""
    shape = static_shape(node.inputs[0]) or ()
    perm = [axis for axis in attribute(node, "perm", [*reversed(range(len(shape)))]) if shape[axis] != 1]
    place = {axis: position for position, axis in enumerate(sorted(perm))}
    blocks = 1 + sum(place[b] != place[a] + 1 for a, b in itertools.pairwise(perm))
    return "" if blocks <= _MAX_DIMS else f"a transpose that moves {blocks} blocks of axes; the machine has four"


def check_elementwise(node: ir.Node) -> str:
    """Two tensors that can be walked together in at most four loops, though one may be repeated along some axes."""
    shapes = [static_shape(value) or () for value in node.inputs[:2]]
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    # For each axis, which of the operands vary along it; equal neighbours merge into one loop.
    varying = [axis for axis in zip(*((n != 1 for n in shape) for shape in padded), strict=True) if any(axis)]
    loops = len(list(itertools.groupby(varying)))
    return "" if loops <= _MAX_DIMS else f"operands repeated in a pattern of {loops} loops; the machine has four"


def check_concat(node: ir.Node) -> str:
    """Concatenation of run-time tensors."""
    if any(is_constant(value) for value in node.inputs):
        return "concatenation with a constant"
    return ""


def check_resize(node: ir.Node) -> str:
    """Nearest resize that repeats each element a whole number of times along H and W."""
    if attribute(node, "mode", "nearest") != "nearest":
        return f"resize mode {attribute(node, 'mode', 'nearest')}; the vector unit has nearest"
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if before is None or after is None or any(b % a for a, b in zip(before, after, strict=True)):
        return "resize by a factor that is not a whole number"
    for size, big in zip(before, after, strict=True):
        if not np.array_equal(_nearest_indices(node, size, big), np.arange(big) * size // big):
            return "coordinate or rounding mode that does not repeat each element equally often"
    return ""


_ROUNDING: dict[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda position: np.ceil(position - 0.5),
    "round_prefer_ceil": lambda position: np.floor(position + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _nearest_indices(node: ir.Node, size: int, big: int) -> npt.NDArray[np.int64]:
    """Source index of each output of ONNX Resize in mode nearest along one axis (operator Resize-19)."""
    out = np.arange(big, dtype=np.float64)
    scale = big / size
    mode = attribute(node, "coordinate_transformation_mode", "half_pixel")
    if mode in ("half_pixel", "half_pixel_symmetric") or (mode == "pytorch_half_pixel" and big > 1):
        position = (out + 0.5) / scale - 0.5
    elif mode == "asymmetric" or size == big:
        position = out / scale
    elif mode == "align_corners":
        position = out * (size - 1) / (big - 1)
    else:
        return np.full(big, -1)
    rounding = _ROUNDING[attribute(node, "nearest_mode", "round_prefer_floor")]
    return np.clip(rounding(position), 0, size - 1).astype(np.int64)


def check_pad(node: ir.Node) -> str:
    """Padding with a constant by constant, non-negative amounts, of at most four axes."""
    if reason := check_layout(node):
        return reason
    pads, mode = constant_of(node.inputs[1]), attribute(node, "mode", "constant")
    if mode != "constant":
        return f"padding mode {mode}; the vector unit pads with constants"
    if pads is None or (pads < 0).any():
        return "negative padding"
    return "" if _rank(node.inputs[0]) <= _MAX_DIMS else "padding of more than four axes"


def _layout(op_type: str, check: Check = check_layout) -> Operator:
    return Operator(op_type, "layout", frozenset((op_type,)), ("x",), check, shares_scale=True)


OPERATORS: tuple[Operator, ...] = (
    Operator("Conv", "array", frozenset(("Conv",)), ("x",), check_conv, tail=True),
    Operator("MatMul", "array", frozenset(("MatMul", "Gemm")), ("x",), check_matmul, tail=True),
    Operator("Add", "vector", frozenset(("Add", "Sub")), ("a", "b"), check_elementwise, tail=True),
    Operator("Mul", "vector", frozenset(("Mul",)), ("a", "b"), check_elementwise, tail=True),
    Operator("AveragePool", "vector", frozenset(("AveragePool",)), ("x",), check_average_pool, tail=True),
    Operator("MaxPool", "vector", frozenset(("MaxPool",)), ("x",), check_max_pool, shares_scale=True),
    _layout("Reshape"),
    _layout("Flatten"),
    _layout("Squeeze"),
    _layout("Unsqueeze"),
    _layout("Transpose", check_transpose),
    _layout("Slice", check_slice),
    _layout("Split"),
    _layout("Concat", check_concat),
    _layout("Pad", check_pad),
    _layout("Resize", check_resize),
    _layout("DepthToSpace"),
    _layout("Identity"),
)

TABLE = Operator("Table", "vector", UNARY, ("x",), check_nothing)
"""Any function of one element; its core is a whole cluster, not one node."""

BY_OP_TYPE = {op_type: operator for operator in OPERATORS for op_type in operator.core}
SHARING = frozenset(op_type for operator in OPERATORS if operator.shares_scale for op_type in operator.core)
"""ONNX op_types whose result has the scale and zero point of their operands."""

BY_KIND = {operator.kind: operator for operator in (*OPERATORS, TABLE)}
