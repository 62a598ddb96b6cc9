"""Pass `partition`: every operation of the machine becomes one node, the rest stays with the host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from mmac.compiler.graph.bodies import DOMAIN, VERSION, declare
from mmac.compiler.graph.clusters import Cluster, match
from mmac.compiler.graph.constants import constant_of, is_constant
from mmac.compiler.graph.edit import SOURCE, Editor, attribute, remove_unused
from mmac.compiler.graph.integers import encoding, move_to_integers, source_encoding
from mmac.compiler.graph.operators import BY_KIND, TABLE
from mmac.compiler.graph.outline import Outline
from mmac.compiler.graph.weights import channel_axis
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
        layout = move_to_integers(editor)
        if any(node.op_type == "MaxPool" for node in layout):
            declare(result, "MaxPool")
        reasons: dict[ir.Node, str] = {}
        for node in list(result.graph):
            if node.op_type == "QuantizeLinear" and node.domain == "":
                _outline(editor, node, reasons)
        remove_unused(result)
        _label(result, layout, reasons)
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
            return f"operand {value.name!r} is {_dtype(node.inputs[0])}, or has several scales"
    if result.is_graph_output() or any(user.op_type != "QuantizeLinear" for user in result.consumers()):
        return f"its result {result.name!r} is also used without being quantized"
    return _weight_refusal(cluster) if cluster.operator.unit == "array" else ""


def _weight_refusal(cluster: Cluster) -> str:
    for value, role in _constant_roles(cluster).items():
        dq = value.producer()
        if dq is None or dq.op_type != "DequantizeLinear":
            return f"{'weights' if role == 'w' else 'bias'} {value.name!r} not quantized"
        if role == "bias" and dq.inputs[0].dtype != ir.DataType.INT32:  # type: ignore[union-attr]
            return f"bias {value.name!r} is {_dtype(dq.inputs[0])}, not int32"
    dq = cluster.core.inputs[1].producer()  # type: ignore[union-attr]
    integers, scale, *zeros = (constant_of(value) for value in dq.inputs if value is not None)  # type: ignore[union-attr]
    if integers is None or scale is None or attribute(dq, "block_size", 0):  # type: ignore[arg-type]
        return "block-quantized weights"
    axis = attribute(dq, "axis", 1) % integers.ndim  # type: ignore[arg-type]
    if scale.size > 1 and axis != channel_axis(cluster.core):
        return "weight scales along another axis than the output channels"
    low, high = int(integers.min()), int(integers.max())
    for zero in zeros:
        if zero is not None and zero.size > 1 and zero.any():
            others = tuple(i for i in range(integers.ndim) if i != axis)
            wide = integers.astype(np.int32)
            low = int((wide.min(axis=others) - zero).min())
            high = int((wide.max(axis=others) - zero).max())
        elif zero is not None:
            shift = int(zero.reshape(-1)[0])
            low, high = low - shift, high - shift
    return "" if low >= -128 and high <= 127 else f"weights minus their zero point reach {low}…{high}, not −128…127"


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
    """True for a conversion right after a graph input or right before a graph output."""
    if encoding(node) is None:
        return False
    if node.op_type == "QuantizeLinear":
        return node.inputs[0] is not None and node.inputs[0].is_graph_input()
    return node.outputs[0].is_graph_output()


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
