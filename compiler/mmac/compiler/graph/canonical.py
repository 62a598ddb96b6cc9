"""Rules that spell an operator the one way that later passes know; each changes one node in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.edit import Array, Editor, attribute, constant_array, sources
from mmac.compiler.graph.operators import UNARY

Rule = Callable[[Editor, ir.Node], bool]
"""Changes the graph around a node of its op_type and says whether it did."""


def first_of(*rules: Rule) -> Rule:
    """The first rule that applies."""
    return lambda editor, node: any(rule(editor, node) for rule in rules)


def _become_identity(editor: Editor, node: ir.Node) -> bool:
    editor.replace(node, ir.node("Identity", node.inputs[:1], outputs=[_like(node.outputs[0])], name=node.name))
    return True


def _like(value: ir.Value) -> ir.Value:
    return ir.Value(name=f"{value.name}_new", type=value.type, shape=value.shape)


def _drop_dropout(editor: Editor, node: ir.Node) -> bool:
    """Dropout does nothing at inference; its mask must be unused."""
    training = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    if (training is not None and training.any()) or any(mask.uses() for mask in node.outputs[1:]):
        return False
    node.resize_outputs(1)
    return _become_identity(editor, node)


def _drop_same_cast(editor: Editor, node: ir.Node) -> bool:
    value = node.inputs[0]
    return value is not None and value.dtype == attribute(node, "to", 0) and _become_identity(editor, node)


def _drop_same_shape(editor: Editor, node: ir.Node) -> bool:
    """Reshape, Flatten, Squeeze, Unsqueeze, Expand, Slice, Pad and Concat that give back what they get."""
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if before is None or before != after:
        return False
    if node.op_type == "Slice" and any(
        (constant_array(v) is None or (constant_array(v) < 0).any()) for v in node.inputs[4:5]
    ):  # type: ignore[operator]
        return False  # a negative step reverses
    if node.op_type == "Pad" and (pads := constant_array(node.inputs[1])) is not None and pads.any():
        return False  # cropped on one side, padded on the other
    return _become_identity(editor, node)


def _drop_identity_transpose(editor: Editor, node: ir.Node) -> bool:
    perm = attribute(node, "perm", None)
    return perm == sorted(perm or [1, 0]) and _become_identity(editor, node)


def _explicit_window(editor: Editor, node: ir.Node) -> bool:
    """Conv and pools: explicit kernel_shape, strides, pads and dilations instead of auto_pad and ceil_mode."""
    size, result = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if size is None or result is None:
        return False
    weights = static_shape(node.inputs[1]) if node.op_type == "Conv" else None
    kernel = attribute(node, "kernel_shape", list((weights or ())[2:]))
    rank = len(kernel)
    strides, dilations = attribute(node, "strides", [1] * rank), attribute(node, "dilations", [1] * rank)
    pads = _explicit_pads(node, size[2:], result[2:], kernel, strides, dilations)
    if pads is None:
        return False
    wanted = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    if node.op_type != "AveragePool" or "dilations" in node.attributes:
        wanted["dilations"] = dilations
    if all(attribute(node, key, None) == value for key, value in wanted.items()) and not (
        {"auto_pad", "ceil_mode"} & set(node.attributes)
    ):
        return False
    for key in ("auto_pad", "ceil_mode"):
        node.attributes.pop(key, None)
    for attr in ir.convenience.convert_attributes(wanted):
        node.attributes[attr.name] = attr
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
        extra = [n - pads[i] - pads[i + rank] for i, n in enumerate(needed)]
        if any(e > 0 for e in extra) and attribute(node, "count_include_pad", 0):
            return None  # the extra column is not counted, explicit padding would be
        pads = pads[:rank] + [pads[i + rank] + max(e, 0) for i, e in enumerate(extra)]
    return pads


def _drop_indices(editor: Editor, node: ir.Node) -> bool:
    if len(node.outputs) < 2 or node.outputs[1].uses() or node.outputs[1].is_graph_output():
        return False
    node.resize_outputs(1)
    return True


def _global_pool(editor: Editor, node: ir.Node) -> bool:
    """GlobalAveragePool and GlobalMaxPool, which are pools over the whole plane."""
    shape = static_shape(node.inputs[0])
    return shape is not None and len(shape) in (3, 4) and _pool(editor, node, list(shape[2:]))


def _pool(editor: Editor, node: ir.Node, kernel: list[int]) -> bool:
    """Replace `node` by a pool over the whole plane, and a Reshape if the shape differs."""
    kind = "MaxPool" if "Max" in node.op_type else "AveragePool"
    attributes = {"kernel_shape": kernel, "strides": [1] * len(kernel), "pads": [0] * 2 * len(kernel)}
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if before is None or after is None:
        return False
    pooled = ir.Value(
        name=editor.fresh(f"{node.name}_pooled"),
        type=node.outputs[0].type,
        shape=ir.Shape([*before[:2], *[1] * len(kernel)]),
    )
    pool = ir.node(kind, node.inputs[:1], attributes, outputs=[pooled], name=node.name)
    nodes = [pool]
    if static_shape(pooled) != after:
        shape = editor.constant(np.array(after, np.int64), f"{node.name}_shape")
        nodes.append(ir.node("Reshape", [pooled, shape], outputs=[_like(node.outputs[0])], name=f"{node.name}_reshape"))
    for new in nodes:
        new.metadata_props["mmac.source"] = sources([node])
    editor.replace(node, nodes)
    return True


def _reduce_plane(editor: Editor, node: ir.Node) -> bool:
    """ReduceMean and ReduceMax over exactly the spatial axes."""
    shape = static_shape(node.inputs[0])
    axes = attribute(node, "axes", None)
    if axes is None and len(node.inputs) > 1:
        array = constant_array(node.inputs[1])
        axes = None if array is None else array.reshape(-1).tolist()
    if shape is None or axes is None or len(shape) not in (3, 4):
        return False
    if sorted(axis % len(shape) for axis in axes) != list(range(2, len(shape))) or _centres(node):
        return False
    return _pool(editor, node, list(shape[2:]))


def _centres(node: ir.Node) -> bool:
    """True for a mean that is subtracted from what it is the mean of: a normalisation, which needs floats."""
    return any(user.op_type == "Sub" and node.inputs[0] in user.inputs for user in node.outputs[0].consumers())


def _sum_to_adds(editor: Editor, node: ir.Node) -> bool:
    if len(node.inputs) == 1:
        return _become_identity(editor, node)
    total, nodes = node.inputs[0], []
    for position, value in enumerate(node.inputs[1:]):
        name = node.name if position == len(node.inputs) - 2 else editor.fresh(f"{node.name}_{position}")
        add = ir.node("Add", [total, value], outputs=[_like(node.outputs[0])], name=name)
        add.outputs[0].name = editor.fresh(f"{name}_sum")
        add.metadata_props["mmac.source"] = sources([node])
        nodes.append(add)
        total = add.outputs[0]
    editor.replace(node, nodes)
    return True


def _inverse_operand(editor: Editor, node: ir.Node) -> bool:
    """Sub and Div by a constant are Add and Mul, which can be merged further."""
    array = constant_array(node.inputs[1])
    if array is None or array.dtype != np.float32 or constant_array(node.inputs[0]) is not None:
        return False
    if node.op_type == "Div" and (not array.all() or not np.isfinite(1 / array).all()):
        return False
    inverse = -array if node.op_type == "Sub" else np.float32(1) / array
    operand = editor.constant(inverse, f"{node.inputs[1].name}_inverse")  # type: ignore[union-attr]
    new = ir.node(
        "Add" if node.op_type == "Sub" else "Mul",
        [node.inputs[0], operand],
        outputs=[_like(node.outputs[0])],
        name=node.name,
    )
    new.metadata_props.update(node.metadata_props)
    editor.replace(node, new)
    return True


def _uniform_operand(editor: Editor, node: ir.Node) -> bool:
    """A constant tensor whose elements are all equal becomes a scalar, if the result has the same shape."""
    changed = False
    for index, value in enumerate(node.inputs):
        array = constant_array(value)
        if array is None or array.size < 2 or array.dtype != np.float32 or (array != array.flat[0]).any():
            continue
        others = [static_shape(other) for other in node.inputs if other is not value]
        if others == [static_shape(node.outputs[0])]:
            node.replace_input_with(index, editor.constant(array.reshape(-1)[0].reshape(()), f"{value.name}_scalar"))  # type: ignore[union-attr]
            changed = True
    return changed


def _plain_gemm(editor: Editor, node: ir.Node) -> bool:
    """Gemm with alpha = beta = 1, transA = transB = 0 and a bias vector, if its matrix is constant."""
    weights = constant_array(node.inputs[1])
    if weights is None:
        return False
    steps = (_gemm_matrix(editor, node, weights), _gemm_bias(editor, node), _gemm_data(editor, node))
    return any(steps)


def _gemm_matrix(editor: Editor, node: ir.Node, weights: Array) -> bool:
    alpha, turned = attribute(node, "alpha", 1.0), attribute(node, "transB", 0)
    if alpha == 1 and not turned:
        return False
    matrix = weights.T if turned else weights
    matrix = matrix * np.float32(alpha) if alpha != 1 else matrix
    node.replace_input_with(1, editor.constant(matrix, f"{node.inputs[1].name}_kn"))  # type: ignore[union-attr]
    node.attributes.pop("transB", None)
    node.attributes.pop("alpha", None)
    return True


def _gemm_bias(editor: Editor, node: ir.Node) -> bool:
    """A bias vector stays; anything else is added by a node of its own."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    shape = static_shape(node.outputs[0])
    if bias is None or shape is None:
        return False
    array, beta = constant_array(bias), attribute(node, "beta", 1.0)
    if array is not None and array.size in (1, shape[1]) and array.shape[-1:] != (1,) * (array.size > 1):
        if beta == 1 and array.shape == shape[1:]:
            return False
        vector = np.broadcast_to((array * np.float32(beta)).reshape(-1), shape[1:])
        node.replace_input_with(2, editor.constant(vector, f"{bias.name}_vector"))
        node.attributes.pop("beta", None)
        return True
    if beta != 1:
        return False
    product = ir.node("Gemm", node.inputs[:2], outputs=[_like(node.outputs[0])], name=node.name)
    product.attributes.update({key: attr for key, attr in node.attributes.items()})
    product.metadata_props.update(node.metadata_props)
    product.outputs[0].name = editor.fresh(f"{node.name}_product")
    total = ir.node("Add", [product.outputs[0], bias], outputs=[_like(node.outputs[0])])
    total.name = editor.fresh(f"{node.name}_add")
    total.metadata_props["mmac.source"] = sources([node])
    editor.replace(node, [product, total])
    return True


