"""How the call of each outlined cluster becomes a call of its exact body: operands and attributes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.budget import ALPHA, BETA
from mmac.compiler.graph.call import Call
from mmac.compiler.graph.constants import along
from mmac.compiler.graph.edit import Array, attribute
from mmac.compiler.graph.group_budgets import limits_of
from mmac.compiler.graph.level_constants import BIAS, SCALE, from_metadata
from mmac.isa.errors import UnsupportedError
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.terms import data_table, truncate_groups

_EXACT = 2**24
"""Integers below it are exact in binary32, and so is every partial sum of a sum whose magnitudes add up to less."""

_RADIX = {1: 512, 2: 16, 3: 8, 4: 4, 9: 2}
"""Digits that a data value (−256…256) can be split into, and their radix."""


@dataclass(frozen=True)
class Exact:
    """What the exact body takes beside the integer operands: arrays by name, in order, and attributes."""

    arrays: dict[str, Array]
    attributes: dict[str, Any]


Rewrite = Callable[[Call, int], Exact]
"""Of a call, at the level of this index."""


def _conv(call: Call, level: int) -> Exact:
    products = _products(call, level)
    return Exact(products.arrays, {**window(call), **products.attributes})


def window(call: Call) -> dict[str, Any]:
    """Attributes of a convolution that say where its windows lie."""
    core = call.core("Conv")
    kernel = attribute(core, "kernel_shape", list(call.required("w").shape[2:]))
    rank = len(kernel)
    return {
        "kernel_shape": kernel,
        "strides": attribute(core, "strides", [1] * rank),
        "pads": attribute(core, "pads", [0] * 2 * rank),
        "dilations": attribute(core, "dilations", [1] * rank),
        "group": attribute(core, "group", 1),
    }


def _products(call: Call, level: int) -> Exact:
    """Of an array layer: its weights as rows [O, K] are truncated, and its scales become one float per channel."""
    beta = int(call.node.metadata_props[BETA].split(",")[level])
    x, y, weights = call.encoding("x"), call.output(), call.weights()
    if call.node.op_type == "Conv":
        spread = np.moveaxis(weights, 1, -1)
        rows = _truncated(call, spread.reshape(len(spread), -1), level)
        terms = np.moveaxis(rows.reshape(spread.shape), -1, 1)
    else:
        rows = _truncated(call, np.ascontiguousarray(weights.T), level)
        terms = rows.T
    sums = np.abs(rows).sum(axis=1, dtype=np.int64)
    digits = split_data(data_table(x.zero_point, x.dtype == ir.DataType.INT8, beta), int(sums.max(initial=0)))
    product_scale = np.broadcast_to(np.float32(x.scale) * call.required("w_scale").reshape(-1), len(rows))
    arrays = {
        "data_table": digits.astype(np.float32),
        "terms": terms.astype(np.int8 if rows.max(initial=0) <= 127 else np.int16, copy=False),
        "bias": call.bias(product_scale),
        "scale": _finite(call, product_scale / np.float32(y.scale)),
    }
    for key, name in ((BIAS, "bias"), (SCALE, "scale")):
        of_levels = from_metadata(call.node, key, call.node.metadata_props[ALPHA].count(",") + 1, len(rows))
        if of_levels is not None:
            arrays[name] = of_levels[level]
    radix = _RADIX[len(digits)]
    weights_of_digits = [radix**position for position in range(len(digits))]
    return Exact(arrays, {"digit_weights": weights_of_digits, "x_zero_point": x.zero_point, **y.attributes()})


def _truncated(call: Call, rows: Array, level: int) -> Array:
    """Weights [O, K] with the terms that the level keeps."""
    alphas = call.node.metadata_props[ALPHA].split(",")
    limits = limits_of(call.node, len(alphas), len(rows), -(-rows.shape[1] // GROUP_SIZE))
    return truncate_groups(rows, int(alphas[level]) if limits is None else limits[level])


def split_data(table: Array, largest_sum: int) -> Array:
    """A data table [256] as rows of digits [P, 256], the fewest with which every sum of products is exact.

    Args:
        table: data value of each byte, −256…256.
        largest_sum: of the magnitudes of the weights of one output channel, below 2^23.

    Returns:
        Row p has the digit of weight radix^p; the last row is signed and the others are not.
    """
    rows: list[Array] = []
    for count, radix in _RADIX.items():
        rest = table.astype(np.int64)
        rows = []
        for _ in range(count - 1):
            rows.append(rest % radix)
            rest = rest // radix
        rows.append(rest)
        if largest_sum * max(int(np.abs(row).max()) for row in rows) < _EXACT:
            break
    return np.stack(rows)


def _add(call: Call, level: int) -> Exact:
    a, b, y = call.encoding("a"), call.encoding("b"), call.output()
    sign = np.float32(-1 if call.has("Sub") else 1)
    ratios = {
        "a_ratio": _scalar(call, np.float32(a.scale) / np.float32(y.scale)),
        "b_ratio": _scalar(call, sign * (np.float32(b.scale) / np.float32(y.scale))),
    }
    return Exact({}, {"a_zero_point": a.zero_point, "b_zero_point": b.zero_point, **ratios, **y.attributes()})


def _mul(call: Call, level: int) -> Exact:
    a, b, y = call.encoding("a"), call.encoding("b"), call.output()
    scale = _scalar(call, np.float32(a.scale) * np.float32(b.scale) / np.float32(y.scale))
    return Exact({}, {"a_zero_point": a.zero_point, "b_zero_point": b.zero_point, "scale": scale, **y.attributes()})


def _average_pool(call: Call, level: int) -> Exact:
    core, x, y = call.core("AveragePool"), call.encoding("x"), call.output()
    kernel = attribute(core, "kernel_shape", [])
    strides = attribute(core, "strides", [1] * len(kernel))
    pads = attribute(core, "pads", [0] * 2 * len(kernel))
    include = attribute(core, "count_include_pad", 0)
    size = (static_shape(call.operands["x"]) or ())[2:]
    attributes = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": pads,
        "count_include_pad": include,
        "x_zero_point": x.zero_point,
        "scale": _scalar(call, np.float32(x.scale) / np.float32(y.scale)),
    }
    counts = window_counts(size, kernel, strides, pads, include_pad=bool(include))
    return Exact({"count": counts}, {**attributes, **y.attributes()})


def window_counts(
    size: tuple[int, ...], kernel: list[int], strides: list[int], pads: list[int], *, include_pad: bool
) -> Array:
    """Values that each window of an average pool counts, float32: a scalar if all are alike, else [output size]."""
    rank = len(kernel)
    counts = np.ones((1,) * rank, np.float32)
    for axis, (n, k, stride) in enumerate(zip(size, kernel, strides, strict=True)):
        before, after = pads[axis], pads[axis + rank]
        first = np.arange((n + before + after - k) // stride + 1) * stride - before
        inside = np.minimum(first + k, n) - np.maximum(first, 0)
        taps = np.full_like(first, k) if include_pad else inside
        counts = counts * along(taps.astype(np.float32), rank, axis)
    return np.asarray(counts.flat[0] if (counts == counts.flat[0]).all() else counts, np.float32)


def _finite(call: Call, scales: Array) -> Array:
    if not np.isfinite(scales).all():
        raise UnsupportedError(
            f"node {call.name!r}",
            "the ratio of its input and output scales is not finite",
            "scales whose ratios fit into binary32",
            "calibrate the model again",
        )
    return scales.astype(np.float32)


def _scalar(call: Call, value: np.float32) -> float:
    return float(_finite(call, np.asarray(value)))


REWRITES: dict[str, Rewrite] = {
    "Conv": _conv,
    "MatMul": _products,
    "Add": _add,
    "Mul": _mul,
    "AveragePool": _average_pool,
}
"""For each operator with attributes or operands of its own; a Table has only its table, a MaxPool needs nothing."""
