"""Coded term streams: the places of a group's terms as gaps, Rice-coded with the unary and the binary parts apart.

The place of a term is 16 · (7 - exponent) + index, so places rise from rank to rank, and a gap is the number of places
skipped: place - previous place - 1, the previous place of a group's first term being -1. An increment of n terms, in
(group, rank) order, is

* a byte k, 0…6;
* k + 1 planes of ⌈n/8⌉ bytes, a bit for each term: its sign (1 = negative), then the k low bits of its gap, the lowest
  first;
* gap >> k of each term in unary, that many ones and a zero; the last byte is filled up with ones.

Bits are counted from the highest of a byte. An increment without terms is empty. Before the first one are a byte with
the most terms that any group keeps at the highest level, a bit for each group, 1 if it keeps as many, and a byte for
every other group with the number that it keeps.

Every zero of the unary part ends a term, so that all terms of an increment are found at once: by whoever counts zeros
here, by a decoder of many terms per cycle in hardware. The mixed code words of a plain Rice code would have to be
followed one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.isa.errors import MalformedError
from mmac.isa.plan import GROUP_SIZE, MAX_ALPHA

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

_PLACES = 8 * GROUP_SIZE
_MAX_K = 6


def encode(codes: Bytes, count: Bytes, alphas: Sequence[int]) -> tuple[Bytes, Ints]:
    """Streams of tiles, one after the other.

    Args:
        codes: [tiles · groups, A] terms in rank order, as in `streams.TermTable`.
        count: [tiles, groups] terms of each group.
        alphas: the layer's α at each level, not falling.

    Returns:
        The bytes, and int64 [tiles, levels]: the length of the prefix that a level reads.
    """
    pieces = [_header(count)]
    place = places(codes)
    before = np.full(len(codes), 255, np.uint8)  # -1 modulo 256
    for low, high in itertools.pairwise((0, *alphas)):
        pieces.append(_section(codes[:, low:high], place[:, low:high], before, count, low))
        if low < high <= place.shape[1]:
            before = place[:, high - 1]
    sizes = np.stack([size for _, size in pieces], axis=1)
    ends = np.cumsum(sizes, axis=1)
    start = (np.cumsum(ends[:, -1]) - ends[:, -1])[:, None] + ends - sizes
    data = np.empty(int(sizes.sum()), np.uint8)
    for number, (piece, size) in enumerate(pieces):
        data[_ranges(start[:, number], size)] = piece
    return data, ends[:, 1:]


def _header(count: Bytes) -> tuple[Bytes, Ints]:
    """What comes before the increments of each tile, and its size: nothing for a tile without groups."""
    if not count.shape[1]:
        return np.empty(0, np.uint8), np.zeros(len(count), np.int64)
    most = count.max(axis=1, initial=0, keepdims=True)
    full = count == most
    flags = np.concatenate([most, np.packbits(full, axis=1)], axis=1)
    short = np.count_nonzero(~full, axis=1)
    size = flags.shape[1] + short
    out = np.empty(int(size.sum()), np.uint8)
    out[_ranges(_before(size), np.full_like(size, flags.shape[1]))] = flags.reshape(-1)
    out[_ranges(_before(size) + flags.shape[1], short)] = count[~full]
    return out, size


def places(codes: Bytes) -> Bytes:
    """Places of terms in the order of ranks, 16 · (7 - exponent) + index, from their bytes in a plain stream."""
    return (~codes & np.uint8(0xE0)) >> np.uint8(1) | codes & np.uint8(15)


def _section(codes: Bytes, place: Bytes, before: Bytes, count: Bytes, low: int) -> tuple[Bytes, Ints]:
    """The bytes of an increment in each tile, and their sizes.

    Args:
        codes: [tiles · groups, ranks] the terms, those beyond a group's count included.
        place: of them.
        before: [tiles · groups] place of the term before the first one.
        count: [tiles, groups] terms of each group.
        low: rank of the first one.
    """
    present = np.arange(low, low + codes.shape[1], dtype=np.uint8) < count.reshape(-1, 1)
    terms = np.count_nonzero(present.reshape(len(count), count.shape[1] * codes.shape[1]), axis=1)
    previous = np.concatenate([before[:, None], place[:, :-1]], axis=1) if codes.shape[1] else place
    gap, minus = (place - previous - np.uint8(1))[present], (codes >> np.uint8(4) & np.uint8(1))[present]
    k, high_bits = _cheapest(gap, terms)
    plane_bytes, high_bytes = -(-terms // 8), -(-high_bits // 8)
    size = np.where(terms > 0, 1 + (k + 1) * plane_bytes + high_bytes, 0)
    start = np.cumsum(size) - size
    data = np.empty(int(size.sum()), np.uint8)
    data[start[terms > 0]] = k[terms > 0]
    padded = _ranges(8 * _before(plane_bytes), terms)
    for plane in range(int(k.max(initial=-1)) + 1 if len(gap) else 0):
        bits = np.zeros(8 * int(plane_bytes.sum()), np.uint8)
        bits[padded] = minus if plane == 0 else gap >> np.uint8(plane - 1) & np.uint8(1)
        has = k >= plane
        target = _ranges(start + 1 + plane * plane_bytes, np.where(has, plane_bytes, 0))
        data[target] = np.packbits(bits)[np.repeat(has, plane_bytes)]
    # the zero that ends each term
    zero = np.cumsum((gap >> np.repeat(k, terms).astype(np.uint8)).astype(np.int64) + 1) - 1
    zero += np.repeat(8 * _before(high_bytes) - _before(high_bits), terms)
    bits = np.ones(8 * int(high_bytes.sum()), np.uint8)
    bits[zero] = 0
    data[_ranges(start + 1 + (k + 1) * plane_bytes, high_bytes)] = np.packbits(bits)
    return data, size


def _cheapest(gap: Bytes, terms: Ints) -> tuple[Ints, Ints]:
    """For each tile the k with the fewest bytes, and the bits of the unary part with it."""
    tile = np.repeat(np.arange(0, len(terms) * _PLACES, _PLACES), terms)
    histogram = np.bincount(tile + gap, minlength=len(terms) * _PLACES).reshape(len(terms), _PLACES)
    k = np.arange(_MAX_K + 1)
    high_bits = histogram @ ((np.arange(_PLACES)[:, None] >> k) + 1)
    best = np.argmin((k + 1) * -(-terms[:, None] // 8) + -(-high_bits // 8), axis=1)
    return best, high_bits[np.arange(len(terms)), best]


@dataclass(frozen=True)
class Decoded:
    """What prefixes of streams hold.

    Attributes:
        codes: [tiles · groups, A] terms in rank order.
        count: [tiles, groups] how many of them each group has at this level.
        ends: [tiles, levels] lengths of the levels' prefixes.
    """

    codes: Bytes
    count: Bytes
    ends: Ints


def decode(data: Bytes, sizes: Ints, groups: int, alphas: Sequence[int], where: str) -> Decoded:
    """Read prefixes of the streams of tiles.

    Args:
        data: the prefixes, one after the other.
        sizes: [tiles] their lengths.
        groups: groups of a tile.
        alphas: the layer's α at each level up to and including the one read.
        where: what to call the streams in errors.

    Raises:
        MalformedError: not what `encode` writes, as far as places and lengths go.
    """
    reader = _Reader(data, sizes, where)
    count = reader.counts(groups)
    kept = np.minimum(count, min(alphas[-1], MAX_ALPHA)).reshape(-1)
    codes = np.zeros((int(kept.max(initial=0)), len(kept)), np.uint8)  # ranks are the outer axis
    place = np.full(len(kept), -1, np.int16)
    ends = []
    for low, high in itertools.pairwise((0, *alphas)):
        ranks = np.arange(low, min(high, len(codes)), dtype=np.uint8)
        present = ranks < kept[:, None]
        gap, minus = reader.section(np.count_nonzero(present.reshape(len(sizes), groups * len(ranks)), axis=1))
        steps, signs = np.zeros((2, *present.shape), np.uint8)
        steps[present], signs[present] = gap, minus
        for rank, there, step, sign in zip(ranks, present.T, steps.T, signs.T, strict=True):
            place = place + step + 1
            if place[there].max(initial=0) >= _PLACES:
                raise MalformedError(where, "a term beyond the last place", f"places below {_PLACES}")
            code = (7 - (place >> 4)) << 5 | place & 15
            codes[rank] = np.where(there, code.astype(np.uint8) | sign << np.uint8(4), 0)
        ends.append(reader.position)
    reader.finish()
    return Decoded(codes.T, kept.reshape(count.shape), np.stack(ends, axis=1) - _before(sizes)[:, None])


class _Reader:
    """Reads the next part of every tile at once; `position` [tiles] is the next byte of each."""

    def __init__(self, data: Bytes, sizes: Ints, where: str) -> None:
        self._data, self._where = data, where
        self._stop = np.cumsum(sizes)
        self.position = self._stop - sizes

    def counts(self, groups: int) -> Bytes:
        """Terms of each group, [tiles, groups]."""
        if not groups:
            return np.empty((len(self.position), 0), np.uint8)
        size = np.full(len(self.position), 1 + -(-groups // 8))
        header = self._take(size).reshape(len(size), 1 + -(-groups // 8))
        most, full = header[:, :1], np.unpackbits(header[:, 1:], axis=1).view(np.bool_)
        if full[:, groups:].any():
            raise MalformedError(self._where, "flags of groups that are not there", "zeros")
        full = full[:, :groups]
        count = np.where(full, most, np.uint8(0))
        count[~full] = self._take(np.count_nonzero(~full, axis=1))
        if most.max(initial=0) > MAX_ALPHA or ((count >= most) & ~full).any():
            raise MalformedError(
                self._where, f"groups of {count.max()} terms where {most.max()} are the most", f"at most {MAX_ALPHA}"
            )
        return count

    def section(self, terms: Ints) -> tuple[Bytes, Bytes]:
        """Gaps (more than 128 as 128) and signs of an increment with so many terms in each tile."""
        some = terms > 0
        k = np.zeros(len(terms), np.int64)
        k[some] = self._take(some.astype(np.int64))
        if k.max(initial=0) > _MAX_K:
            raise MalformedError(self._where, f"k = {k.max()}", f"0…{_MAX_K}")
        plane_bytes = -(-terms // 8)
        read = _ranges(8 * _before(plane_bytes), terms)
        planes = []
        for plane in range(int(k.max(initial=0)) + 1):
            bits = np.zeros(8 * int(plane_bytes.sum()), np.uint8)
            has = k >= plane
            taken = self._take(np.where(has, plane_bytes, 0))
            bits[np.repeat(has, 8 * plane_bytes)] = np.unpackbits(taken)
            planes.append(bits[read])
        gap = self._unary(terms) << np.repeat(k, terms)
        for number, low in enumerate(planes[1:]):
            gap |= low.astype(np.int64) << number
        return np.minimum(gap, _PLACES).astype(np.uint8), planes[0]

    def _unary(self, terms: Ints) -> Ints:
        """So many numbers of each tile."""
        left = self._stop - self.position
        for window in (np.minimum(left, terms // 2 + 8), left):  # mostly, the first half byte per term is enough
            zeros = np.flatnonzero(np.unpackbits(self._data[_ranges(self.position, window)]) == 0)
            first = 8 * _before(window)
            number = np.searchsorted(zeros, first)
            if (np.append(number[1:], len(zeros)) - number >= terms).all():
                break
        else:
            raise self._short()
        zero, some = zeros[_ranges(number, terms)], terms > 0
        before = np.concatenate([zero[:1], zero[:-1]])
        before[_before(terms)[some]] = first[some] - 1
        size = np.zeros_like(terms)
        size[some] = (zero[np.cumsum(terms)[some] - 1] - first[some]) // 8 + 1
        self._skip(size)
        value: Ints = zero - before - 1
        return value

    def finish(self) -> None:
        """All bytes must have been read."""
        for tile in np.flatnonzero(self.position != self._stop):
            left = self._stop[tile] - self.position[tile]
            raise MalformedError(self._where, f"{left} bytes too many", "exactly the prefix")

    def _take(self, size: Ints) -> Bytes:
        start = self.position
        self._skip(size)
        taken: Bytes = self._data[_ranges(start, size)]
        return taken

    def _skip(self, size: Ints) -> None:
        self.position = self.position + size
        if (self.position > self._stop).any():
            raise self._short()

    def _short(self) -> MalformedError:
        return MalformedError(self._where, "a stream that ends too early", "what encode writes")


def _before(size: Ints) -> Ints:
    """Sum of all sizes before each."""
    total: Ints = np.cumsum(size) - size
    return total


def _ranges(start: Ints, size: Ints) -> Ints:
    """start[0] … start[0] + size[0] - 1, start[1] …"""
    within = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
    return np.repeat(start, size) + within