def _gemm_data(editor: Editor, node: ir.Node) -> bool:
    if not attribute(node, "transA", 0) or node.inputs[0] is None or node.graph is None:
        return False
    editor.graph.insert_before(node, turned := _transpose(editor, node, node.inputs[0]))
    node.replace_input_with(0, turned.outputs[0])
    node.attributes.pop("transA", None)
    return True


def _transpose(editor: Editor, node: ir.Node, value: ir.Value) -> ir.Node:
    """A Transpose of the last two axes of `value`, for `node`."""
    shape = static_shape(value) or ()
    rank = len(shape)
    perm = [*range(rank - 2), rank - 1, rank - 2]
    name = editor.fresh(f"{node.name}_transpose")
    output = ir.Value(name=f"{name}_out", type=value.type, shape=ir.Shape([shape[axis] for axis in perm]))
    new = ir.node("Transpose", [value], {"perm": perm}, outputs=[output], name=name)
    new.metadata_props["mmac.source"] = sources([node])
    return new


def _plain_matmul(editor: Editor, node: ir.Node) -> bool:
    """MatMul with its constant matrix [K, N] on the right."""
    left, right = (constant_array(value) for value in node.inputs)
    data = static_shape(node.inputs[0])
    if right is not None and left is None and right.ndim > 2 and data and len(data) >= right.ndim:
        if right.size != right.shape[-2] * right.shape[-1]:
            return False
        matrix = editor.constant(right.reshape(right.shape[-2:]), f"{node.inputs[1].name}_kn")  # type: ignore[union-attr]
        node.replace_input_with(1, matrix)
        return True
    x, result = node.inputs[1], static_shape(node.outputs[0])
    if left is None or right is not None or left.ndim != 2 or x is None or result is None or len(result) < 2:
        return False
    before = _transpose(editor, node, x)
    product = ir.node(
        "MatMul",
        [before.outputs[0], editor.constant(left.T, f"{node.inputs[0].name}_kn")],  # type: ignore[union-attr]
        outputs=[ir.Value(name=editor.fresh(f"{node.name}_product"), type=node.outputs[0].type)],
        name=node.name,
    )
    product.outputs[0].shape = ir.Shape([*result[:-2], result[-1], result[-2]])
    product.metadata_props.update(node.metadata_props)
    editor.replace(node, [before, product, _transpose(editor, node, product.outputs[0])])
    return True


_SAME_SHAPE = dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Slice", "Pad"), _drop_same_shape)

CANONICAL: dict[str, Rule] = {
    **dict.fromkeys(UNARY, _uniform_operand),
    **_SAME_SHAPE,
    "Dropout": _drop_dropout,
    "Cast": _drop_same_cast,
    "Transpose": _drop_identity_transpose,
    "Conv": _explicit_window,
    "AveragePool": _explicit_window,
    "MaxPool": first_of(_drop_indices, _explicit_window),
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "ReduceMean": _reduce_plane,
    "ReduceMax": _reduce_plane,
    "Sum": _sum_to_adds,
    "Sub": first_of(_uniform_operand, _inverse_operand),
    "Div": first_of(_uniform_operand, _inverse_operand),
    "Gemm": _plain_gemm,
    "MatMul": _plain_matmul,
}
"""Rule for each op_type."""
