"""Fitting truncated data and weights into eight bits.

Integer kernels take data as uint8 ``d + z`` and weights as uint8 ``w + v``. Truncated data range over -256…256 and
weights over -128…128, so one byte may not hold them. Then they are split into a sum of parts that fit, and the kernel
sees the parts side by side: Σ(d₁ + d₂)·w = Σ d₁·w + Σ d₂·w, still one exact integer sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.runtime.engines.fast.weights import Weights
from mmac.runtime.memory import Bytes

Values = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Data:
    """Data values as codes: part i of the value of byte b is ``tables[i][b] - zero``."""

    tables: tuple[Bytes, ...]
    zero: int


@dataclass(frozen=True)
class Coefficients:
    """Weights as codes: ``Σ parts - zero``, times -1 in the output channels where `negative`."""

    parts: tuple[Bytes, ...]
    zero: int
    negative: npt.NDArray[np.bool_]


def fit_data(values: npt.NDArray[np.int16], possible: npt.NDArray[np.bool_], zero: int) -> Data:
    """Split data values into parts of eight bits.

    Args:
        values: int16[256], the truncated data value of each byte.
        possible: bool[256], bytes that can occur; only their values must fit.
        zero: preferred zero point: that of the codes which the bytes are anyway.
    """
    half = values >> 1
    for parts in ((values,), (half, values - half)):
        low = min(int(part[possible].min(initial=0)) for part in parts)
        high = max(int(part[possible].max(initial=0)) for part in parts)
        if high - low <= 255:
            # any zero with 0 ≤ low + zero and high + zero ≤ 255 does; padding, which is 0, must fit too
            zero = min(max(zero, -low), 255 - high)
            break
    return Data(tuple(_codes(part, zero) for part in parts), zero)


def _codes(values: Values, zero: int) -> Bytes:
    return np.clip(values + zero, 0, 255).astype(np.uint8)


def fit_weights(weights: Weights, bias: npt.NDArray[np.int32]) -> Coefficients:
    """Split weights [O, …] into parts of eight bits, with some output channels negated if that avoids it.

    A channel whose bias has no negative in int32 is not negated.
    """
    rows = weights.reshape(len(weights), -1)
    low, high = rows.min(axis=1, initial=0), rows.max(axis=1, initial=0)
    negative = (high > 127) & (low > -128) & (bias > np.iinfo(np.int32).min)
    signed = np.where(negative.reshape(-1, *[1] * (weights.ndim - 1)), -weights, weights) if negative.any() else weights
    if signed.max(initial=0) <= 127:
        return Coefficients((_codes(signed, 128),), 128, negative)
    first = np.minimum(signed, 127)
    return Coefficients((_codes(first, 128), _codes(signed - first, 128)), 128, negative)
