"""Weights and biases of array layers as integers, with the proof that their sums fit into int32."""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir

from mmac.compiler.graph.clusters import Cluster, match
from mmac.compiler.graph.constants import along, constant_of
from mmac.compiler.graph.edit import Array, Editor, attribute, maker, only_user, operand
from mmac.compiler.graph.integers import Encoding, clamp, encoding, source_encoding
from mmac.compiler.graph.qdq import dequantized_constant
from mmac.isa.errors import UnsupportedError
from mmac.isa.plan import MAX_BETA
from mmac.isa.terms import data_table, truncate_values

_BIAS_LIMIT = 2**29
"""Largest |bias|: leaves three quarters of the int32 range to the products."""

_TINY = np.float32(2.0**-60)
"""Channels with smaller weights and bias count as zero."""


def quantize_layer(editor: Editor, node: ir.Node, *, weights: bool) -> None:
    """Replace float weights and bias of `node` by DequantizeLinear of integers, in place, and prove that sums fit.

    Nothing happens unless the node is an array layer whose input comes out of a DequantizeLinear.

    Args:
        editor: of the graph that changes.
        node: any node.
        weights: whether float weights are quantized; a user's QDQ model keeps those that it left float.

    Raises:
        UnsupportedError: the sum of an output channel could overflow int32.
    """
    cluster, code = match(node), source_encoding(node.inputs[0])
    if not isinstance(cluster, Cluster) or cluster.operator.unit != "array" or code is None:
        return
    bias = _bias_position(node)
    if operand(node, 1).producer() is None:
        if not weights:
            return
        _quantize_weights(editor, node, code, None if bias is None else constant_of(operand(*bias)))
    if bias is not None and operand(*bias).producer() is None:
        _quantize_bias(editor, node, code, *bias)
    _prove_sums(editor, node, code)


def channel_axis(node: ir.Node) -> int:
    """Axis of the output channels in the weights of an array layer."""
    return 0 if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)) else 1


def _bias_position(node: ir.Node) -> tuple[ir.Node, int] | None:
    """Node and input index of the bias of an array layer."""
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        return node, 2
    user = only_user(node.outputs[0]) if node.op_type == "MatMul" else None
    if user is not None and user.op_type == "Add":
        cluster = match(user)
        if isinstance(cluster, Cluster) and cluster.core is node:
            return user, 1 if user.inputs[0] is node.outputs[0] else 0
    return None


def _quantize_weights(editor: Editor, node: ir.Node, code: Encoding, bias: Array | None) -> None:
    weights, axis = constant_of(operand(node, 1)), channel_axis(node)
    if weights is None:
        return
    others = tuple(i for i in range(weights.ndim) if i != axis)
    peak = np.maximum(weights.max(axis=others), -weights.min(axis=others))
    # A channel with tiny weights and a large bias needs a coarser scale, or its bias would not fit.
    least = np.zeros_like(peak) if bias is None else np.abs(bias).reshape(-1) / np.float32(code.scale * _BIAS_LIMIT)
    scale = np.maximum(peak / np.float32(127), least).astype(np.float32)
    scale[scale <= _TINY] = 1
    integers = np.rint(weights / along(scale, weights.ndim, axis)).astype(np.int8)
    zero_point = np.zeros(scale.shape, np.int8)
    base = operand(node, 1).name or "weight"
    dq = dequantized_constant(editor, integers, scale, base, zero_point=zero_point, axis=axis)
    editor.graph.insert_before(node, dq)
    node.replace_input_with(1, dq.outputs[0])


def _quantize_bias(editor: Editor, layer: ir.Node, code: Encoding, node: ir.Node, index: int) -> None:
    value = operand(node, index)
    bias, weight_scale = constant_of(value), constant_of(operand(maker(operand(layer, 1)), 1))
    if bias is None or weight_scale is None or weight_scale.size not in (1, bias.size):
        return
    scale = np.broadcast_to(np.float32(code.scale) * weight_scale.reshape(-1), bias.shape).astype(np.float32)
    steps = np.rint(bias.astype(np.float64) / scale)
    if (np.abs(steps) >= 2**31).any():
        channel = int(np.argmax(np.abs(steps)))
        raise UnsupportedError(
            f"node {layer.name!r}, output channel {channel}",
            f"a bias of {bias[channel]:g} is {steps[channel]:.3g} steps of the accumulator",
            "within int32",
            "quantize the model again with larger weight scales for this channel",
        )
    dq = dequantized_constant(editor, steps.astype(np.int32), scale, value.name or "bias", axis=0)
    editor.graph.insert_before(node, dq)
    node.replace_input_with(index, dq.outputs[0])


