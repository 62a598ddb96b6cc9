"""The terms of groups of weights in rank order: by falling exponent, then rising index (`mmac.isa.terms`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa import terms
from mmac.isa.plan import GROUP_SIZE, MAX_ALPHA

Bytes = npt.NDArray[np.uint8]

_PLANES = 8
_DIGITS = _PLANES * GROUP_SIZE

_CHUNK = 1 << 13
"""Groups ranked or checked per pass, so that the temporaries (256 bytes a group) stay in the second-level cache."""


@dataclass(frozen=True)
class TermTable:
    """The terms of groups at one level, in rank order.

    Attributes:
        codes: [groups, A] a term's byte as in a ``plain`` stream; 0 from rank `count` on. Of either memory order;
            what is done rank by rank is much faster if ranks are the outer axis in memory.
        count: [groups] terms of each group; A is its maximum.
        shape: of the array of groups: (G, N), or (T, G, N) for many tiles.
    """

    codes: Bytes
    count: Bytes
    shape: tuple[int, ...]

    @property
    def exponent(self) -> Bytes:
        """[groups, A] exponents, 0…7."""
        return self.codes >> np.uint8(5)

    @property
    def sign(self) -> Bytes:
        """[groups, A] 1 for a negative term."""
        return self.codes >> np.uint8(4) & np.uint8(1)

    @property
    def index(self) -> Bytes:
        """[groups, A] positions in the group, 0…15."""
        return self.codes & np.uint8(15)

    def valid(self) -> npt.NDArray[np.bool_]:
        """[groups, A] which ranks hold a term."""
        return holds(self.count, self.codes.shape[1])

    def largest(self, kept: Bytes) -> TermTable:
        """The largest terms of each group, as many as `kept` [groups] says (of those that there are)."""
        return TermTable(self.codes[:, : kept.max(initial=0)], np.minimum(self.count, kept), self.shape)

    def to_scratchpad(self) -> Bytes:
        """As `load.terms` leaves a coded tile: a byte with the count of each group, then rank by rank their codes."""
        return np.concatenate([self.count, np.where(self.valid(), self.codes, np.uint8(0)).T.ravel()])

    @classmethod
    def from_scratchpad(cls, data: Bytes, shape: tuple[int, ...]) -> TermTable:
        """The inverse of `to_scratchpad`; `data` may be longer."""
        groups = shape[-2] * shape[-1]
        count = data[:groups]
        return cls(data[groups : groups * (1 + int(count.max(initial=0)))].reshape(-1, groups).T, count, shape)

    def values(self) -> npt.NDArray[np.int16]:
        """int16 [*shape, 16]: the weights that the terms add up to."""
        positive, negative = self._digits
        return terms.from_digits(positive, negative).reshape(*self.shape, GROUP_SIZE)

    def is_canonical(self) -> bool:
        """True if these are the ranked signed digits of weights."""
        place = to_places(self.codes)
        falls = (place[:, 1:] <= place[:, :-1]) & self.valid()[:, 1:]
        if falls.any():
            return False
        digits = _planes(self.codes, self.count)
        if (digits[:, 1:] & digits[:, :-1]).any():
            return False
        # ±2^7 is as large as weights get: the next smaller digit has to have the other sign
        large = digits[:, 0] != 0
        codes, count, digits = self.codes[large], self.count[large], digits[large]
        negative = _planes(codes, count, signs=True)
        last = digits[:, 0]
        for e in range(1, _PLANES):
            grows = last & digits[:, e] & ~(negative[:, 0] ^ negative[:, e])
            if grows.any():
                return False
            last = last & ~digits[:, e]
        return True

    @cached_property
    def _digits(self) -> tuple[Bytes, Bytes]:
        """Positive and negative terms of each value, [groups, 16], as `terms.signed_digits`."""
        place, valid, sign = to_places(self.codes), self.valid(), self.sign
        positive, negative = np.zeros((2, len(place), GROUP_SIZE), np.uint8)
        for start in range(0, len(place), _CHUNK):
            part = slice(start, start + _CHUNK)
            found = np.zeros((len(place[part]), _PLANES, GROUP_SIZE), np.uint8)
            terms_at = np.flatnonzero(valid[part])
            digit = place[part] + _DIGITS * np.arange(len(found), dtype=np.intp)[:, None]
            found.reshape(-1)[digit.ravel()[terms_at]] = sign[part].ravel()[terms_at] + 1
            for e, plane in enumerate(_swap(found)[::-1]):
                positive[part] |= (plane & 1) * np.uint8(1 << e)
                negative[part] |= (plane >> 1) * np.uint8(1 << e)
        return positive, negative


def rank(values: npt.NDArray[np.integer[Any]], alpha: int) -> TermTable:
    """The `alpha` largest terms of each group of weights [..., 16], in rank order."""
    groups = values.reshape(-1, GROUP_SIZE)
    found = terms.group_term_count(groups).ravel()
    count = np.minimum(found, min(alpha, MAX_ALPHA)).astype(np.uint8)
    table = TermTable(np.zeros((len(groups), int(count.max(initial=0))), np.uint8), count, values.shape[:-1])
    valid = table.valid()
    for start in range(0, len(groups), _CHUNK):
        part = slice(start, start + _CHUNK)
        positive, negative = terms.signed_digits(groups[part])
        kept = positive | negative
        if found[part].max() > alpha:
            kept = terms.top_terms(kept, alpha)
        table.codes[part][valid[part]] = _codes(*(masks.astype(np.uint8, copy=False) for masks in (kept, negative)))
    return table


def to_places(codes: Bytes) -> Bytes:
    """Places of terms in the order of ranks, 16 · (7 - exponent) + index, from their bytes in a plain stream."""
    return (~codes & np.uint8(0xE0)) >> np.uint8(1) | codes & np.uint8(15)


def to_codes(places: Bytes, negative: Bytes | npt.NDArray[np.bool_]) -> Bytes:
    """The inverse of `to_places`; `negative` is 1 for negative terms."""
    return (~places & np.uint8(0x70)) * np.uint8(2) | places & np.uint8(15) | negative * np.uint8(16)


def holds(count: Bytes, most: int) -> npt.NDArray[np.bool_]:
    """[groups, most] which ranks hold a term; ranks are the outer axis in memory."""
    return (np.arange(most, dtype=np.uint8)[:, None] < count.ravel()).T


def _places() -> npt.NDArray[np.complex128]:
    """[256] bit 16·(7 - exponent) + index of 128 for each code, as a number of 16 bytes."""
    bits = np.zeros((256, _PLANES), np.uint16)
    code = np.arange(256)
    bits[code, _PLANES - 1 - (code >> 5)] = 1 << (code & 15)
    return bits.view(np.complex128)[:, 0]


_BITS = _places()
_NEGATIVE_BITS = np.where(np.arange(256) & 16, _BITS, 0)


def _planes(codes: Bytes, count: Bytes, signs: bool = False) -> npt.NDArray[np.uint16]:
    """[groups, 8] bit i: value i of a group has a digit (a negative one if `signs`) at exponent 7, 6 … 0."""
    bits = _NEGATIVE_BITS if signs else _BITS
    planes = np.zeros((len(codes), _PLANES), np.uint16)
    for start in range(0, len(codes), _CHUNK):
        part = slice(start, start + _CHUNK)
        words, least = planes[part].view(np.uint64), count[part].min()
        for rank, column in enumerate(codes[part].T):
            found = bits.take(column)
            if rank >= least:
                found[count[part] <= rank] = 0
            words |= found.view(np.uint64).reshape(words.shape)
    return planes


def _codes(kept: Bytes, negative: Bytes) -> Bytes:
    """Bytes of the terms at digit positions `kept`, group by group, in rank order."""
    digits = np.flatnonzero(_bits(kept))
    return to_codes(digits.astype(np.uint8) & np.uint8(_DIGITS - 1), _bits(negative)[digits])


def _bits(masks: Bytes) -> npt.NDArray[np.bool_]:
    """Digit positions [groups, 16] → whether there is a digit at each place of each group, [groups · 128]."""
    planes = np.empty((_PLANES, *masks.shape), np.uint8)
    for e, plane in enumerate(planes[::-1]):
        np.bitwise_and(masks >> np.uint8(e), np.uint8(1), out=plane)
    return _swap(planes).view(np.bool_).ravel()


def _swap(blocks: Bytes) -> Bytes:
    """[a, b, 16] → [b, a, 16], sixteen bytes at a time."""
    return np.ascontiguousarray(blocks.view(np.complex128)[..., 0].T)[..., None].view(np.uint8)
