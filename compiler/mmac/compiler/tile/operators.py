"""How each operator of a partitioned graph lowers: array layers, vector operations, moves, and changes of layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmac.compiler.graph.group_budgets import limits_of
from mmac.compiler.graph.level_constants import BIAS, SCALE, from_metadata
from mmac.compiler.tile.graph_values import attribute, axis_of, constant_array, dtype_of, ints, shape_of
from mmac.compiler.tile.ir import ArrayLayer, Move, Quantization, VectorOp, View, Window
from mmac.compiler.tile.layout import Layout
from mmac.compiler.tile.lower import Lowering, lowers, slice_axis, strided
from mmac.isa.errors import UnsupportedError
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.program import PARAM_DTYPE

MMAC = "mmac"


def _int(node: ir.Node, name: str, default: int = 0) -> int:
    return int(attribute(node, name, default))  # type: ignore[call-overload, no-any-return]


def _float(node: ir.Node, name: str) -> float:
    return float(attribute(node, name))  # type: ignore[arg-type]


def _with_result(node: ir.Node, quantization: Quantization) -> Quantization:
    """Add the zero point and clamp of the output."""
    signed = dtype_of(node.outputs[0]) == "int8"
    return replace(
        quantization,
        y_zero=_int(node, "y_zero_point"),
        y_min=_int(node, "y_min", -128 if signed else 0),
        y_max=_int(node, "y_max", 127 if signed else 255),
        y_signed=signed,
    )


def _signed(value: ir.Value | None) -> bool:
    return value is not None and dtype_of(value) == "int8"


def _required(view: View | None, node: ir.Node) -> View:
    if view is None:
        raise UnsupportedError(f"node {node.name}", "an operand needs more than four dimensions")
    return view


def _image_axes(rank: int) -> list[tuple[int, ...]]:
    """Groups of ONNX axes (n, c, spatial…) in (n, h, w, c) order; a 1-D image has h = 1."""
    return [(0,), (2,) if rank == 4 else (), (rank - 1,), (1,)]


# -------------------------------------------------------------------------------------------------------------- array


@lowers("Conv", domain=MMAC)
def conv(lowering: Lowering, node: ir.Node) -> None:
    """1-D and 2-D convolution: weights [O, I/g, kh, kw] are flattened in (kh, kw, I/g) order."""
    weights = constant_array(node.inputs[2])
    groups = _image_axes(weights.ndim)
    window = _window(node, weights.shape[2:])
    flat = np.moveaxis(weights, 1, -1).reshape(len(weights), -1)
    _array(lowering, node, flat, groups, window, _int(node, "group", 1))


@lowers("MatMul", domain=MMAC)
def matmul(lowering: Lowering, node: ir.Node) -> None:
    """Product with a constant [K, N]: a 1 x 1 convolution whose pixels are the leading dimensions."""
    weights = constant_array(node.inputs[2])
    rank = len(shape_of(node.outputs[0]))
    lead: list[tuple[int, ...]] = [(axis,) for axis in range(rank - 1)]
    while len(lead) > 3:
        lead[:2] = [lead[0] + lead[1]]
    groups = [()] * (3 - len(lead)) + lead + [(rank - 1,)]
    _array(lowering, node, weights.T, groups, Window(), 1)


def _array(
    lowering: Lowering,
    node: ir.Node,
    weights: npt.NDArray[np.generic],
    axes: Sequence[Sequence[int]],
    window: Window,
    groups: int,
) -> None:
    name = node.name or ""
    x = node.inputs[0]
    out = lowering.home(node.outputs[0])
    layer = lowering.add_layer(node)
    lowering.data[f"{name}.weights"] = np.ascontiguousarray(weights.astype(np.int16))
    params_view = _params(lowering, node, len(weights))
    quantization = _with_result(node, Quantization(a_zero=_int(node, "x_zero_point"), a_signed=_signed(x)))
    limits = limits_of(node, len(lowering.levels), len(weights), -(-weights.shape[1] // GROUP_SIZE))
    if limits is not None:
        lowering.data[f"{name}.limits"] = limits
    lowering.operations.append(
        ArrayLayer(
            name,
            _required(lowering.layout(x).view(axes), node),
            _required(out.view(axes), node),
            window,
            groups,
            layer,
            f"{name}.weights",
            params_view,
            quantization,
            limits=None if limits is None else f"{name}.limits",
        )
    )
    lowering.define(node.outputs[0], out)


def _params(lowering: Lowering, node: ir.Node, channels: int) -> View:
    """Bias and scale of each channel, in as many rows as there are levels if they differ by level."""
    levels = len(lowering.levels)
    bias, scale = (from_metadata(node, key, levels, channels) for key in (BIAS, SCALE))
    params = np.zeros((1 if bias is None and scale is None else levels, channels), PARAM_DTYPE)
    params["bias"] = constant_array(node.inputs[3]) if bias is None else bias
    params["scale"] = constant_array(node.inputs[4]) if scale is None else scale
    name, item = f"{node.name}.params", PARAM_DTYPE.itemsize
    lowering.constant(name, params)
    row = channels * item
    return View(name, 0, (len(params), 1, 1, channels), (row, row, row, item), item)


def _window(node: ir.Node, kernel: Sequence[int]) -> Window:
    """Kernel, strides, dilations and leading pads of a 1-D or 2-D node."""
    rank = len(kernel)
    ones = (1,) * rank

    def pair(values: Sequence[int], missing: int) -> tuple[int, int]:
        first, second = (missing, *values) if rank == 1 else values
        return int(first), int(second)

    return Window(
        pair(kernel, 1),
        pair(ints(node, "strides", ones), 1),
        pair(ints(node, "dilations", ones), 1),
        pair(ints(node, "pads", (0,) * 2 * rank)[:rank], 0),
    )


# -------------------------------------------------------------------------------------------------------- vector unit


@lowers("Add", "Mul", domain=MMAC)
def elementwise(lowering: Lowering, node: ir.Node) -> None:
    """Add or multiply two tensors; the first operand of the instruction is never broadcast."""
    output = node.outputs[0]
    names = ["a", "b"]
    shape = shape_of(output)
    layouts = [lowering.layout(value) for value in node.inputs[:2]]
    if layouts[0].shape != shape and layouts[1].shape == shape:
        names.reverse()
        layouts.reverse()
    order = layouts[0].memory_order() if layouts[0].shape == shape else None
    out = lowering.home(output, order)
    y, a, b = lowering.views([out, *(layout.broadcast(shape) for layout in layouts)], node.name or "")
    first, second = (node.inputs[0], node.inputs[1]) if names[0] == "a" else (node.inputs[1], node.inputs[0])
    add = node.op_type == "Add"
    quantization = Quantization(
        a_zero=_int(node, f"{names[0]}_zero_point"),
        b_zero=_int(node, f"{names[1]}_zero_point"),
        a_signed=_signed(first),
        b_signed=_signed(second),
        a_scale=_float(node, f"{names[0]}_ratio" if add else "scale"),
        b_scale=_float(node, f"{names[1]}_ratio") if add else 0.0,
    )
    kind = "vadd" if add else "vmul"
    lowering.operations.append(VectorOp(node.name or "", kind, a, y, _with_result(node, quantization), b=b))
    lowering.define(output, out)


@lowers("Table", domain=MMAC)
def table(lowering: Lowering, node: ir.Node) -> None:
    """A function of one byte."""
    x = lowering.layout(node.inputs[0])
    out = lowering.home(node.outputs[0], x.memory_order())
    y, a = lowering.views([out, x], node.name or "")
    name = f"{node.name}.table"
    lowering.constant(name, np.ascontiguousarray(constant_array(node.inputs[1])))
    values = View(name, 0, (1, 1, 1, 256), (256, 256, 256, 1))
    lowering.operations.append(VectorOp(node.name or "", "vtable", a, y, table=values))
    lowering.define(node.outputs[0], out)


@lowers("MaxPool", "AveragePool", domain=MMAC)
def pool(lowering: Lowering, node: ir.Node) -> None:
    """Maximum or average over windows."""
    out = lowering.home(node.outputs[0])
    axes = _image_axes(len(out.shape))
    x = lowering.layout(node.inputs[0])
    window = _window(node, ints(node, "kernel_shape", x.shape[2:]))
    signed = dtype_of(node.outputs[0]) == "int8"
    name = node.name or ""
    a, y = _required(x.view(axes), node), _required(out.view(axes), node)
    if node.op_type == "MaxPool":
        lowest = Quantization(a_signed=signed, y_signed=signed, y_min=-128 * signed, y_max=127 if signed else 255)
        op = VectorOp(name, "vmax", a, y, lowest, window=window, fill=0x80 * signed)
    else:
        zero = _int(node, "x_zero_point")
        average = Quantization(a_zero=zero, a_signed=_signed(node.inputs[0]), a_scale=_float(node, "scale"))
        count_pad = bool(_int(node, "count_include_pad"))
        op = VectorOp(
            name, "vavg", a, y, _with_result(node, average), window=window, count_pad=count_pad, fill=zero & 0xFF
        )
    lowering.operations.append(op)
    lowering.define(node.outputs[0], out)


# ------------------------------------------------------------------------------------------------- changes of layout


def _alias_or_copy(lowering: Lowering, node: ir.Node, changed: Layout | None, source: Layout) -> None:
    """Give the output another layout on the same bytes, or copy the source into logical order and reshape that."""
    output = node.outputs[0]
    if changed is None:
        name = f"{node.name}.copy"
        dense = Layout.dense(name, source.shape)
        lowering.add_buffer(name, dense.size)
        y, x = lowering.views([dense, source], node.name or "")
        lowering.operations.append(Move(node.name or "", x, (y,)))
        changed = dense.reshape(shape_of(output))
        assert changed is not None  # a dense tensor takes any shape
    lowering.define(output, changed)


@lowers("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
def reshape(lowering: Lowering, node: ir.Node) -> None:
    """Another shape on the same elements in the same logical order."""
    source = lowering.layout(node.inputs[0])
    _alias_or_copy(lowering, node, source.reshape(shape_of(node.outputs[0])), source)


@lowers("Transpose")
def transpose(lowering: Lowering, node: ir.Node) -> None:
    """Permuted axes on the same bytes."""
    source = lowering.layout(node.inputs[0])
    rank = len(source.shape)
    perm = ints(node, "perm", range(rank - 1, -1, -1))
    _alias_or_copy(lowering, node, source.map(lambda a: a.transpose(perm)), source)


@lowers("Slice")
def slice_(lowering: Lowering, node: ir.Node) -> None:
    """A part of the same bytes."""
    source = lowering.layout(node.inputs[0])
    starts, ends, *rest = (constant_array(v).ravel().tolist() if v is not None else None for v in node.inputs[1:])
    assert starts is not None and ends is not None  # noqa: PT018  (ONNX requires both)
    axes = rest[0] if rest and rest[0] is not None else range(len(starts))
    steps = rest[1] if len(rest) > 1 and rest[1] is not None else [1] * len(starts)
    index = [slice(None)] * len(source.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(start, end, step)
    part = source.map(lambda a: a[tuple(index)])
    if part is None:
        raise UnsupportedError(f"node {node.name}", "a slice with a negative step")
    lowering.define(node.outputs[0], part)


@lowers("Split")
def split(lowering: Lowering, node: ir.Node) -> None:
    """Consecutive parts of the same bytes."""
    source = lowering.layout(node.inputs[0])
    axis = axis_of(node, len(source.shape))
    start = 0
    for output in node.outputs:
        stop = start + shape_of(output)[axis]
        lowering.define(output, slice_axis(source, axis, start, stop))
        start = stop


@lowers("DepthToSpace")
def depth_to_space(lowering: Lowering, node: ir.Node) -> None:
    """Each block of channels is copied into one of the interleaved sub-images."""
    source = lowering.layout(node.inputs[0])
    out = lowering.home(node.outputs[0])
    n, c, h, w = source.shape
    size = _int(node, "blocksize")
    channels_first = attribute(node, "mode", "DCR") == "CRD"
    blocks = (n, c // size**2, size, size, h, w) if channels_first else (n, size, size, c // size**2, h, w)
    for i, j in np.ndindex(size, size):
        block = (slice(None), slice(None), i, j) if channels_first else (slice(None), i, j)
        part = source.map(lambda a, block=block: np.reshape(a, blocks, copy=False)[block])  # type: ignore[misc]
        if part is None:
            raise UnsupportedError(f"node {node.name}", "its input's channels do not lie evenly in memory")
        y, x = lowering.views([strided(out, (0, 0, i, j), (1, 1, size, size)), part], node.name or "")
        lowering.operations.append(Move(f"{node.name}.{i * size + j}", x, (y,)))
    lowering.define(node.outputs[0], out)


@lowers("Concat")
def concat(lowering: Lowering, node: ir.Node) -> None:
    """Inputs that were not written into the result directly are copied into it."""
    output = node.outputs[0]
    whole = lowering.concat_home(output)
    axis = axis_of(node, len(whole.shape))
    start = 0
    for position, value in enumerate(node.inputs):
        source = lowering.layout(value)
        stop = start + source.shape[axis]
        part = slice_axis(whole, axis, start, stop)
        if source != part:
            y, x = lowering.views([part, source], node.name or "")
            lowering.operations.append(Move(f"{node.name}.{position}", x, (y,)))
        start = stop
    lowering.define(output, whole)


@lowers("Pad")
def pad(lowering: Lowering, node: ir.Node) -> None:
    """A copy whose box reaches outside the source; negative pads crop."""
    source = lowering.layout(node.inputs[0])
    pads = [int(p) for p in constant_array(node.inputs[1]).ravel()]
    rank = len(source.shape)
    axes = range(rank)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = [int(a) % rank for a in constant_array(node.inputs[3]).ravel()]  # type: ignore[assignment]
    begin = [0] * rank
    for axis, before in zip(axes, pads, strict=False):
        begin[axis] = before
    value = node.inputs[2] if len(node.inputs) > 2 else None
    fill = 0 if value is None else int(constant_array(value).ravel()[0])
    out = lowering.home(node.outputs[0], source.memory_order())
    groups: list[tuple[int, ...]] = [(axis,) for axis in out.memory_order()]
    if len(groups) > 4:
        raise UnsupportedError(f"node {node.name}", "padding of more than four dimensions")
    groups = [()] * (4 - len(groups)) + groups
    n, h, w, c = (-begin[g[0]] if g else 0 for g in groups)
    x, y = _required(source.view(groups), node), _required(out.view(groups), node)
    lowering.operations.append(Move(node.name or "", x, (y,), (n, h, w, c), fill & 0xFF))
    lowering.define(node.outputs[0], out)


@lowers("Resize")
def resize(lowering: Lowering, node: ir.Node) -> None:
    """Nearest neighbours by an integer factor: the source is copied into each of the interleaved sub-images."""
    source = lowering.layout(node.inputs[0])
    out = lowering.home(node.outputs[0], source.memory_order())
    factors = [o // i for o, i in zip(out.shape, source.shape, strict=True)]
    parts = [strided(out, start, factors) for start in np.ndindex(*factors)]
    x, *views = lowering.views([source, *parts], node.name or "")
    limit = 15  # tensor registers beside the source's
    for i in range(0, len(views), limit):
        lowering.operations.append(Move(f"{node.name}.{i}" if i else node.name or "", x, tuple(views[i : i + limit])))
    lowering.define(node.outputs[0], out)


# ------------------------------------------------------------------------------------------------- inputs and outputs


@lowers("QuantizeLinear")
def quantize_input(lowering: Lowering, node: ir.Node) -> None:
    """A float input of the model: the host quantizes it on the way in."""
    source = node.inputs[0]
    assert source is not None
    lowering.define_quantized(node.outputs[0], node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None)
    lowering.input_tensors[source.name or ""].append(node.outputs[0].name or "")


@lowers("DequantizeLinear")
def dequantize_output(lowering: Lowering, node: ir.Node) -> None:
    """A float output of the model: the host dequantizes it on the way out."""
    source = node.inputs[0]
    assert source is not None
    lowering.note_quantization(source, node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None)
    lowering.output_tensors[node.outputs[0].name or ""] = source.name or ""
    lowering.declare_host(node.outputs[0])
