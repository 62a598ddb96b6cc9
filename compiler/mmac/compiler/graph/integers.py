"""Layout operations and max pooling move from floats to integers: they commute with scaling exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.bodies import DOMAIN
from mmac.compiler.graph.clusters import Cluster, match
from mmac.compiler.graph.constants import constant_of, is_constant
from mmac.compiler.graph.edit import (
    SOURCE,
    Array,
    Editor,
    attribute,
    maker,
    operand,
    similar,
    sources,
    take_over,
)
from mmac.compiler.graph.operators import BY_OP_TYPE, SHARING

SCALE, ZERO_POINT = "mmac.scale", "mmac.zero_point"
"""Metadata keys of an integer value: real = scale · (q − zero_point)."""

FLOAT = "mmac.float"
"""Metadata key of an integer value: name of the float value, in the model before, that its integers stand for."""

DATA_TYPES = (ir.DataType.UINT8, ir.DataType.INT8)


@dataclass(frozen=True)
class Encoding:
    """How the integers of a run-time tensor stand for reals: real = scale · (q − zero_point)."""

    scale: float
    zero_point: int
    dtype: ir.DataType

    def quantize(self, value: float) -> int:
        """The integer that QuantizeLinear gives."""
        info = np.iinfo(self.dtype.numpy())
        with np.errstate(over="ignore"):
            step = np.rint(np.float32(value) / np.float32(self.scale)) + np.float32(self.zero_point)
        return int(np.clip(step, info.min, info.max))


def clamp(nodes: Iterable[ir.Node], code: Encoding, constant: Callable[[ir.Value], Array | None]) -> tuple[int, int]:
    """Lowest and highest integer that the Relu and Clip nodes among `nodes` let through, in this order.

    Rounding is monotone, so clamping before it and clamping the integers to the rounded bounds are the same.

    Args:
        nodes: of a cluster.
        code: encoding of its result.
        constant: number that a bound of Clip has.
    """
    info = np.iinfo(code.dtype.numpy())
    low, high = int(info.min), int(info.max)
    for node in nodes:
        floor: float | None = 0.0 if node.op_type == "Relu" else None
        ceiling: float | None = None
        if node.op_type == "Clip":
            bounds = [constant(value) if value is not None else None for value in node.inputs[1:]]
            floor, ceiling = (None if b is None else float(b.item()) for b in (*bounds, None, None)[:2])
        if floor is not None:
            low, high = (max(edge, code.quantize(floor)) for edge in (low, high))
        if ceiling is not None:
            low, high = (min(edge, code.quantize(ceiling)) for edge in (low, high))
    return low, high


def note_encoding(value: ir.Value, code: Encoding) -> None:
    """Write on a value of the graph what its integers mean."""
    value.metadata_props.update({SCALE: repr(code.scale), ZERO_POINT: str(code.zero_point)})


def encoding(node: ir.Node | None) -> Encoding | None:
    """Encoding of a QuantizeLinear or DequantizeLinear node with one positive scale and 8-bit integers, else None."""
    if node is None or node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return None
    dtype = (node.outputs[0] if node.op_type == "QuantizeLinear" else operand(node, 0)).dtype
    scale = constant_of(node.inputs[1])
    zero = constant_of(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.uint8)
    if dtype not in DATA_TYPES or scale is None or zero is None or scale.size != 1 or zero.size != 1:
        return None
    number = float(scale.item())
    return Encoding(number, int(zero.item()), dtype) if np.isfinite(number) and number > 0 else None


def source_encoding(value: ir.Value | None) -> Encoding | None:
    """Encoding of a float that comes from a DequantizeLinear of run-time integers, maybe through layout operations."""
    node = value.producer() if value is not None else None
    if node is None or is_constant(value):
        return None
    if node.op_type not in SHARING:
        return encoding(node)
    cluster = _movable(node)
    return None if cluster is None else _common_encoding(cluster)


def _common_encoding(cluster: Cluster) -> Encoding | None:
    """The encoding that all operands of a layout operation have, if its result then has it too."""
    code = source_encoding(cluster.inputs[0])
    if code is None or not _pad_is_exact(cluster.core, code):
        return None
    return code if all(source_encoding(value) == code for value in cluster.inputs[1:]) else None


def move_to_integers(editor: Editor) -> None:
    """Put layout operations and max pooling on the integer side of their QDQ pairs; in place.

    ``DQ → op`` becomes ``op → DQ``, and ``op → Q`` becomes ``Q → op``; a Q of a DQ with the same parameters
    disappears.  Every value of the graph keeps its exact number.
    """
    for node in list(editor.graph):
        if (cluster := _movable(node)) is not None:
            _sink(editor, cluster)
    for node in reversed(list(editor.graph)):
        if (cluster := _movable(node)) is not None:
            _hoist(editor, cluster)
    for node in list(editor.graph):
        _cancel_pair(editor, node)


def integer_layout(graph: ir.Graph) -> list[ir.Node]:
    """Layout operations and max pooling on integers that the machine holds, in topological order."""
    held = {value for value in graph.inputs if value.dtype in DATA_TYPES}
    found: list[ir.Node] = []
    for node in graph:
        if node.domain == DOMAIN or (node.op_type == "QuantizeLinear" and encoding(node) is not None):
            held.update(node.outputs)
        elif not node.domain and (operator := BY_OP_TYPE.get(node.op_type)) is not None and operator.shares_scale:
            operands = node.inputs if node.op_type == "Concat" else node.inputs[:1]
            if held.issuperset(operands) and not operator.check(node):
                held.update(node.outputs)
                found.append(node)
    return found


def _movable(node: ir.Node) -> Cluster | None:
    cluster = match(node)
    return cluster if isinstance(cluster, Cluster) and cluster.operator.shares_scale else None


def _sink(editor: Editor, cluster: Cluster) -> None:
    """``op(DQ(q))`` → ``DQ(op(q))``, if all operands are encoded alike; what comes before it has sunk already."""
    node = cluster.core
    code = _common_encoding(cluster)
    if code is None:
        return
    pairs = [maker(value) for value in cluster.inputs]
    new = _integer_node(editor, node, [operand(dq, 0) for dq in pairs], code)
    editor.graph.insert_before(node, new)
    for old, integers in zip(node.outputs, new.outputs, strict=True):
        name = editor.fresh(f"{integers.name}_DequantizeLinear")
        dq = editor.node("DequantizeLinear", [integers, *pairs[0].inputs[1:]], like=old, name=name)
        editor.graph.insert_before(node, dq)
        take_over(old, dq.outputs[0])
    editor.graph.remove(node, safe=True)


def _hoist(editor: Editor, cluster: Cluster) -> None:
    """``Q(op(x))`` → ``op(Q(x))``, if nothing else sees the result and every Q is alike."""
    node = cluster.core
    users = [user for output in node.outputs for user in output.consumers()]
    code = encoding(users[0]) if users else None
    if code is None or any(output.is_graph_output() for output in node.outputs):
        return
    if any(user.op_type != "QuantizeLinear" or encoding(user) != code for user in users):
        return
    if sum(user.outputs[0].is_graph_output() for user in users) > 1:
        return  # one value cannot have two names
    integers: list[ir.Value] = []
    for value in cluster.inputs:
        name = editor.fresh(f"{value.name}_QuantizeLinear")
        q = editor.node("QuantizeLinear", [value, *users[0].inputs[1:]], like=value, dtype=code.dtype, name=name)
        editor.graph.insert_before(node, q)
        integers.append(q.outputs[0])
    new = _integer_node(editor, node, integers, code)
    editor.graph.insert_before(node, new)
    for old, made in zip(node.outputs, new.outputs, strict=True):
        for user in sorted(old.consumers(), key=lambda q: q.outputs[0].is_graph_output()):
            take_over(user.outputs[0], made)
            editor.graph.remove(user, safe=True)
    editor.graph.remove(node, safe=True)


def _integer_node(editor: Editor, node: ir.Node, integers: list[ir.Value], code: Encoding) -> ir.Node:
    """The same operation on integers."""
    outputs = [similar(value, editor.fresh(f"{value.name}_integer"), code.dtype) for value in node.outputs]
    for integers_of, value in zip(outputs, node.outputs, strict=True):
        integers_of.metadata_props[FLOAT] = value.name or ""
    parameters = list(node.inputs[len(integers) :])
    attributes = dict(node.attributes)
    if node.op_type == "Pad" and attribute(node, "mode", "constant") == "constant":
        fill = np.asarray(code.quantize(_pad_value(node)), code.dtype.numpy())
        parameters[1:2] = [editor.constant(fill, f"{node.name}_fill")]
    elif node.op_type == "Resize":
        before, after = static_shape(node.inputs[0]) or (), static_shape(node.outputs[0]) or ()
        factors = np.array([b / a for a, b in zip(before, after, strict=True)], np.float32)
        parameters = [None, editor.constant(factors, f"{node.name}_factors")]
        attributes = {attr.name: attr for attr in ir.convenience.convert_attributes(_REPEAT)}
    new = ir.Node(
        "",
        node.op_type,
        [*integers, *parameters],
        attributes.values(),
        outputs=outputs,
        name=node.name,
    )
    new.metadata_props[SOURCE] = sources([node])
    return new


_REPEAT = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
"""Attributes of a Resize by whole factors: each element is repeated."""


def _pad_value(node: ir.Node) -> float:
    value = constant_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    return 0.0 if value is None else float(value.item())


def _pad_is_exact(node: ir.Node, code: Encoding) -> bool:
    """Whether the padding value is a multiple of the scale in range, so that padding integers loses nothing."""
    if node.op_type != "Pad":
        return True
    value = _pad_value(node)
    return bool(np.float32(code.quantize(value) - code.zero_point) * np.float32(code.scale) == np.float32(value))


def _cancel_pair(editor: Editor, node: ir.Node) -> None:
    """``Q(DQ(q))`` with equal parameters is q: (q − z)·s / s rounds to q − z for 8-bit integers."""
    code = encoding(node)
    if node.op_type != "QuantizeLinear" or code is None or source_encoding(node.inputs[0]) != code:
        return
    output = node.outputs[0]
    if not output.is_graph_output():
        output.replace_all_uses_with(operand(maker(operand(node, 0)), 0))
        editor.graph.remove(node, safe=True)
