"""Coded term streams: the places of a group's terms as gaps, Rice-coded with the unary and the binary parts apart.

The place of a term is 16 · (7 - exponent) + index, so places rise from rank to rank, and a gap is the number of places
skipped: place - previous place - 1, the previous place of a group's first term being -1.

A *section* of n numbers is

* a byte k, 0…6;
* planes of ⌈n/8⌉ bytes, a bit for each number: its sign (1 = negative) if the numbers have signs, then its k low bits,
  the lowest first;
* number >> k of each in unary, that many ones and a zero; the last byte is filled up with ones.

A section without numbers is empty. Bits are counted from the highest of a byte.

A *nested* stream, in which every group has the same budget, begins with a byte with the most terms that any group keeps
at the highest level, and a section (without signs) that says by how many each group keeps fewer. Then come the
increments, each a section with the gaps and signs of its terms in (group, rank) order: those of ranks
α(l-1) … α(l) - 1. A *ragged* stream, of groups with budgets of their own, begins with the byte 128, and each increment
with a section (without signs) that says how many terms each group has in it.

Every zero of the unary part ends a number, so that all of a section are found at once: by whoever counts zeros here, by
a decoder of many terms per cycle in hardware. The mixed code words of a plain Rice code would have to be followed one
by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa.errors import MalformedError
from mmac.isa.plan import GROUP_SIZE, MAX_ALPHA

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int16]

_PLACES = 8 * GROUP_SIZE
_MAX_K = 6
RAGGED = 128
"""First byte of a ragged stream."""


def encode(codes: Bytes, kept: Bytes, alphas: Sequence[int]) -> tuple[Bytes, Ints]:
    """Streams of tiles, one after the other.

    Args:
        codes: [tiles · groups, A] terms in rank order, as in `streams.TermTable`.
        kept: [levels, tiles, groups] how many of them each group keeps at each level, not falling.
        alphas: the layer's α at each level, not falling.

    Returns:
        The bytes, and int64 [tiles, levels]: the length of the prefix that a level reads.
    """
    count = kept[-1]
    nested = np.minimum(count, limits(alphas))
    ragged = (kept != nested).any(axis=(0, 2))
    pieces = [_header(count, ragged)]
    place = places(codes)
    number = np.arange(len(codes))
    before = np.full(len(codes), 255, np.uint8)  # -1 modulo 256
    low = np.zeros_like(count)
    for high in kept:
        extra = high - low
        counts = _section(extra[ragged].ravel(), np.where(ragged, count.shape[1], 0))
        first, taken = low.ravel(), extra.ravel()
        rank = _ranges(first, taken)
        group = np.repeat(number, taken)
        own = place[group, rank]
        previous = np.empty_like(own)
        previous[1:] = own[:-1]
        some, last = taken > 0, np.cumsum(taken, dtype=np.int64)
        previous[(last - taken)[some]] = before[some]
        before[some] = own[last[some] - 1]
        minus = codes[group, rank] >> np.uint8(4) & np.uint8(1)
        terms = extra.sum(axis=1, dtype=np.int64)
        gaps = _section(own - previous - np.uint8(1), terms, minus)
        pieces.append(_joined(counts, gaps))
        low = high
    sizes = np.stack([size for _, size in pieces], axis=1)
    ends = np.cumsum(sizes, axis=1)
    start = (np.cumsum(ends[:, -1]) - ends[:, -1])[:, None] + ends - sizes
    data = np.empty(int(sizes.sum()), np.uint8)
    for piece, (own, size) in enumerate(pieces):
        data[_ranges(start[:, piece], size)] = own
    return data, ends[:, 1:]


def limits(alphas: Sequence[int]) -> Bytes:
    """α of each level as bytes, [L, 1, 1]."""
    most: Bytes = np.minimum(np.array(alphas), MAX_ALPHA).astype(np.uint8).reshape(-1, 1, 1)
    return most


def _joined(first: tuple[Bytes, Ints], second: tuple[Bytes, Ints]) -> tuple[Bytes, Ints]:
    """Two pieces of each tile, one after the other."""
    if not len(first[0]):
        return second
    size = first[1] + second[1]
    out = np.empty(int(size.sum()), np.uint8)
    out[_ranges(_before(size), first[1])] = first[0]
    out[_ranges(_before(size) + first[1], second[1])] = second[0]
    return out, size


def _header(count: Bytes, ragged: npt.NDArray[np.bool_]) -> tuple[Bytes, Ints]:
    """What comes before the increments of each tile, and its size: nothing for a tile without groups."""
    if not count.shape[1]:
        return np.empty(0, np.uint8), np.zeros(len(count), np.int64)
    most = count.max(axis=1, keepdims=True)
    missing = _section((most - count)[~ragged].ravel(), np.where(ragged, 0, count.shape[1]))
    return _joined((np.where(ragged, np.uint8(RAGGED), most[:, 0]), np.ones(len(count), np.int64)), missing)


def places(codes: Bytes) -> Bytes:
    """Places of terms in the order of ranks, 16 · (7 - exponent) + index, from their bytes in a plain stream."""
    return (~codes & np.uint8(0xE0)) >> np.uint8(1) | codes & np.uint8(15)


def _section(numbers: Bytes, count: Ints, minus: Bytes | None = None) -> tuple[Bytes, Ints]:
    """A section of each tile, and their sizes.

    Args:
        numbers: of all tiles, one tile after the other.
        count: [tiles] how many each has.
        minus: their signs, if they have any.
    """
    k, high_bits = _cheapest(numbers, count)
    signs = int(minus is not None)
    plane_bytes, high_bytes = -(-count // 8), -(-high_bits // 8)
    size = np.where(count > 0, 1 + (k + signs) * plane_bytes + high_bytes, 0)
    start = _before(size)
    data = np.empty(int(size.sum()), np.uint8)
    data[start[count > 0]] = k[count > 0]
    padded = _ranges(8 * _before(plane_bytes), count)
    planes = [numbers >> np.uint8(bit) & np.uint8(1) for bit in range(int(k.max(initial=0)))]
    for plane, bits in enumerate(planes if minus is None else [minus, *planes]):
        spread = np.zeros(8 * int(plane_bytes.sum()), np.uint8)
        spread[padded] = bits
        has = k + signs > plane
        target = _ranges(start + 1 + plane * plane_bytes, np.where(has, plane_bytes, 0))
        data[target] = np.packbits(spread)[np.repeat(has, plane_bytes)]
    # the zero that ends each number
    zero = np.cumsum((numbers >> np.repeat(k, count).astype(np.uint8)).astype(np.int64) + 1) - 1
    zero += np.repeat(8 * _before(high_bytes) - _before(high_bits), count)
    spread = np.ones(8 * int(high_bytes.sum()), np.uint8)
    spread[zero] = 0
    data[_ranges(start + 1 + (k + signs) * plane_bytes, high_bytes)] = np.packbits(spread)
    return data, size


def _cheapest(numbers: Bytes, count: Ints) -> tuple[Ints, Ints]:
    """For each tile the k with the fewest bytes, and the bits of the unary part with it."""
    tile = np.repeat(np.arange(0, len(count) * _PLACES, _PLACES), count)
    histogram = np.bincount(tile + numbers, minlength=len(count) * _PLACES).reshape(len(count), _PLACES)
    k = np.arange(_MAX_K + 1)
    high_bits = histogram @ ((np.arange(_PLACES)[:, None] >> k) + 1)
    best = np.argmin(k * -(-count[:, None] // 8) + -(-high_bits // 8), axis=1)
    return best, high_bits[np.arange(len(count)), best]


@dataclass(frozen=True)
class Decoded:
    """What prefixes of streams hold.

    Attributes:
        codes: [tiles · groups, A] terms in rank order.
        kept: [levels, tiles, groups] how many of them each group keeps at each level up to the one read.
        ends: [tiles, levels] lengths of the levels' prefixes.
    """

    codes: Bytes
    kept: Bytes
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
    count, ragged = reader.header(groups)
    most = min(max(alphas), MAX_ALPHA)
    codes = np.zeros((most, count.size), np.uint8)  # ranks are the outer axis
    place = np.full(count.size, -1, np.int16)
    low = np.zeros_like(count)
    kept, ends = [], []
    for alpha in alphas:
        high = reader.kept(count, ragged, low, min(alpha, MAX_ALPHA))
        extra = (high - low).ravel()
        gap, minus = reader.section((high - low).sum(axis=1, dtype=np.int64), signed=True)
        place = _place(codes, place, low.ravel(), extra, gap, minus)
        if place.max(initial=0) >= _PLACES:
            raise MalformedError(where, "a term beyond the last place", f"places below {_PLACES}")
        kept.append(high)
        ends.append(reader.position)
        low = high
    reader.finish()
    used = int(low.max(initial=0))
    return Decoded(codes[:used].T, np.stack(kept), np.stack(ends, axis=1) - _before(sizes)[:, None])


def _place(codes: Bytes, place: Places, first: Bytes, extra: Bytes, gap: Bytes, minus: Bytes) -> Places:
    """Write the terms of an increment into `codes`; returns the place of the last term of each group.

    Args:
        codes: [ranks, groups].
        place: [groups] of the term before.
        first: [groups] rank of the first one.
        extra: [groups] how many there are.
        gap: of each, group by group, and `minus`, whether it is negative.
    """
    start = np.cumsum(extra, dtype=np.int64) - extra
    group = np.arange(len(extra))
    for step in range(int(extra.max(initial=0))):
        if step >= extra.min():
            group = group[extra[group] > step]
        at = start[group] + step
        place[group] += gap[at].astype(np.int16) + 1
        own = place[group]
        code = (~(own >> 4) & 7) << 5 | own & 15 | minus[at].astype(np.int16) << 4
        codes[first[group] + step, group] = code.astype(np.uint8)
    return place


class _Reader:
    """Reads the next part of every tile at once; `position` [tiles] is the next byte of each."""

    def __init__(self, data: Bytes, sizes: Ints, where: str) -> None:
        self._data, self._where = data, where
        self._stop = np.cumsum(sizes)
        self.position = self._stop - sizes

    def header(self, groups: int) -> tuple[Bytes, npt.NDArray[np.bool_]]:
        """Terms of each group at the highest level, [tiles, groups], and which streams are ragged and say it later."""
        tiles = len(self.position)
        if not groups:
            return np.empty((tiles, 0), np.uint8), np.zeros(tiles, np.bool_)
        most = self._take(np.ones(tiles, np.int64))
        ragged = most == RAGGED
        if most[~ragged].max(initial=0) > MAX_ALPHA:
            raise MalformedError(self._where, f"groups of {most[~ragged].max()} terms", f"at most {MAX_ALPHA}")
        missing, _ = self.section(np.where(ragged, 0, groups), signed=False)
        count = np.repeat(most[:, None], groups, axis=1)
        fewer = missing.reshape(-1, groups)
        if (fewer > most[~ragged, None]).any():
            raise MalformedError(self._where, "a group of fewer than no terms", f"0…{MAX_ALPHA}")
        count[~ragged] -= fewer
        return count, ragged

    def kept(self, count: Bytes, ragged: npt.NDArray[np.bool_], low: Bytes, alpha: int) -> Bytes:
        """Terms of each group at the next level, [tiles, groups], from those at the highest and at the last one."""
        high = np.minimum(count, np.uint8(alpha))
        if ragged.any():
            extra, _ = self.section(np.where(ragged, count.shape[1], 0), signed=False)
            high[ragged] = low[ragged] + extra.reshape(-1, count.shape[1])
            if high.max() > alpha:
                raise MalformedError(self._where, f"a group of {high.max()} terms", f"at most {alpha} at this level")
        return high

    def section(self, count: Ints, signed: bool) -> tuple[Bytes, Bytes]:
        """So many numbers of each tile (more than 128 as 128), and their signs."""
        some = count > 0
        k = np.zeros(len(count), np.int64)
        k[some] = self._take(some.astype(np.int64))
        if k.max(initial=0) > _MAX_K:
            raise MalformedError(self._where, f"k = {k.max()}", f"0…{_MAX_K}")
        plane_bytes = -(-count // 8)
        read = _ranges(8 * _before(plane_bytes), count)
        planes = []
        for plane in range(int(k.max(initial=0)) + signed):
            bits = np.zeros(8 * int(plane_bytes.sum()), np.uint8)
            has = k + signed > plane
            taken = self._take(np.where(has, plane_bytes, 0))
            bits[np.repeat(has, 8 * plane_bytes)] = np.unpackbits(taken)
            planes.append(bits[read])
        signs = planes.pop(0) if signed else np.zeros(len(read), np.uint8)
        number = self._unary(count) << np.repeat(k, count)
        for bit, low in enumerate(planes):
            number |= low.astype(np.int64) << bit
        return np.minimum(number, _PLACES).astype(np.uint8), signs

    def _unary(self, count: Ints) -> Ints:
        """So many numbers of each tile."""
        left = self._stop - self.position
        for window in (np.minimum(left, count // 2 + 8), left):  # mostly, the first half byte per term is enough
            zeros = np.flatnonzero(np.unpackbits(self._data[_ranges(self.position, window)]) == 0)
            first = 8 * _before(window)
            begin = np.searchsorted(zeros, first)
            if (np.append(begin[1:], len(zeros)) - begin >= count).all():
                break
        else:
            raise self._short()
        zero, some = zeros[_ranges(begin, count)], count > 0
        before = np.concatenate([zero[:1], zero[:-1]])
        before[_before(count)[some]] = first[some] - 1
        size = np.zeros_like(count)
        size[some] = (zero[np.cumsum(count)[some] - 1] - first[some]) // 8 + 1
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


def _ranges(start: npt.NDArray[np.integer[Any]], size: npt.NDArray[np.integer[Any]]) -> Ints:
    """start[0] … start[0] + size[0] - 1, start[1] …"""
    first = np.cumsum(size, dtype=np.int64) - size
    return np.repeat(start - first, size) + np.arange(int(size.sum(dtype=np.int64)))
