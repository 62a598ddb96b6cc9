"""Pass `partition`: every operation of the machine becomes one node, the rest stays with the host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from mmac.compiler.graph.bodies import DOMAIN, VERSION, declare
from mmac.compiler.graph.call import Call
from mmac.compiler.graph.clusters import Cluster, match
from mmac.compiler.graph.constants import is_constant
from mmac.compiler.graph.edit import SOURCE, Editor, maker, operand, remove_unused
from mmac.compiler.graph.integers import (
    FLOAT,
    SCALE,
    ZERO_POINT,
    encoding,
    integer_layout,
    move_to_integers,
    note_encoding,
    source_encoding,
)
from mmac.compiler.graph.layers import weight_refusal
from mmac.compiler.graph.operators import BY_KIND, TABLE
from mmac.compiler.graph.outline import Outline
from mmac.compiler.passes import Pass

UNIT, REASON = "mmac.unit", "mmac.reason"
"""Metadata keys of a node: ``array``, ``vector``, ``layout``, ``io`` or ``host``; why a node is on the host."""


@dataclass(frozen=True)
class Partition(Pass[ir.Model, ir.Model]):
    """Outline what the array and the vector unit compute.

    Needs: a QDQ model with its plan.

    Guarantees: every node has ``mmac.unit``.  Array and vector operations are single nodes of the domain ``mmac``
    on integer tensors, whose body is the float cluster they were; layout operations are ONNX operators on integer
    tensors; nodes on the host have ``mmac.reason``.  The results of the model do not change.

    Before: ``q2 = Q(Relu(Conv(DQ(q1), DQ(w), DQ(b))))``.
    After: ``q2 = mmac.Conv(q1, scale1, zero1, w, …, scale2, zero2)``.
    """

    name: ClassVar[str] = "partition"

    def apply(self, model: ir.Model, /) -> ir.Model:
        """The partitioned model."""
        result = model.clone()
        editor = Editor(result)
        # Overloads, one body per cluster, came with IR version 10.
        result.ir_version = max(result.ir_version, 10)
        result.opset_imports[DOMAIN] = VERSION
        move_to_integers(editor)
        reasons: dict[ir.Node, str] = {}
        for node in list(result.graph):
            if node.op_type == "QuantizeLinear" and node.domain == "":
                _outline(editor, node, reasons)
        remove_unused(result)
        layout = integer_layout(result.graph)
        for node in layout:
            if node.op_type == "MaxPool":
                _adopt_max_pool(result, node)
        _label(result, layout, reasons)
        _note_encodings(result)
        return result


def _outline(editor: Editor, q: ir.Node, reasons: dict[ir.Node, str]) -> None:
    """Outline the cluster that ends in the QuantizeLinear `q`, or note why not."""
    value = q.inputs[0]
    producer = value.producer() if value is not None else None
    if producer is None or value is None:
        return
    if encoding(q) is None:
        reasons[producer] = f"its result is quantized to {_dtype(q.outputs[0])}, not per tensor to 8 bits"
        return
    if producer.op_type == "DequantizeLinear":
        if source_encoding(value) is not None:
            Outline(editor, TABLE, q).build((), {value: "x"}, q.name or "")
        return
    cluster = match(producer)
    if isinstance(cluster, str):
        reasons[producer] = cluster
        return
    if cluster.operator.shares_scale:
        return  # what could move to the integers has moved
    if reason := _refusal(cluster, value):
        reasons.update(dict.fromkeys(cluster.nodes, reason))
        return
    roles = dict(zip(cluster.inputs, cluster.operator.roles, strict=False))
    if cluster.operator.unit == "array":
        roles.update(_constant_roles(cluster))
    call = Outline(editor, cluster.operator, q).build(cluster.nodes, roles, cluster.core.name or "")
    for key, text in cluster.core.metadata_props.items():
        if key.startswith("mmac.") and key != SOURCE:
            call.metadata_props[key] = text


def _constant_roles(cluster: Cluster) -> dict[ir.Value, str]:
    """Roles of weight and bias."""
    core = cluster.core
    roles = {core.inputs[1]: "w"}
    if len(core.inputs) > 2 and core.inputs[2] is not None:
        roles[core.inputs[2]] = "bias"
    for node in cluster.nodes:
        if node.op_type == "Add":
            roles.update({value: "bias" for value in node.inputs if is_constant(value)})
    return {value: role for value, role in roles.items() if value is not None}


def _refusal(cluster: Cluster, result: ir.Value) -> str:
    """Why a cluster, though its operators fit, cannot run on the machine."""
    for value in cluster.inputs:
        node = value.producer()
        if node is None or node.op_type != "DequantizeLinear":
            return f"operand {value.name!r} is not quantized"
        if encoding(node) is None:
            return f"operand {value.name!r} is {_dtype(node.inputs[0])}, or has no single positive scale"
    if result.is_graph_output() or any(user.op_type != "QuantizeLinear" for user in result.consumers()):
        return f"its result {result.name!r} is also used without being quantized"
    if cluster.operator.unit != "array":
        return ""
    for value, role in _constant_roles(cluster).items():
        if role == "bias" and (value.producer() is None or operand(maker(value), 0).dtype != ir.DataType.INT32):
            return f"bias {value.name!r} is not quantized to int32"
    return weight_refusal(cluster.core)


def _adopt_max_pool(model: ir.Model, node: ir.Node) -> None:
    """Max pooling of integers is the machine's own, with its four attributes and one result."""
    node.domain = DOMAIN
    node.resize_outputs(1)
    for name in set(node.attributes) - {"kernel_shape", "strides", "pads", "dilations"}:
        node.attributes.pop(name)
    declare(model, "MaxPool")


