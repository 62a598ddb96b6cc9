"""Weights and biases of array layers as integers, with the proof that their sums fit into int32."""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir

from mmac.compiler.graph.clusters import Cluster, match
from mmac.compiler.graph.constants import along, constant_of
from mmac.compiler.graph.edit import Array, Editor, attribute, only_user
from mmac.compiler.graph.integers import Encoding, clamp, encoding, source_encoding
from mmac.compiler.graph.qdq import dequantized_constant
from mmac.isa.errors import UnsupportedError
from mmac.isa.plan import MAX_BETA
from mmac.isa.terms import data_table, truncate_values

_BIAS_LIMIT = 2**29
"""Largest |bias|: leaves three quarters of the int32 range to the products."""

_TINY = np.float32(2.0**-60)


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
    cluster = match(node)
    if not isinstance(cluster, Cluster) or cluster.operator.unit != "array":
        return
    code = source_encoding(node.inputs[0])
    if code is None or node.inputs[1] is None:
        return
    input_scale = np.float32(code.scale)
    bias_node, bias_index = _bias_position(node)
    bias = bias_node.inputs[bias_index] if bias_node is not None else None
    axis = channel_axis(node)
    if node.inputs[1].producer() is None:
        if not weights:
            return
        _quantize_weights(editor, node, axis, input_scale, constant_of(bias))
    weight_scale = constant_of(node.inputs[1].producer().inputs[1])  # type: ignore[union-attr]
    if bias_node is not None and bias is not None and bias.producer() is None and weight_scale is not None:
        _quantize_bias(editor, bias_node, bias_index, input_scale * weight_scale)
    prove_sums(editor, node)


