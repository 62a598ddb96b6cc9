"""Everything that does not depend on the inputs is computed once, by onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.edit import Array, Editor, attribute, constant_array, remove_unused
from mmac.compiler.graph.execute import session

_NEVER = frozenset(
    (
        "DequantizeLinear",  # weights stay integers
        "RandomNormal",
        "RandomUniform",
        "RandomNormalLike",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
    )
)
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def fold_constants(editor: Editor) -> bool:
    """Replace constant subgraphs and shapes of static tensors by initializers, in place.

    Returns:
        Whether anything changed.
    """
    shapes = [node for node in list(editor.graph) if _fold_shape(editor, node)]
    constant: dict[ir.Value, None] = {}
    nodes: list[ir.Node] = []
    for node in editor.graph:
        if _foldable(node) and all(v is None or v in constant or constant_array(v) is not None for v in node.inputs):
            nodes.append(node)
            constant.update(dict.fromkeys(node.outputs))
    inside = set(nodes)
    seen = [value for value in constant if any(user not in inside for user in value.consumers())]
    if seen:
        for value, array in zip(seen, _evaluate(editor.model, seen), strict=True):
            value.replace_all_uses_with(editor.constant(array, f"{value.name}_constant"))
    if nodes:
        editor.graph.remove(nodes, safe=True)
    return bool(shapes or nodes)


def _foldable(node: ir.Node) -> bool:
    if node.op_type in _NEVER or any(attr.type in _GRAPHS for attr in node.attributes.values()):
        return False
    return not any(output.is_graph_output() or output.dtype == ir.DataType.STRING for output in node.outputs)


def _evaluate(model: ir.Model, values: list[ir.Value]) -> list[Array]:
    part = model.clone()
    by_name = ir.convenience.create_value_mapping(part.graph)
    part.graph.inputs.clear()
    part.graph.outputs.clear()
    part.graph.outputs.extend(by_name[value.name or ""] for value in values)
    remove_unused(part)
    return list(session(part, optimize=False).run(None, {}))


def _fold_shape(editor: Editor, node: ir.Node) -> bool:
    """Shape and Size of a tensor of known shape."""
    if node.op_type not in ("Shape", "Size") or node.domain or node.outputs[0].is_graph_output():
        return False
    shape = static_shape(node.inputs[0])
    if shape is None:
        return False
    dims = np.array(shape, np.int64)[attribute(node, "start", 0) : attribute(node, "end", None)]
    array = dims if node.op_type == "Shape" else np.prod(dims, dtype=np.int64)
    node.outputs[0].replace_all_uses_with(editor.constant(np.asarray(array), f"{node.outputs[0].name}_constant"))
    editor.graph.remove(node, safe=True)
    return True
