"""Everything that does not depend on the inputs is computed once, by onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend import is_numeric, static_shape
from mmac.compiler.frontend.growth import may_fold, size_bytes
from mmac.compiler.graph.edit import Array, Editor, attribute, constant_array
from mmac.compiler.graph.execute import session
from mmac.isa.errors import MalformedError, MmacError

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


def lift_constants(editor: Editor) -> None:
    """Constant nodes of the main graph become initializers, in place; weights are not copied."""
    for node in list(editor.graph):
        if node.op_type != "Constant" or node.domain or node.outputs[0].is_graph_output():
            continue
        attr = next(iter(node.attributes.values()))
        if attr.type == ir.AttributeType.TENSOR:
            array = attr.as_tensor().numpy() if attr.as_tensor().dtype != ir.DataType.STRING else None
        else:
            dtype = _CONSTANTS.get(attr.name)
            array = np.array(attr.value, dtype) if dtype is not None else None
        if array is not None:
            node.outputs[0].replace_all_uses_with(editor.constant(array, node.outputs[0].name or "constant"))
            editor.graph.remove(node, safe=True)


_CONSTANTS = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}


def fold_constants(editor: Editor) -> bool:
    """Replace constant subgraphs and shapes of static tensors by initializers, in place.

    Returns:
        Whether anything changed.
    """
    shapes = [node for node in list(editor.graph) if _fold_shape(editor, node)]
    constant: dict[ir.Value, int] = {}
    nodes: list[ir.Node] = []
    for node in editor.graph:
        known = all(v is None or v in constant or constant_array(v) is not None for v in node.inputs)
        if not (known and _foldable(node)):
            continue
        sizes = {v: constant[v] if v in constant else size_bytes(v) or 0 for v in node.inputs if v is not None}
        if may_fold(node, sizes):
            nodes.append(node)
            constant.update({value: size_bytes(value) or sum(sizes.values()) for value in node.outputs})
    inside = set(nodes)
    seen = [value for value in constant if any(user not in inside for user in value.consumers())]
    if seen:
        for value, array in zip(seen, _evaluate(editor.model, nodes, seen), strict=True):
            value.replace_all_uses_with(editor.constant(array, f"{value.name}_constant"))
    if nodes:
        editor.graph.remove(nodes, safe=True)
    return bool(shapes or nodes)


def _foldable(node: ir.Node) -> bool:
    if node.op_type in _NEVER or any(attr.type in _GRAPHS for attr in node.attributes.values()):
        return False
    return all(is_numeric(v) for v in node.outputs) and not any(output.is_graph_output() for output in node.outputs)


def _evaluate(model: ir.Model, nodes: list[ir.Node], values: list[ir.Value]) -> list[Array]:
    """Numbers of `values`, which `nodes` compute from initializers alone.

    Raises:
        UnsupportedError: onnxruntime refuses one of the nodes.
        MalformedError: it cannot compute one.
    """
    used = dict.fromkeys(value for node in nodes for value in node.inputs if value is not None)
    view = ir.GraphView(
        [],
        values,
        nodes=nodes,
        initializers=[value for value in used if value.is_initializer()],
        opset_imports=model.opset_imports,
        name="constants",
    )
    part = ir.Model(view.clone(), ir_version=model.ir_version)
    try:
        return list(session(part, optimize=False).run(None, {}))
    except MmacError:
        raise
    except Exception as error:  # onnxruntime's exceptions have no common base but this one
        names = ", ".join(repr(node.name) for node in nodes[:3]) + (" …" if len(nodes) > 3 else "")
        reason = str(error).strip().splitlines()[0]
        raise MalformedError(f"constants of {names}", f"onnxruntime cannot compute them: {reason}") from error


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