def channel_axis(node: ir.Node) -> int:
    """Axis of the output channels in the weights of an array layer."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)):
        return 0
    return 1


def _bias_position(node: ir.Node) -> tuple[ir.Node | None, int]:
    """Node and input index of the bias of an array layer."""
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        return node, 2
    user = only_user(node.outputs[0]) if node.op_type == "MatMul" else None
    if user is not None and user.op_type == "Add":
        cluster = match(user)
        if isinstance(cluster, Cluster) and cluster.core is node:
            return user, 1 if user.inputs[0] is node.outputs[0] else 0
    return None, 0


def _quantize_weights(editor: Editor, node: ir.Node, axis: int, input_scale: np.float32, bias: Array | None) -> None:
    weights = constant_of(node.inputs[1])
    if weights is None:
        return
    others = tuple(i for i in range(weights.ndim) if i != axis)
    peak = np.maximum(weights.max(axis=others), -weights.min(axis=others))
    # A channel with tiny weights and a large bias needs a coarser scale, or its bias would not fit.
    least = np.zeros_like(peak) if bias is None else np.abs(bias).reshape(-1) / input_scale / np.float32(_BIAS_LIMIT)
    scale = np.maximum(np.maximum(peak / np.float32(127), least), _TINY).astype(np.float32)
    scale[np.maximum(peak, least * 127) <= _TINY] = 1
    integers = np.rint(weights / along(scale, weights.ndim, axis)).astype(np.int8)
    dq = dequantized_constant(
        editor, integers, scale, node.inputs[1].name or "weight", zero_point=np.zeros(scale.shape, np.int8), axis=axis
    )
    editor.graph.insert_before(node, dq)
    node.replace_input_with(1, dq.outputs[0])


def _quantize_bias(editor: Editor, node: ir.Node, index: int, scale: Array) -> None:
    value = node.inputs[index]
    bias = constant_of(value)
    if bias is None or value is None:
        return
    scale = np.broadcast_to(scale.astype(np.float32), bias.shape) if scale.size == 1 else scale.astype(np.float32)
    steps = np.rint(bias.astype(np.float64) / scale)
    if (np.abs(steps) > 2**31 - 1).any():
        channel = int(np.argmax(np.abs(steps)))
        raise UnsupportedError(
            f"node {node.name!r}, output channel {channel}",
            f"a bias of {bias[channel]:g} is {steps[channel]:.3g} steps of the accumulator",
            "within int32",
            "quantize the model again with larger weight scales for this channel",
        )
    dq = dequantized_constant(editor, steps.astype(np.int32), np.ascontiguousarray(scale), value.name or "bias", axis=0)
    editor.graph.insert_before(node, dq)
    node.replace_input_with(index, dq.outputs[0])


def prove_sums(editor: Editor, node: ir.Node) -> None:
    """Make sure that no level can make a sum of an array layer leave int32.

    A channel whose bias alone reaches the limits of int32, as quantizers give to channels with next to no weights,
    has the same result whatever the data are; then its weights become 0, in place, and the sum cannot overflow.

    Raises:
        UnsupportedError: a channel whose result depends on sums that could overflow (names node and channel).
    """
    layer = _find_layer(node)
    if layer is None:
        return
    dq, integers, bias, data = layer
    axis = channel_axis(node)
    magnitude = worst_magnitudes()[integers.view(np.uint8)] if integers.dtype == np.int8 else np.uint8(255)
    others = tuple(i for i in range(integers.ndim) if i != axis)
    reach = np.broadcast_to(magnitude, integers.shape).sum(axis=others, dtype=np.int64) * _largest_data(data)
    risky = np.abs(bias) + reach >= 2**31
    if not risky.any():
        return
    fixed = _is_fixed(node, bias - reach, bias + reach)
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
    dq.replace_input_with(0, editor.constant(zeroed, f"{dq.inputs[0].name}_safe"))  # type: ignore[union-attr]


def _find_layer(node: ir.Node) -> tuple[ir.Node, Array, Array, Encoding] | None:
    """DequantizeLinear of the weights, integer weights, integer bias [O] and encoding of the data of a layer."""
    dq = node.inputs[1].producer() if node.inputs[1] is not None else None
    data = source_encoding(node.inputs[0])
    integers = constant_of(dq.inputs[0]) if dq is not None and dq.op_type == "DequantizeLinear" else None
    if dq is None or integers is None or data is None or integers.dtype not in (np.int8, np.uint8):
        return None
    bias_node, index = _bias_position(node)
    bias_dq = bias_node.inputs[index].producer() if bias_node is not None else None  # type: ignore[union-attr]
    bias = constant_of(bias_dq.inputs[0]) if bias_dq is not None else None
    channels = integers.shape[channel_axis(node)]
    wide = np.zeros(channels, np.int64) if bias is None else np.broadcast_to(bias.astype(np.int64), channels)
    return dq, integers, wide, data


def _largest_data(code: Encoding) -> int:
    """Largest magnitude of a data value at any level."""
    tables = [data_table(code.zero_point, code.dtype == ir.DataType.INT8, beta) for beta in range(1, MAX_BETA + 1)]
    return max(int(np.abs(table).max()) for table in tables)


def _is_fixed(node: ir.Node, low: Array, high: Array) -> Array:
    """For each channel, whether all sums from `low` to `high` give the same result."""
    nothing = np.zeros(low.shape, np.bool_)
    last = node
    while (user := only_user(last.outputs[0])) is not None and user.op_type in ("Add", "Relu", "Clip"):
        last = user
    cluster = match(last)
    code = encoding(user)
    data = source_encoding(node.inputs[0])
    scale = constant_of(node.inputs[1].producer().inputs[1])  # type: ignore[union-attr]
    if not isinstance(cluster, Cluster) or cluster.core is not node or code is None or data is None or scale is None:
        return nothing
    ratio = np.float32(data.scale) * scale.reshape(-1).astype(np.float32) / np.float32(code.scale)
    bounds = np.array(clamp(cluster.tail, code, constant_of)) - code.zero_point
    first, second = (np.clip(np.rint(sums.astype(np.float32) * ratio), *bounds) for sums in (low, high))
    return np.asarray(first == second)


@functools.cache
def worst_magnitudes() -> Array:
    """uint8 [256]: the largest magnitude that truncation can give an int8 weight, indexed by its raw byte."""
    values = np.arange(256).astype(np.uint8).view(np.int8).astype(np.int16)
    truncated = [np.abs(truncate_values(values, beta)) for beta in range(1, MAX_BETA + 1)]
    return np.max(truncated, axis=0).astype(np.uint8)
