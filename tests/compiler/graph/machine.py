"""The exact semantics of the machine in plain numpy, written from design.md §2 and from nothing in the compiler.

Integers are int64, floats binary32, every operation rounded; this is the oracle of the bodies in ``mmac`` functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from tests.compiler.graph.small import Array

F = np.float32


def evaluate(model: ir.Model, inputs: dict[str, Array]) -> dict[str, Array]:
    """Every value of the graph of a model after `terms`."""
    values: dict[str, Array] = dict(inputs)
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        values[name] = value.const_value.numpy()
    for node in model.graph:
        operands = [None if v is None else values[v.name or ""] for v in node.inputs]
        attributes = {key: attr.value for key, attr in node.attributes.items()}
        if node.domain == "mmac":
            results = [_OPERATORS[node.op_type](*operands, **attributes)]
        else:
            results = _onnx(node, operands, model.opset_imports[""])
        values.update({v.name or "": result for v, result in zip(node.outputs, results, strict=True)})
    return values


def requantize(product: Array, y_zero_point: int, y_min: int, y_max: int, y_type: int) -> Array:
    """y = clamp(zero + rint(product)), computed without any chance of overflow."""
    rounded = np.rint(product.astype(F)).astype(np.float64)
    dtype = np.uint8 if y_type == onnx.TensorProto.UINT8 else np.int8
    return np.clip(rounded + y_zero_point, y_min, y_max).astype(dtype)


def data_values(x: Array, data_table: Array, digit_weights: tuple[int, ...]) -> Array:
    """Data values of raw bytes: the digits of the table put together."""
    table = sum(weight * row.astype(np.int64) for weight, row in zip(digit_weights, data_table, strict=True))
    return np.asarray(table)[x.view(np.uint8)]


def windows(x: Array, kernel: Any, strides: Any, pads: Any, dilations: Any, fill: float) -> Array:
    """[N, C, out…, kernel…]: the windows that a kernel sees."""
    rank = len(kernel)
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)], constant_values=fill)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(2, 2 + rank)))
    stepped: Any = (slice(None), slice(None), *(slice(None, None, s) for s in strides))
    spread: Any = (..., *(slice(None, None, d) for d in dilations))
    return view[stepped][spread]


def conv(
    x: Array,
    data_table: Array,
    w: Array,
    bias: Array,
    scale: Array,
    *,
    kernel_shape: Any,
    strides: Any,
    pads: Any,
    dilations: Any,
    group: int,
    digit_weights: Any,
    x_zero_point: int,
    **result: int,
) -> Array:
    """Sums of products of data and weights, and their requantization."""
    data = data_values(x, data_table, digit_weights)
    seen = windows(data, kernel_shape, strides, pads, dilations, 0)
    rank = len(kernel_shape)
    parts = []
    for data_part, weights in zip(np.split(seen, group, 1), np.split(w.astype(np.int64), group, 0), strict=True):
        axes = [1, *range(2 + rank, 2 + 2 * rank)]
        parts.append(np.moveaxis(np.tensordot(data_part, weights, (axes, list(range(1, 2 + rank)))), -1, 1))
    acc = np.concatenate(parts, 1) + bias.astype(np.int64).reshape(-1, *[1] * rank)
    assert np.abs(acc).max() < 2**31
    return requantize(acc.astype(F) * scale.reshape(-1, *[1] * rank), **result)


def matmul(
    x: Array,
    data_table: Array,
    w: Array,
    bias: Array,
    scale: Array,
    *,
    digit_weights: Any,
    x_zero_point: int,
    **result: int,
) -> Array:
    """[…, K] times [K, N]."""
    acc = data_values(x, data_table, digit_weights) @ w.astype(np.int64) + bias
    assert np.abs(acc).max() < 2**31
    return requantize(acc.astype(F) * scale, **result)


def add(
    a: Array, b: Array, *, a_zero_point: int, b_zero_point: int, a_ratio: float, b_ratio: float, **result: int
) -> Array:
    """Two products and their sum, each rounded to binary32."""
    first = (a.astype(np.int64) - a_zero_point).astype(F) * F(a_ratio)
    second = (b.astype(np.int64) - b_zero_point).astype(F) * F(b_ratio)
    return requantize(first + second, **result)


def mul(a: Array, b: Array, *, a_zero_point: int, b_zero_point: int, scale: float, **result: int) -> Array:
    """An exact integer product, then one scale."""
    product = (a.astype(np.int64) - a_zero_point) * (b.astype(np.int64) - b_zero_point)
    return requantize(product.astype(F) * F(scale), **result)


def average_pool(
    x: Array,
    count: Array,
    *,
    kernel_shape: Any,
    strides: Any,
    pads: Any,
    count_include_pad: int,
    x_zero_point: int,
    scale: float,
    **result: int,
) -> Array:
    """An exact integer sum of the in-bounds taps, then scale / count."""
    ones = [1] * len(kernel_shape)
    inner = tuple(range(-len(kernel_shape), 0))
    centred = x.astype(np.int64) - x_zero_point
    total = windows(centred, kernel_shape, strides, pads, ones, 0).sum(axis=inner)
    inside = windows(np.ones_like(centred), kernel_shape, strides, pads, ones, int(count_include_pad)).sum(axis=inner)
    return requantize(total.astype(F) * (F(scale) / inside.astype(F)), **result)


def max_pool(x: Array, *, kernel_shape: Any, strides: Any, pads: Any, dilations: Any) -> Array:
    """Largest in-bounds tap."""
    seen = windows(x.astype(np.int64), kernel_shape, strides, pads, dilations, -1000)
    return seen.max(axis=tuple(range(-len(kernel_shape), 0))).astype(x.dtype)


def table(x: Array, entries: Array) -> Array:
    """Entry of the raw byte."""
    return entries[x.view(np.uint8)]


_OPERATORS: dict[str, Callable[..., Array]] = {
    "Conv": conv,
    "MatMul": matmul,
    "Add": add,
    "Mul": mul,
    "AveragePool": average_pool,
    "MaxPool": max_pool,
    "Table": table,
}


def _onnx(node: ir.Node, operands: list[Array | None], opset: int) -> list[Array]:
    """A plain ONNX node through onnx's own reference implementation."""
    proto = ir.serde.serialize_node(node)
    names = [v.name or "" for v in node.inputs if v is not None]
    given = {v.name or "": array for v, array in zip(node.inputs, operands, strict=True) if v is not None}
    graph = onnx.helper.make_graph(
        [proto],
        "one",
        [onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names)],
        [onnx.helper.make_empty_tensor_value_info(v.name or "") for v in node.outputs],
    )
    if node.op_type == "DequantizeLinear":
        opset = max(opset, 19)  # the first that the reference has
    single = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return [np.asarray(result) for result in ReferenceEvaluator(single).run(None, given)]
