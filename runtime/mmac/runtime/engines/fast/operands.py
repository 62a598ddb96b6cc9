"""Fitting truncated data and weights into eight bits.

Integer kernels take data as uint8 ``d + z`` and weights as uint8 ``w + 128``. Truncated data range over -256…256 and
weights over -128…128, so one byte may not hold them. Then they are split into sums of parts that fit, and the kernel
sees the parts side by side: Σ(d₁ + d₂)·w = Σ d₁·w + Σ d₂·w, still one exact integer sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.runtime.engines.fast.weights import Weights
from mmac.runtime.memory import Bytes

Mask = npt.NDArray[np.bool_]

WEIGHT_ZERO = 128


@dataclass(frozen=True)
class Data:
    """Data values as codes: part i of the value of byte b is ``tables[i][b] - zero``, unless b is `lost`."""

    tables: tuple[Bytes, ...]
    zero: int
    lost: Mask


@dataclass(frozen=True)
class Coefficients:
    """Weights [O, I, kernel h, kernel w] as codes: ``main + extra - WEIGHT_ZERO``.

    `extra` (0 or 1) is what a byte cannot hold; None if it is zero everywhere. Output channels where `negative` have
    all their weights times -1.
    """

    main: Bytes
    extra: Bytes | None
    negative: Mask


def fit_data(values: npt.NDArray[np.int16], possible: Mask, zero: int) -> tuple[Data, ...]:
    """Split data values into parts of eight bits.

    Args:
        values: int16[256], the truncated data value of each byte.
        possible: bool[256], bytes that can occur; only their values must fit.
        zero: preferred zero point: that of the codes which the bytes are anyway.

    Returns:
        One way for all data; or, if that takes two parts, before it another way of one part that loses a few bytes.
    """
    low, high = _range(values[possible])
    if high - low <= _SPAN:
        return (_codes((values,), zero, low, high, possible),)
    half = values >> 1
    exact = _codes((half, values - half), zero, *_range(np.stack([half, values - half])[:, possible]), possible)
    ends = [(a, a + _SPAN) for a in (low, high - _SPAN) if a <= 0 <= a + _SPAN]
    usual = [_codes((values,), zero, *window, possible) for window in ends]
    return min(usual, key=lambda data: int(data.lost.sum())), exact


_SPAN = 255


def _range(values: npt.NDArray[np.int16]) -> tuple[int, int]:
    """Least and greatest; padding, which is 0, must fit too."""
    return int(values.min(initial=0)), int(values.max(initial=0))


def _codes(parts: Sequence[npt.NDArray[np.int16]], zero: int, low: int, high: int, possible: Mask) -> Data:
    # any zero with 0 ≤ low + zero and high + zero ≤ 255 does
    zero = min(max(zero, -low), _SPAN - high)
    shifted = np.stack(parts) + zero
    lost = possible & ((shifted < 0) | (shifted > _SPAN)).any(axis=0)
    return Data(tuple(np.clip(shifted, 0, _SPAN).astype(np.uint8)), zero, lost)


def fit_weights(weights: Weights, bias: npt.NDArray[np.signedinteger[Any]]) -> Coefficients:
    """Weights [O, I, kernel h, kernel w] as codes, with few input channels that any output channel needs an extra of.

    -128 fits and 128 does not. So an output channel that has only one of them is negated if need be; one that has both
    needs an extra part with either sign. A channel whose bias has no negative in int32 is not negated.
    """
    negative = np.zeros(len(weights), np.bool_)
    if weights.max(initial=0) > _HIGHEST:
        plus, minus = ((weights == edge).any(axis=(2, 3)) for edge in (_HIGHEST + 1, -_HIGHEST - 1))
        negative = _signs(plus, minus, bias > np.iinfo(np.int32).min)
        weights = np.where(negative[:, None, None, None], -weights, weights)
    main = np.minimum(weights, _HIGHEST)
    extra = (weights - main).astype(np.uint8) if weights.max(initial=0) > _HIGHEST else None
    return Coefficients((main + WEIGHT_ZERO).astype(np.uint8), extra, negative)


_HIGHEST = 127


def _signs(plus: Mask, minus: Mask, free: Mask) -> Mask:
    """Output channels to negate, so that few input channels are needed twice.

    Args:
        plus, minus: bool [O, I], which inputs are needed twice if an output channel is not negated, or is.
        free: output channels that may be negated.
    """
    negative: Mask = free & plus.any(axis=1) & ~minus.any(axis=1)
    both = free & plus.any(axis=1) & minus.any(axis=1)
    needed: Mask = np.logical_or(plus[~free].any(axis=0), (plus & minus)[both].any(axis=0))
    # inputs that each output channel needs with either sign, output channels that each input is needed by
    sides: tuple[dict[int, list[int]], ...] = ({}, {})
    users: dict[int, list[tuple[int, int]]] = {}
    for side, edges in enumerate((plus, minus)):
        outputs, inputs = np.nonzero(edges & both[:, None])
        for o, i in zip(outputs.tolist(), inputs.tolist(), strict=True):
            sides[side].setdefault(o, []).append(i)
            users.setdefault(i, []).append((o, side))
    # give up inputs, those first that bind fewest others: whoever would need one takes the other sign
    for i in sorted(users, key=lambda i: len(users[i])):
        if not needed[i]:
            for o, side in users[i]:
                negative[o] = side == 0
                needed[sides[1 - side][o]] = True
    return negative
