"""Rules for Gemm and MatMul: the constant matrix [K, N] on the right, the bias a vector [N]."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.edit import Array, Editor, attribute, constant_array, operand


def plain_gemm(editor: Editor, node: ir.Node) -> bool:
    """Gemm with alpha = beta = 1, transA = transB = 0 and a bias vector, if its matrix is constant."""
    weights = constant_array(node.inputs[1])
    if weights is None:
        return False
    return _plain_matrix(editor, node, weights) or _plain_data(editor, node) or _plain_bias(editor, node)


def _plain_matrix(editor: Editor, node: ir.Node, weights: Array) -> bool:
    alpha, turned = attribute(node, "alpha", 1.0), attribute(node, "transB", 0)
    if alpha == 1 and not turned:
        return False
    matrix = weights.T if turned else weights
    matrix = matrix * np.float32(alpha) if alpha != 1 else matrix
    node.replace_input_with(1, editor.constant(matrix, f"{operand(node, 1).name}_kn"))
    _forget(node, "transB", "alpha")
    return True


def _plain_data(editor: Editor, node: ir.Node) -> bool:
    if not attribute(node, "transA", 0):
        return False
    turned = _transpose(editor, node, operand(node, 0))
    editor.graph.insert_before(node, turned)
    node.replace_input_with(0, turned.outputs[0])
    _forget(node, "transA")
    return True


def _plain_bias(editor: Editor, node: ir.Node) -> bool:
    """One number per column becomes a vector; any other addend gets a node of its own."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    shape = static_shape(node.outputs[0])
    if bias is None or shape is None:
        return False
    array, beta = constant_array(bias), attribute(node, "beta", 1.0)
    if array is None and beta == 1:
        _add_apart(editor, node, bias)
        return True
    if array is None or (beta == 1 and array.shape == shape[1:]):
        return False
    scaled = (array * np.float32(beta)).astype(array.dtype)
    if array.size == 1 or (array.size == shape[1] and array.shape[-1] == shape[1]):
        vector = np.broadcast_to(scaled.reshape(-1), shape[1:])
        node.replace_input_with(2, editor.constant(vector, f"{bias.name}_vector"))
        _forget(node, "beta")
        return True
    _forget(node, "beta")
    _add_apart(editor, node, editor.constant(scaled, f"{bias.name}_scaled") if beta != 1 else bias)
    return True


def _add_apart(editor: Editor, node: ir.Node, addend: ir.Value) -> None:
    like, name = node.outputs[0], node.name or ""
    product = editor.node("Gemm", node.inputs[:2], like=like, name=name, origin=[node])
    product.attributes.update(node.attributes)
    inputs = [product.outputs[0], addend]
    total = editor.node("Add", inputs, like=like, name=editor.fresh(f"{name}_add"), origin=[node])
    product.metadata_props.update(node.metadata_props)
    editor.replace(node, [product, total])


def plain_matmul(editor: Editor, node: ir.Node) -> bool:
    """MatMul with its constant matrix [K, N] on the right."""
    left, right = (constant_array(value) for value in node.inputs)
    if (left is None) == (right is None):
        return False
    return _drop_batch(editor, node, right) if right is not None else _swap_sides(editor, node, left)


def _drop_batch(editor: Editor, node: ir.Node, matrix: Array) -> bool:
    """A constant [1, …, K, N] is a matrix, if the data have as many axes."""
    data = static_shape(node.inputs[0])
    if matrix.ndim < 3 or data is None or len(data) < matrix.ndim or matrix.size != np.prod(matrix.shape[-2:]):
        return False
    flat = editor.constant(matrix.reshape(matrix.shape[-2:]), f"{operand(node, 1).name}_kn")
    node.replace_input_with(1, flat)
    return True


def _swap_sides(editor: Editor, node: ir.Node, matrix: Array | None) -> bool:
    """``W · x`` is ``(xᵀ · Wᵀ)ᵀ``."""
    x, result = operand(node, 1), static_shape(node.outputs[0])
    if matrix is None or matrix.ndim != 2 or result is None or len(result) < 2 or static_shape(x) is None:
        return False
    before = _transpose(editor, node, x)
    weights = editor.constant(matrix.T, f"{operand(node, 0).name}_kn")
    product = editor.node(
        "MatMul",
        [before.outputs[0], weights],
        like=node.outputs[0],
        shape=[*result[:-2], result[-1], result[-2]],
        name=node.name or "",
        origin=[node],
    )
    product.metadata_props.update(node.metadata_props)
    editor.replace(node, [before, product, _transpose(editor, node, product.outputs[0])])
    return True


def _transpose(editor: Editor, node: ir.Node, value: ir.Value) -> ir.Node:
    """A Transpose of the last two axes of `value`, for `node`."""
    shape = static_shape(value) or ()
    perm = list(range(len(shape)))
    perm[-2:] = perm[-1], perm[-2]
    name = editor.fresh(f"{node.name}_transpose")
    turned = [shape[axis] for axis in perm]
    return editor.node("Transpose", [value], {"perm": perm}, like=value, shape=turned, name=name, origin=[node])


def _forget(node: ir.Node, *attributes: str) -> None:
    for name in attributes:
        node.attributes.pop(name, None)
