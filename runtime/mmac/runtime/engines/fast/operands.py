"""Fitting truncated data and weights into eight bits.

Integer kernels take data as uint8 ``d + z`` and weights as uint8 ``w + 128``. Truncated data range over -256…256 and
weights over -128…128, so one byte may not hold them. Then they are split into sums of parts that fit, and the kernel
sees the parts side by side: Σ(d₁ + d₂)·w = Σ d₁·w + Σ d₂·w, still one exact integer sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.runtime.engines.fast.weights import Weights
from mmac.runtime.memory import Bytes

WEIGHT_ZERO = 128


@dataclass(frozen=True)
class Data:
    """Data values as codes: part i of the value of byte b is ``tables[i][b] - zero``."""

    tables: tuple[Bytes, ...]
    zero: int


@dataclass(frozen=True)
class Coefficients:
    """Weights [O, I, kernel h, kernel w] as codes: ``main + extra - WEIGHT_ZERO``.

    `extra` (0 or 1) is what a byte cannot hold; None if it is zero everywhere. Output channels where `negative` have
    all their weights times -1.
    """

    main: Bytes
    extra: Bytes | None
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
    return Data(tuple(np.clip(part + zero, 0, 255).astype(np.uint8) for part in parts), zero)


def fit_weights(weights: Weights, bias: npt.NDArray[np.signedinteger[Any]]) -> Coefficients:
    """Weights as codes, each output channel with the sign that leaves fewest input channels with an extra part.

    -128 fits and 128 does not. A channel that has only one of them is negated if need be; one that has both keeps an
    extra part in any case. A channel whose bias has no negative in int32 is not negated.
    """
    negative = _signs(weights) & (bias > np.iinfo(np.int32).min)
    signed = np.where(negative[:, None, None, None], -weights, weights) if negative.any() else weights
    main = np.minimum(signed, 127)
    extra = (signed - main).astype(np.uint8) if signed.max(initial=0) > 127 else None
    return Coefficients((main + WEIGHT_ZERO).astype(np.uint8), extra, negative)


def _signs(weights: Weights) -> npt.NDArray[np.bool_]:
    """Output channels to negate."""
    rows = weights.reshape(len(weights), -1)
    negative: npt.NDArray[np.bool_] = rows.max(axis=1, initial=0) > 127
    both = np.flatnonzero(negative & (rows.min(axis=1, initial=0) < -127))
    plus, minus = ((weights[both] == w).any(axis=(2, 3)) for w in (128, -128))
    # an input channel that many output channels need an extra part of is likely to get one anyway
    share = 1 / np.maximum((plus | minus).sum(axis=0), 1)
    negative[both] = minus @ share < plus @ share
    return negative