def _prove_sums(editor: Editor, node: ir.Node, data: Encoding) -> None:
    """Make sure that no level can make a sum of an array layer leave int32.

    A channel whose bias alone reaches the limits of int32, as quantizers give to channels with next to no weights,
    has the same result whatever the data are; then its weights become 0, in place, and the sum cannot overflow.

    Raises:
        UnsupportedError: a channel whose result depends on sums that could overflow (names node and channel).
    """
    dq, axis = maker(operand(node, 1)), channel_axis(node)
    integers = constant_of(operand(dq, 0))
    if integers is None or integers.dtype not in (np.int8, np.uint8):
        return
    magnitude = worst_magnitudes()[integers.view(np.uint8)] if integers.dtype == np.int8 else np.uint8(255)
    others = tuple(i for i in range(integers.ndim) if i != axis)
    reach = np.broadcast_to(magnitude, integers.shape).sum(axis=others, dtype=np.int64) * _largest_data(data)
    bias = _integer_bias(node, len(reach))
    risky = np.abs(bias) + reach >= 2**31
    if not risky.any():
        return
    fixed = _is_fixed(node, data, bias - reach, bias + reach)
    if (channels := np.flatnonzero(risky & ~fixed)).size:
        channel = int(channels[0])
        raise UnsupportedError(
            f"node {node.name!r}, output channel {channel}",
            f"its sum can reach {int(np.abs(bias[channel]) + reach[channel])}",
            "less than 2^31, so that int32 cannot overflow",
            "split the reduction axis of this layer, or use smaller weights",
        )
    zeroed = integers.copy()
    zeroed[(slice(None),) * axis + (risky,)] = 0
    dq.replace_input_with(0, editor.constant(zeroed, f"{operand(dq, 0).name}_safe"))


def _integer_bias(node: ir.Node, channels: int) -> Array:
    """Bias int64 [channels] of an array layer, as it is stored behind its DequantizeLinear."""
    position = _bias_position(node)
    dq = operand(*position).producer() if position is not None else None
    integers = constant_of(dq.inputs[0]) if dq is not None else None
    return np.broadcast_to(np.int64(0) if integers is None else integers.astype(np.int64), (channels,))


def _largest_data(code: Encoding) -> int:
    """Largest magnitude of a data value at any level."""
    tables = [data_table(code.zero_point, code.dtype == ir.DataType.INT8, beta) for beta in range(1, MAX_BETA + 1)]
    return max(int(np.abs(table).max()) for table in tables)


def _is_fixed(node: ir.Node, data: Encoding, low: Array, high: Array) -> Array:
    """For each channel, whether all sums from `low` to `high` give the same result."""
    last, user = node, only_user(node.outputs[0])
    while user is not None and user.op_type in ("Add", "Relu", "Clip"):
        last, user = user, only_user(user.outputs[0])
    cluster, code = match(last), encoding(user)
    scale = constant_of(operand(maker(operand(node, 1)), 1))
    if not isinstance(cluster, Cluster) or cluster.core is not node or code is None or scale is None:
        return np.zeros(low.shape, np.bool_)
    ratio = np.float32(data.scale) * scale.reshape(-1).astype(np.float32) / np.float32(code.scale)
    bounds = np.array(clamp(cluster.tail, code, constant_of)) - code.zero_point
    first, second = (np.clip(np.rint(sums.astype(np.float32) * ratio), *bounds) for sums in (low, high))
    return np.asarray(first == second)


@functools.cache
def worst_magnitudes() -> Array:
    """uint8 [256]: the largest magnitude that truncation can give an int8 weight, indexed by its raw byte."""
    values = np.arange(256).astype(np.uint8).view(np.int8).astype(np.int16)
    truncated = [np.abs(truncate_values(values, beta)) for beta in range(1, MAX_BETA + 1)]
    magnitudes: Array = np.max(truncated, axis=0).astype(np.uint8)
    return magnitudes