def _label(model: ir.Model, layout: Iterable[ir.Node], reasons: dict[ir.Node, str]) -> None:
    """Say for each node where it runs, and why not on the machine."""
    moved = set(layout)
    for node in model.graph:
        if node.domain == DOMAIN:
            node.metadata_props[UNIT] = BY_KIND[node.op_type].unit
        elif node in moved:
            node.metadata_props[UNIT] = "layout"
        elif _at_border(node):
            node.metadata_props[UNIT] = "io"
        else:
            node.metadata_props[UNIT] = "host"
            node.metadata_props[REASON] = reasons.get(node) or _why_host(node)


def _at_border(node: ir.Node) -> bool:
    """True for a conversion right after a graph input, or right before a graph output that nothing else reads."""
    if encoding(node) is None:
        return False
    if node.op_type == "QuantizeLinear":
        return node.inputs[0] is not None and node.inputs[0].is_graph_input()
    return node.outputs[0].is_graph_output() and not node.outputs[0].uses()


def _note_encodings(model: ir.Model) -> None:
    """Write on every integer value of the graph what its integers mean."""
    for node in model.graph:
        if node.op_type == "QuantizeLinear":
            node.outputs[0].metadata_props[FLOAT] = operand(node, 0).name or ""
        if (code := encoding(node)) is not None:
            note_encoding(operand(node, 0) if node.op_type == "DequantizeLinear" else node.outputs[0], code)
        elif node.domain == DOMAIN and node.overload:
            call = Call(node, model)
            note_encoding(node.outputs[0], call.encoding("y"))
            for role, value in zip(BY_KIND[node.op_type].roles, call.integers, strict=False):
                note_encoding(value, call.encoding(role))
    for nodes in (list(model.graph), list(reversed(model.graph))):
        for node in nodes:
            if BY_KIND.get(node.op_type, TABLE).shares_scale and node.metadata_props[UNIT] != "host":
                _share_encoding(node)


def _share_encoding(node: ir.Node) -> None:
    """What goes into a layout operation and what comes out of it means the same."""
    values = [value for value in (*node.inputs, *node.outputs) if value is not None and not value.is_initializer()]
    known = next((value.metadata_props for value in values if SCALE in value.metadata_props), None)
    if known is not None:
        for value in values:
            value.metadata_props.update({key: known[key] for key in (SCALE, ZERO_POINT)})


def _why_host(node: ir.Node) -> str:
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return "conversion between integers and a host operator"
    cluster = match(node)
    if isinstance(cluster, str):
        return cluster
    for value in cluster.inputs:
        if source_encoding(value) is None and not is_constant(value):
            return f"operand {value.name!r} is not integer: it comes from the host"
    if all(user.op_type != "QuantizeLinear" for output in node.outputs for user in output.consumers()):
        return f"its result {node.outputs[0].name!r} is not quantized"
    return _refusal(cluster, node.outputs[0]) or "its operands are not quantized"


def _dtype(value: ir.Value | None) -> str:
    return value.dtype.name.lower() if value is not None and value.dtype is not None else "of unknown type"
