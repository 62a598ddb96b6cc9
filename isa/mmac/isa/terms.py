"""Term arithmetic: signed digits, and keeping the largest terms of a value or of a group of values.

A *term* is one non-zero digit ±2^e of a value's non-adjacent form (canonical signed digits), which for 2x is the
difference of the bits of 3x and x (Prodinger, "On binary representations of integers with digits -1, 0, 1", 2000).
Everything here is exact and vectorised: digits are bit masks, and a group's masks are ranked eight values at a time
in 64-bit words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa.plan import GROUP_SIZE, MAX_BETA

IntArray = npt.NDArray[np.integer[Any]]
Masks = npt.NDArray[np.unsignedinteger[Any]]

MAX_WEIGHT = 128
"""Largest magnitude of a weight: 127 = 2^7 - 2^0 may become 2^7."""

MAX_DATA = 256
"""Largest magnitude of a data value: 255 = 2^8 - 2^0 may become 2^8."""

_LANES = 8
"""Values per 64-bit word, one byte of digit positions each."""

_ONES = np.uint64(0x0101010101010101)
_SIGNS = np.uint64(0x8080808080808080)

_PLANES_FROM = np.array([(0xFF << e & 0xFF) * 0x0101010101010101 for e in range(9)], np.uint64)
"""[e] = mask of the digit positions ≥ e in every lane of a word."""

_MAX_GROUP = 32
"""Larger groups would overflow the byte-wide term counts."""

_CHUNK = 1 << 16
"""Weights per pass, so that the temporaries stay in the second-level cache."""


def signed_digits(values: npt.ArrayLike) -> tuple[Masks, Masks]:
    """Positive and negative terms of each value, as bit masks: bit e of the first is +2^e, of the second -2^e.

    Args:
        values: integers of magnitude ≤ 256, any shape.

    Returns:
        Two arrays of the same shape, uint8 if `values` is int8, else uint16.
    """
    v = np.asarray(values)
    if v.dtype != np.int8:
        v = _checked(v, MAX_DATA)
    half = v >> 1
    three_halves = v + half
    digit = half ^ three_halves
    unsigned = np.uint8 if v.dtype == np.int8 else np.uint16
    return (three_halves & digit).view(unsigned), (half & digit).view(unsigned)


def from_digits(positive: Masks, negative: Masks) -> npt.NDArray[np.int16]:
    """Values with these terms: the inverse of `signed_digits`."""
    return np.subtract(positive, negative, dtype=np.uint16).view(np.int16)


def term_count(values: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Number of terms of each value (magnitude ≤ 256)."""
    positive, negative = signed_digits(values)
    count: npt.NDArray[np.uint8] = np.bitwise_count(positive | negative)
    return count


def truncate_values(values: npt.ArrayLike, beta: int) -> npt.NDArray[np.int16]:
    """Keep the `beta` largest terms of each value (data term quantization, design.md §2).

    Args:
        values: integers of magnitude ≤ 256, any shape.
        beta: data budget, ≥ 1.
    """
    _check_budget(beta)
    positive, negative = signed_digits(values)
    kept = positive | negative
    for _ in range(MAX_BETA - beta):
        # clear the lowest digit of whatever still has too many; 9 bits hold at most 5 non-adjacent digits
        kept = np.where(np.bitwise_count(kept) > beta, kept & (kept - kept.dtype.type(1)), kept)
    return from_digits(positive & kept, negative & kept)


def data_table(zero_point: int, signed: bool, beta: int) -> npt.NDArray[np.int16]:
    """Truncated data value of every byte: int16[256], indexed by the raw byte (two's complement if `signed`)."""
    q = np.arange(256, dtype=np.uint8).view(np.int8 if signed else np.uint8).astype(np.int16)
    return truncate_values(q - np.int16(zero_point), beta)


def truncate_groups(
    weights: npt.ArrayLike, alpha: int | npt.NDArray[np.integer[Any]], group_size: int = GROUP_SIZE
) -> npt.NDArray[np.int16]:
    """Keep the `alpha` largest terms of each group: larger exponent first, ties to the lower index.

    Args:
        weights: integers of magnitude ≤ 128, [..., K]; the last axis is the flattened reduction axis, cut into groups
            of `group_size` (1…32), the last one short.
        alpha: weight budget, ≥ 1; or one of each group, ≥ 0: [..., ceil(K / group_size)].

    Returns:
        Same shape, values in -128…128.
    """
    w = _weights(weights)
    groups = to_groups(w, group_size)
    if isinstance(alpha, np.ndarray):
        budgets = alpha.reshape(len(groups)).astype(np.int64)
    else:
        _check_budget(alpha)
        budgets = np.broadcast_to(np.int64(alpha), len(groups))
    out = np.empty(groups.shape, np.int16)
    for part in _chunks(groups):
        positive, negative = signed_digits(groups[part])
        kept = top_terms(positive | negative, budgets[part])
        out[part] = from_digits(positive & kept, negative & kept)
    return _from_groups(out, w.shape, group_size)


