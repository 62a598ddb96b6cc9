"""The array layers of a QDQ model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mmac.compiler.graph.clusters import Cluster, match
from mmac.compiler.graph.constants import along, constant_of
from mmac.compiler.graph.edit import Array, attribute
from mmac.compiler.graph.weights import channel_axis
from mmac.isa.plan import Level
from mmac.isa.terms import data_table, group_term_count, term_count


@dataclass(frozen=True)
class ArrayLayer:
    """A Conv, Gemm or MatMul that the array computes.

    Attributes:
        node: the ONNX node, which carries the budgets.
        at_edge: no array layer is upstream of it, or none downstream.
    """

    node: ir.Node
    at_edge: bool

    @property
    def name(self) -> str:
        """Name of the layer: that of its node."""
        return self.node.name or ""


def array_layers(graph: ir.Graph) -> list[ArrayLayer]:
    """Array layers of a QDQ graph in topological order."""
    nodes = [node for node in graph if is_array_layer(node)]
    inside = set(nodes)
    after = _reached(graph, inside, forward=True)
    before = _reached(graph, inside, forward=False)
    return [ArrayLayer(node, at_edge=node not in after or node not in before) for node in nodes]


def is_array_layer(node: ir.Node) -> bool:
    """True for a Conv, Gemm or MatMul on quantized data with quantized weights."""
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return False
    cluster = match(node)
    return (
        isinstance(cluster, Cluster)
        and cluster.operator.unit == "array"
        and all(_dequantized(value) for value in node.inputs[:2])
    )


def _dequantized(value: ir.Value | None) -> bool:
    producer = value.producer() if value is not None else None
    return producer is not None and producer.op_type == "DequantizeLinear"


def _reached(graph: ir.Graph, starts: set[ir.Node], *, forward: bool) -> set[ir.Node]:
    """Nodes that are downstream (or upstream) of one of `starts`, not counting itself."""
    reached: set[ir.Node] = set()
    for node in graph if forward else reversed(graph):
        neighbours = node.predecessors() if forward else node.successors()
        if any(other in reached or other in starts for other in neighbours):
            reached.add(node)
    return reached


def full_level(layer: ArrayLayer) -> Level:
    """The budgets at which this layer drops nothing: the terms of its largest group and of its largest datum."""
    integers, axis = integer_weights(layer.node)
    alpha = int(group_term_count(reduction_last(integers, layer.node.op_type, axis)).max(initial=1))
    dq = layer.node.inputs[0].producer()  # type: ignore[union-attr]
    quantized = dq.inputs[0]  # type: ignore[union-attr]
    zero = constant_of(dq.inputs[2]) if len(dq.inputs) > 2 else None  # type: ignore[union-attr]
    signed = quantized is not None and quantized.dtype == ir.DataType.INT8
    values = data_table(0 if zero is None else int(zero.item()), signed, 9)
    return Level(max(alpha, 1), max(int(term_count(values).max()), 1))


def integer_weights(node: ir.Node) -> tuple[Array, int]:
    """Weights of an array layer minus their zero point (int16), and the axis of the output channels."""
    dq = node.inputs[1].producer()  # type: ignore[union-attr]
    integers, *rest = (constant_of(value) for value in dq.inputs if value is not None)  # type: ignore[union-attr]
    axis = channel_axis(node)
    wide = integers.astype(np.int16)  # type: ignore[union-attr]
    if len(rest) > 1 and rest[1] is not None and rest[1].any():
        wide = wide - along(rest[1].astype(np.int16), wide.ndim, attribute(dq, "axis", 1))  # type: ignore[arg-type]
    return wide, axis


def reduction_last(weights: Array, op_type: str, axis: int) -> Array:
    """[O, K]: one row per output channel, the reduction axis in the order (kernel row, kernel column, channel)."""
    if op_type == "Conv":
        return np.moveaxis(weights, 1, -1).reshape(weights.shape[0], -1)
    return weights.T if axis == 1 else weights
