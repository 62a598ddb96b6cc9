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
    """Data values as codes: part i of the value of byte b is ``tables[i][b] - zero``, and `values` [256] their sum."""

    tables: tuple[Bytes, ...]
    zero: int
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Coefficients:
    """Weights [O, I, kernel h, kernel w] as codes: ``main + extra - WEIGHT_ZERO``.

    `extra` (0 or 1) is what a byte cannot hold; None if it is zero everywhere. Output channels where `negative` have
    all their weights times -1.
    """

    main: Bytes
    extra: Bytes | None
    negative: Mask


def fit_data(values: npt.NDArray[np.int16], possible: Mask, zero: int) -> Data:
    """Split data values into parts of eight bits, as few as possible: one, or two halves.

    Args:
        values: int16[256], the truncated data value of each byte.
        possible: bool[256], bytes that can occur; only their values must fit.
        zero: preferred zero point: that of the codes which the bytes are anyway.
    """
    half = values >> 1
    for parts in (values[None], np.stack([half, values - half])):
        # padding, which is 0, must fit too
        low, high = int(parts[:, possible].min(initial=0)), int(parts[:, possible].max(initial=0))
        if high - low <= _SPAN:
            break
    # any zero with 0 ≤ low + zero and high + zero ≤ 255 does
    zero = min(max(zero, -low), _SPAN - high)
    tables = np.clip(parts + zero, 0, _SPAN).astype(np.uint8)
    return Data(tuple(tables), zero, np.where(possible, values, 0).astype(np.float32))


_SPAN = 255


def fit_weights(weights: Weights, bias: npt.NDArray[np.signedinteger[Any]]) -> Coefficients:
    """Weights [O, I, kernel h, kernel w] as codes, with few input channels that any output channel needs an extra of.

    -128 fits and 128 does not. So an output channel that has only one of them is negated if need be; one that has both
    needs an extra part with either sign. A channel whose bias has no negative in int32 is not negated.
    """
    plus, minus = (np.flatnonzero(weights == edge) for edge in (_HIGHEST + 1, -_HIGHEST - 1))
    negative = np.zeros(len(weights), np.bool_)
    if plus.size:
        taps = weights[0, 0].size
        needs = [[part.tolist() for part in divmod(where // taps, weights.shape[1])] for where in (plus, minus)]
        negative = _signs(needs, bias > np.iinfo(np.int32).min)
        weights = np.where(negative[:, None, None, None], -weights, weights)
    main = np.minimum(weights, _HIGHEST)
    extra = (weights - main).astype(np.uint8) if weights.max(initial=0) > _HIGHEST else None
    return Coefficients((main + WEIGHT_ZERO).astype(np.uint8), extra, negative)


_HIGHEST = 127


def _signs(needs: Sequence[Sequence[Sequence[int]]], free: Mask) -> Mask:
    """Output channels to negate, so that few input channels are needed twice.

    Args:
        needs: which (output, input) channels need an extra part if the output channel is not negated, and if it is:
            for either sign the outputs and the inputs.
        free: output channels that may be negated.
    """
    sides: tuple[dict[int, set[int]], ...] = ({}, {})
    for inputs_of, places in zip(sides, needs, strict=True):
        for o, i in zip(*places, strict=True):
            inputs_of.setdefault(o, set()).add(i)
    plus, minus = sides
    negative = np.zeros(len(free), np.bool_)
    negative[[o for o in plus if o not in minus and free[o]]] = True
    both = [o for o in plus if o in minus and free[o]]
    needed = {i for o, inputs in plus.items() if not free[o] for i in inputs}.union(*(plus[o] & minus[o] for o in both))
    # by whom, and with which sign, each input is needed; the price of giving it up: whoever would need it takes the
    # other sign
    users: dict[int, list[tuple[int, int]]] = {}
    price: dict[int, float] = {}
    for o in both:
        for side in (0, 1):
            share = len(sides[1 - side][o]) / len(sides[side][o])
            for i in sides[side][o]:
                users.setdefault(i, []).append((o, side))
                price[i] = price.get(i, 0) + share
    for i in sorted(users, key=price.__getitem__):
        if i not in needed:
            for o, side in users[i]:
                negative[o] = side == 0
                needed |= sides[1 - side][o]
    return negative
