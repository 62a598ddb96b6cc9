"""The array layers of a QDQ model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.clusters import Cluster, match
from mmac.compiler.graph.constants import constant_of, minus_zero_point
from mmac.compiler.graph.edit import Array, attribute, maker, operand
from mmac.compiler.graph.integers import source_encoding
from mmac.compiler.graph.weights import channel_axis
from mmac.isa.plan import MAX_BETA, Level
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
        and source_encoding(node.inputs[0]) is not None
        and not weight_refusal(node)
    )


def _reached(graph: ir.Graph, starts: set[ir.Node], *, forward: bool) -> set[ir.Node]:
    """Nodes that are downstream (or upstream) of one of `starts`, not counting itself."""
    reached: set[ir.Node] = set()
    for node in graph if forward else reversed(graph):
        neighbours = node.predecessors() if forward else node.successors()
        if any(other in reached or other in starts for other in neighbours):
            reached.add(node)
    return reached


def weight_rows(node: ir.Node) -> Array:
    """Integer weights of an array layer as the array sees them: [output channels, K], the reduction axis flattened."""
    weights = integer_weights(node)
    if node.op_type == "Conv":
        return np.moveaxis(weights, 1, -1).reshape(len(weights), -1)
    return weights if channel_axis(node) == 0 else np.ascontiguousarray(weights.T)


def weight_scale(node: ir.Node, channels: int) -> Array:
    """Scale of the weights of each output channel."""
    scale = constant_of(operand(maker(operand(node, 1)), 1))
    return np.broadcast_to(np.float32(1) if scale is None else scale.reshape(-1), (channels,))


def full_level(layer: ArrayLayer) -> Level:
    """The budgets at which this layer drops nothing: the terms of its largest group and of its largest datum."""
    return Level(max(1, int(group_term_count(weight_rows(layer.node)).max(initial=1))), full_beta(layer.node))


def full_beta(node: ir.Node) -> int:
    """The data budget at which a layer drops nothing: the terms of its largest datum."""
    code = source_encoding(operand(node, 0))
    if code is None:
        return MAX_BETA
    values = data_table(code.zero_point, code.dtype == ir.DataType.INT8, MAX_BETA)
    return int(term_count(values).max(initial=1))


def integer_weights(node: ir.Node) -> Array:
    """Weights of an array layer minus their zero point, in the node's own layout."""
    dq = maker(operand(node, 1))
    integers = constant_of(operand(dq, 0))
    if integers is None:
        raise ValueError(f"node {node.name} has no constant weights")
    zero = constant_of(dq.inputs[2]) if len(dq.inputs) > 2 else None
    return minus_zero_point(integers, zero, attribute(dq, "axis", 1))


def weight_refusal(node: ir.Node) -> str:
    """Why the array cannot hold the weights of a Conv, Gemm or MatMul (an empty string if it can)."""
    dq = operand(node, 1).producer()
    if dq is None or dq.op_type != "DequantizeLinear":
        return f"weights {operand(node, 1).name!r} are not quantized"
    scale, dtype = constant_of(operand(dq, 1)), operand(dq, 0).dtype
    if scale is None or attribute(dq, "block_size", 0) or scale.ndim > 1:
        return "block-quantized weights"
    rank = len(static_shape(operand(node, 1)) or ())
    if scale.size > 1 and attribute(dq, "axis", 1) % rank != channel_axis(node):
        return "weight scales along another axis than the output channels"
    if dtype not in (ir.DataType.INT8, ir.DataType.UINT8):
        return f"weights are {dtype.name.lower() if dtype else 'of unknown type'}, not int8 or uint8"
    weights = integer_weights(node)
    low, high = int(weights.min()), int(weights.max())
    return "" if low >= -128 and high <= 127 else f"weights minus their zero point reach {low}…{high}, not -128…127"