def group_term_count(weights: npt.ArrayLike, group_size: int = GROUP_SIZE) -> npt.NDArray[np.int16]:
    """Terms in each group: [..., K] → [..., ceil(K / group_size)]."""
    w = _weights(weights)
    groups = to_groups(w, group_size)
    counts = np.empty(len(groups), np.int16)
    for part in _chunks(groups):
        positive, negative = signed_digits(groups[part])
        counts[part] = _count(_words(positive | negative))
    return counts.reshape(*w.shape[:-1], -(-w.shape[-1] // group_size))


def to_groups(weights: IntArray, group_size: int = GROUP_SIZE) -> IntArray:
    """Cut [..., K] into groups padded with zeros: [groups, lanes], lanes = `group_size` rounded up to eight."""
    if not 1 <= group_size <= _MAX_GROUP:
        raise ValueError(f"group_size {group_size} is outside 1…{_MAX_GROUP}")
    lanes = -(-group_size // _LANES) * _LANES
    k = weights.shape[-1]
    if k % group_size or lanes != group_size:
        count = -(-k // group_size)
        padded = np.zeros((*weights.shape[:-1], count * group_size), weights.dtype)
        padded[..., :k] = weights
        whole = padded.reshape(-1, group_size)
        weights = np.zeros((len(whole), lanes), weights.dtype)
        weights[:, :group_size] = whole
    return np.ascontiguousarray(weights).reshape(-1, lanes)


def top_terms(masks: Masks, alpha: int | npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Of the digit positions of each group, those of its `alpha` largest terms.

    Args:
        masks: [groups, lanes] as the union of `signed_digits` (positions 0…7), lanes a multiple of eight.
        alpha: of all groups, or [groups].
    """
    words = _words(masks)
    cut = np.zeros(words.shape[1], np.uint8)  # digit planes that do not fit whole: 0…cut-1
    for mask in _PLANES_FROM[:8]:
        cut += _count(words & mask) > alpha
    whole = _PLANES_FROM[cut]
    kept = words & whole
    room = (alpha - _count(kept).astype(np.int64)).view(np.uint64)
    # of plane cut-1, the first `room` lanes that have a digit; the product counts the digits up to and including a lane
    plane = np.maximum(cut, 1).astype(np.uint64) - np.uint64(1)
    limit = room * _ONES + _SIGNS
    for word, rest in zip(kept, words & ~whole, strict=True):
        digits = (rest >> plane) & _ONES
        seen = digits * _ONES
        word |= ((limit - seen) >> np.uint64(7) & digits) << plane
        limit -= (seen >> np.uint64(56)) * _ONES
    return np.ascontiguousarray(kept.T).view(np.uint8)


def _words(masks: Masks) -> npt.NDArray[np.uint64]:
    """[groups, lanes] digit positions 0…7 → [lanes / 8, groups] words, the first lane in the lowest byte."""
    return np.ascontiguousarray(masks.astype(np.uint8, copy=False).view("<u8").T)


def _count(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    count: npt.NDArray[np.uint8] = np.add.reduce(np.bitwise_count(words), axis=0, dtype=np.uint8)
    return count


def _chunks(groups: IntArray) -> Iterator[slice]:
    step = _CHUNK // groups.shape[1]
    return (slice(start, start + step) for start in range(0, len(groups), step))


def _from_groups(groups: npt.NDArray[np.int16], shape: tuple[int, ...], group_size: int) -> npt.NDArray[np.int16]:
    k = shape[-1]
    count = -(-k // group_size)
    return groups[:, :group_size].reshape(*shape[:-1], count * group_size)[..., :k]


def _weights(weights: npt.ArrayLike) -> IntArray:
    w = np.asarray(weights)
    if w.ndim == 0:
        raise ValueError("weights need a reduction axis")
    return w if w.dtype == np.int8 else _checked(w, MAX_WEIGHT)


def _checked(values: npt.NDArray[Any], limit: int) -> npt.NDArray[np.int16]:
    if values.dtype.kind not in "iu":
        raise ValueError(f"terms need integers, not {values.dtype}")
    if values.size and not (-limit <= values.min() and values.max() <= limit):
        raise ValueError(f"values {values.min()}…{values.max()} exceed ±{limit}")
    return values.astype(np.int16, copy=False)


def _check_budget(budget: int) -> None:
    if budget < 1:
        raise ValueError(f"a budget of {budget} terms; 1 or more")
