"""Rules that spell an operator the one way that later passes know; each changes the graph around one node in place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.edit import Editor, attribute, constant_array, operand, take_over
from mmac.compiler.graph.operators import UNARY
from mmac.compiler.graph.products import plain_gemm, plain_matmul
from mmac.compiler.graph.qoperators import QUANTIZED

Rule = Callable[[Editor, ir.Node], bool]
"""Changes the graph around a node of its op_type and says whether it did."""


def _first_of(*rules: Rule) -> Rule:
    """The first rule that applies."""
    return lambda editor, node: any(rule(editor, node) for rule in rules)


def _become_identity(editor: Editor, node: ir.Node) -> bool:
    editor.replace(node, editor.node("Identity", node.inputs[:1], like=node.outputs[0], name=node.name or ""))
    return True


def _drop_identity(editor: Editor, node: ir.Node) -> bool:
    """Identity goes, unless it gives an output a name of its own."""
    value, output = operand(node, 0), node.outputs[0]
    if not output.is_graph_output():
        output.replace_all_uses_with(value)
    elif value.producer() is None or value.is_graph_output():
        return False
    else:
        take_over(output, value)
    editor.graph.remove(node, safe=True)
    return True


def _drop_dropout(editor: Editor, node: ir.Node) -> bool:
    """Dropout does nothing at inference; its mask must be unused."""
    training = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    if (training is not None and training.any()) or any(_is_used(mask) for mask in node.outputs[1:]):
        return False
    node.resize_outputs(1)
    return _become_identity(editor, node)


def _is_used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _drop_same_cast(editor: Editor, node: ir.Node) -> bool:
    return operand(node, 0).dtype == attribute(node, "to", 0) and _become_identity(editor, node)


def _drop_same_shape(editor: Editor, node: ir.Node) -> bool:
    """Reshape, Flatten, Squeeze, Unsqueeze, Expand, Slice and Pad that give back what they get."""
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if before is None or before != after:
        return False
    if node.op_type == "Slice" and len(node.inputs) > 4:
        steps = constant_array(node.inputs[4])
        if steps is None or (steps < 0).any():
            return False  # a negative step reverses
    if node.op_type == "Pad":
        pads = constant_array(node.inputs[1])
        if pads is None or pads.any():
            return False  # cropped on one side, padded on the other
    return _become_identity(editor, node)


def _drop_identity_transpose(editor: Editor, node: ir.Node) -> bool:
    perm = attribute(node, "perm", None)
    return perm is not None and perm == sorted(perm) and _become_identity(editor, node)


def _drop_single_concat(editor: Editor, node: ir.Node) -> bool:
    return len(node.inputs) == 1 and _become_identity(editor, node)


def _explicit_window(editor: Editor, node: ir.Node) -> bool:
    """Conv and pools: explicit kernel_shape, strides, pads and dilations instead of auto_pad and ceil_mode."""
    size, result = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    weights = static_shape(node.inputs[1]) if node.op_type == "Conv" else ()
    if size is None or result is None or weights is None:
        return False
    kernel = attribute(node, "kernel_shape", list(weights[2:]))
    ones = [1] * len(kernel)
    strides, dilations = attribute(node, "strides", ones), attribute(node, "dilations", ones)
    pads = _explicit_pads(node, size[2:], result[2:], kernel, strides, dilations)
    if pads is None:
        return False
    wanted = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    if node.op_type != "AveragePool" or dilations != ones:  # AveragePool has dilations from opset 19 on
        wanted["dilations"] = dilations
    implicit = {"auto_pad", "ceil_mode"} & set(node.attributes)
    if not implicit and all(attribute(node, key, None) == value for key, value in wanted.items()):
        return False
    for key in implicit:
        node.attributes.pop(key)
    node.attributes.update({attr.name: attr for attr in ir.convenience.convert_attributes(wanted)})
    return True


def _explicit_pads(
    node: ir.Node,
    size: Sequence[int],
    result: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int] | None:
    """Padding that gives the same result without auto_pad and ceil_mode, or None if there is none."""
    rank = len(kernel)
    needed = [
        (out - 1) * s + (k - 1) * d + 1 - n
        for n, out, k, s, d in zip(size, result, kernel, strides, dilations, strict=True)
    ]
    mode = attribute(node, "auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        total = [max(n, 0) for n in needed]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        return [*small, *large] if mode == "SAME_UPPER" else [*large, *small]
    pads = list(attribute(node, "pads", [0] * 2 * rank)) if mode == "NOTSET" else [0] * 2 * rank
    if attribute(node, "ceil_mode", 0):
        extra = [max(n - pads[i] - pads[i + rank], 0) for i, n in enumerate(needed)]
        if any(extra) and attribute(node, "count_include_pad", 0):
            return None  # the windows do not count what lies beyond the padding
        pads = pads[:rank] + [pads[i + rank] + e for i, e in enumerate(extra)]
        if any(pad >= k for pad, k in zip(pads, [*kernel, *kernel], strict=True)):
            return None  # onnxruntime wants padding smaller than the window
    return pads


def _drop_indices(editor: Editor, node: ir.Node) -> bool:
    if len(node.outputs) < 2 or _is_used(node.outputs[1]):
        return False
    node.resize_outputs(1)
    return True


def _global_pool(editor: Editor, node: ir.Node) -> bool:
    """GlobalAveragePool and GlobalMaxPool are pools over the whole plane."""
    shape = static_shape(node.inputs[0])
    return shape is not None and _pool_axes(editor, node, shape, range(2, len(shape)))


def _reduce_plane(editor: Editor, node: ir.Node) -> bool:
    """ReduceMean and ReduceMax over spatial axes."""
    shape = static_shape(node.inputs[0])
    axes = attribute(node, "axes", None)
    if axes is None and len(node.inputs) > 1 and (array := constant_array(node.inputs[1])) is not None:
        axes = array.reshape(-1).tolist()
    if shape is None or not axes:
        return False
    spatial = {axis % len(shape) for axis in axes}
    return min(spatial) >= 2 and not _centres(node) and _pool_axes(editor, node, shape, spatial)


def _centres(node: ir.Node) -> bool:
    """True for a mean that is subtracted from what it is the mean of: a normalisation, which needs floats."""
    return any(user.op_type == "Sub" and node.inputs[0] in user.inputs for user in node.outputs[0].consumers())


def _pool_axes(editor: Editor, node: ir.Node, shape: tuple[int, ...], axes: Collection[int]) -> bool:
    """Replace `node` by a pool over some of its spatial axes, and a Reshape if the result has another shape."""
    after = static_shape(node.outputs[0])
    if after is None or len(shape) not in (3, 4) or operand(node, 0).dtype != ir.DataType.FLOAT:
        return False
    rank = len(shape) - 2
    pooled = [1 if axis in axes else size for axis, size in enumerate(shape)]
    kernel = [size if axis in axes else 1 for axis, size in enumerate(shape)][2:]
    attributes = {"kernel_shape": kernel, "strides": [1] * rank, "pads": [0] * 2 * rank}
    kind, name, like = "MaxPool" if "Max" in node.op_type else "AveragePool", node.name or "", node.outputs[0]
    nodes = [editor.node(kind, node.inputs[:1], attributes, like=like, shape=pooled, name=name, origin=[node])]
    if tuple(pooled) != after:
        target = editor.constant(np.array(after, np.int64), f"{name}_shape")
        inputs = [nodes[0].outputs[0], target]
        nodes.append(editor.node("Reshape", inputs, like=like, name=editor.fresh(f"{name}_reshape"), origin=[node]))
    editor.replace(node, nodes)
    return True


def _sum_to_adds(editor: Editor, node: ir.Node) -> bool:
    if len(node.inputs) == 1:
        return _become_identity(editor, node)
    total, nodes = node.inputs[0], list[ir.Node]()
    for value in node.inputs[1:]:
        name = editor.fresh(f"{node.name}_add")
        nodes.append(editor.node("Add", [total, value], like=node.outputs[0], name=name, origin=[node]))
        total = nodes[-1].outputs[0]
    editor.replace(node, nodes)
    return True


def _inverse_operand(editor: Editor, node: ir.Node) -> bool:
    """Sub and Div by a constant are Add and Mul, which can be merged further."""
    array = constant_array(node.inputs[1])
    if array is None or array.dtype != np.float32 or constant_array(node.inputs[0]) is not None:
        return False
    with np.errstate(divide="ignore", over="ignore"):
        inverse = -array if node.op_type == "Sub" else np.float32(1) / array
    if not np.isfinite(inverse).all():
        return False
    op_type = "Add" if node.op_type == "Sub" else "Mul"
    inputs = [node.inputs[0], editor.constant(inverse, f"{operand(node, 1).name}_inverse")]
    new = editor.node(op_type, inputs, like=node.outputs[0], name=node.name or "", origin=[node])
    editor.replace(node, new)
    return True


def _uniform_operand(editor: Editor, node: ir.Node) -> bool:
    """A constant tensor whose elements are all equal becomes a scalar, if the result has the same shape."""
    for index, value in enumerate(node.inputs):
        array = constant_array(value)
        if array is None or array.size < 2 or array.dtype != np.float32 or (array != array.flat[0]).any():
            continue
        if [static_shape(v) for i, v in enumerate(node.inputs) if i != index] != [static_shape(node.outputs[0])]:
            continue
        scalar = editor.constant(array.reshape(-1)[0].reshape(()), f"{operand(node, index).name}_scalar")
        node.replace_input_with(index, scalar)
        return True
    return False


_SAME_SHAPE = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Slice", "Pad")

CANONICAL: dict[str, Rule] = {
    **dict.fromkeys(sorted(UNARY), _uniform_operand),
    **dict.fromkeys(_SAME_SHAPE, _drop_same_shape),
    "Identity": _drop_identity,
    "Dropout": _drop_dropout,
    "Cast": _drop_same_cast,
    "Transpose": _drop_identity_transpose,
    "Concat": _drop_single_concat,
    "Conv": _explicit_window,
    "AveragePool": _explicit_window,
    "MaxPool": _first_of(_drop_indices, _explicit_window),
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "ReduceMean": _reduce_plane,
    "ReduceMax": _reduce_plane,
    "Sum": _sum_to_adds,
    "Sub": _first_of(_uniform_operand, _inverse_operand),
    "Div": _first_of(_uniform_operand, _inverse_operand),
    "Gemm": plain_gemm,
    "MatMul": plain_matmul,
    **QUANTIZED,
}
"""Rule for each op_type, with its domain if that is not ONNX's."""
