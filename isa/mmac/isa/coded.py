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
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from mmac.isa.errors import MalformedError
from mmac.isa.plan import GROUP_SIZE, MAX_ALPHA
from mmac.isa.term_table import to_codes, to_places

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.generic)

CHUNK = 1 << 15
"""Groups encoded at once, so that the temporaries stay in the cache; fewer lose time in calls."""

_PLACES = 8 * GROUP_SIZE
_MAX_K = 6
_SIGN = 7
_BITS = (1 << np.arange(8)).astype(np.uint8)[:, None]
RAGGED = 128
"""First byte of a ragged stream."""


def encode(codes: Bytes, kept: Bytes, alphas: Sequence[int]) -> tuple[Bytes, Ints]:
    """Streams of tiles, one after the other.

    Args:
        codes: [tiles · groups, A] terms in rank order, as in `term_table.TermTable`.
        kept: [levels, tiles, groups] how many of them each group keeps at each level, not falling.
        alphas: the layer's α at each level, not falling.

    Returns:
        The bytes, and int64 [tiles, levels]: the length of the prefix that a level reads.
    """
    tiles, groups = kept.shape[1:]
    step = max(1, CHUNK // max(1, groups))
    chunks = [slice(start, start + step) for start in range(0, max(1, tiles), step)]
    found = [_encode(codes[part.start * groups : part.stop * groups], kept[:, part], alphas) for part in chunks]
    return np.concatenate([data for data, _ in found]), np.concatenate([ends for _, ends in found])


def _encode(codes: Bytes, kept: Bytes, alphas: Sequence[int]) -> tuple[Bytes, Ints]:
    count = kept[-1]
    ragged = (kept != np.minimum(count, limits(alphas))).any(axis=(0, 2))
    parts = _header(count, ragged)
    gaps = _gaps(codes)
    ends = []
    low = np.zeros_like(count)
    for high in kept:
        extra = high - low
        parts += _section(extra[ragged].ravel(), np.where(ragged, count.shape[1], 0))
        ranks, inside = _between(low, high)
        parts += _section(
            np.extract(_by_group(inside), _by_group(gaps.T[ranks])), extra.sum(axis=1, dtype=np.int64), signed=True
        )
        ends.append(np.sum([part.used for part in parts], axis=0))
        low = high
    return _joined(parts), np.stack(ends, axis=1)


def limits(alphas: Sequence[int]) -> Bytes:
    """α of each level as bytes, [L, 1, 1]."""
    most: Bytes = np.minimum(np.array(alphas), MAX_ALPHA).astype(np.uint8).reshape(-1, 1, 1)
    return most


class _Part(NamedTuple):
    """A piece of each tile's stream: `data` of all tiles, [tiles] its bytes, and how many of these are used."""

    data: Bytes
    size: Ints
    used: Ints


def _joined(parts: Sequence[_Part]) -> Bytes:
    """All pieces of the first tile, all of the second, …"""
    size, used = np.stack([part.size for part in parts]), np.stack([part.used for part in parts])
    start = _before(size.ravel()).reshape(size.shape)
    joined: Bytes = np.concatenate([part.data for part in parts])[_ranges(start.T.ravel(), used.T.ravel())]
    return joined


def _header(count: Bytes, ragged: Mask) -> list[_Part]:
    """What comes before the increments of each tile: nothing for a tile without groups."""
    tiles, groups = count.shape
    most = count.max(axis=1, keepdims=True, initial=0)
    first = np.where(ragged, np.uint8(RAGGED), most[:, 0])
    missing = _section((most - count)[~ragged].ravel(), np.where(ragged, 0, groups))
    return [_Part(first, np.full(tiles, 1), np.full(tiles, min(groups, 1))), *missing]


def _gaps(codes: Bytes) -> Bytes:
    """[groups, A] the gap before each term, and in bit 7 its sign."""
    place = to_places(codes)
    gap = place.copy()
    gap[:, 1:] -= place[:, :-1] + np.uint8(1)
    return gap & np.uint8(127) | (codes & np.uint8(16)) * np.uint8(8)


def _between(low: Bytes, high: Bytes) -> tuple[slice, Mask]:
    """An increment of all groups: its ranks in a table, and which of them each group has, [ranks, groups]."""
    first = int(low.min(initial=MAX_ALPHA, where=low < high))
    stop = max(first, int(high.max(initial=0)))
    rank = np.arange(first, stop, dtype=np.uint8)[:, None]
    return slice(first, stop), (rank >= low.ravel()) & (rank < high.ravel())


def _section(numbers: Bytes, count: Ints, signed: bool = False) -> list[_Part]:
    """A section of each tile.

    Args:
        numbers: of all tiles, one tile after the other, 0…127; bit 7 is the sign.
        count: [tiles] how many each has.
        signed: whether they have signs.
    """
    plane_bytes = -(-count // 8)
    padded = np.insert(numbers, np.repeat(np.cumsum(count), 8 * plane_bytes - count), 0)
    planes = np.packbits(padded & _BITS, axis=1)
    some = count > 0
    ones = np.zeros((_SIGN, len(count)), np.int64)
    ones[:, some] = np.add.reduceat(
        np.bitwise_count(planes[:_SIGN]), _before(plane_bytes)[some], axis=1, dtype=np.uint32
    )
    best, high_bits = _cheapest(ones, count)
    high_bytes = -(-high_bits // 8)
    unary = _unary(numbers & np.uint8(127), best, count, 8 * high_bytes - high_bits)
    return [
        _Part(best.astype(np.uint8), np.ones_like(count), np.minimum(count, 1)),
        *([_Part(planes[_SIGN], plane_bytes, plane_bytes)] if signed else []),
        *(_Part(planes[bit], plane_bytes, np.where(best > bit, plane_bytes, 0)) for bit in range(best.max(initial=0))),
        _Part(unary, high_bytes, high_bytes),
    ]


def _cheapest(ones: Ints, count: Ints) -> tuple[Ints, Ints]:
    """For each tile the k with the fewest bytes, and the bits of the unary part with it.

    Args:
        ones: [7, tiles] how many numbers have each bit; those from k on add up to the numbers >> k.
        count: [tiles] how many numbers there are.
    """
    k = np.arange(_MAX_K + 1)[:, None]
    high_bits = count + ((1 << np.arange(len(ones))) >> k) @ ones
    best = np.argmin(k * -(-count // 8) + -(-high_bits // 8), axis=0)
    return best, high_bits[best, np.arange(len(count))]


def _unary(numbers: Bytes, k: Ints, count: Ints, filling: Ints) -> Bytes:
    """The unary parts of all tiles, each with so many ones at its end."""
    steps = (numbers >> np.repeat(k.astype(np.uint8), count)) + np.uint8(1)
    some = count > 0
    steps[_before(count)[some][1:]] += filling[some][:-1].astype(np.uint8)
    zeros = np.cumsum(steps, dtype=np.int64)
    total = int(zeros[-1] + filling[some][-1]) if len(zeros) else 0
    bits = np.ones(1 + total, np.bool_)
    bits[zeros] = False
    return np.packbits(bits[1:])


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
    gaps = np.zeros((min(max(alphas), MAX_ALPHA), count.size), np.uint8)
    low = np.zeros_like(count)
    kept, ends = [], []
    for alpha in alphas:
        high = reader.kept(count, ragged, low, min(alpha, MAX_ALPHA))
        found = reader.section((high - low).sum(axis=1, dtype=np.int64), signed=True)
        ranks, inside = _between(low, high)
        by_group = np.zeros(inside.shape[::-1], np.uint8)
        by_group.reshape(-1)[np.flatnonzero(_by_group(inside))] = found
        gaps[ranks] |= by_group.T
        kept.append(high)
        ends.append(reader.position)
        low = high
    reader.finish()
    found = _terms(gaps[: low.max(initial=0)], low.ravel(), where)
    return Decoded(found.T, np.stack(kept), np.stack(ends, axis=1) - _before(sizes)[:, None])


def _terms(gaps: Bytes, count: Bytes, where: str) -> Bytes:
    """Terms [ranks, groups] from what `_gaps` gives; 0 from rank `count` [groups] on."""
    place = np.empty_like(gaps)
    last = np.full(len(count), 255, np.uint8)  # -1 modulo 256
    for gap, own in zip(gaps & np.uint8(127), place, strict=True):
        last = np.add(last + np.uint8(1), gap, out=own)
    valid = np.arange(len(gaps), dtype=np.uint8)[:, None] < count
    # the first of a group that is too large is still below 256
    if ((place >= _PLACES) & valid).any():
        raise MalformedError(where, "a term beyond the last place", f"places below {_PLACES}")
    return to_codes(place, gaps >> np.uint8(_SIGN)) * valid


class _Reader:
    """Reads the next part of every tile at once; `position` [tiles] is the next byte of each."""

    def __init__(self, data: Bytes, sizes: Ints, where: str) -> None:
        self._data, self._where = data, where
        self._stop = np.cumsum(sizes)
        self.position = self._stop - sizes

    def header(self, groups: int) -> tuple[Bytes, Mask]:
        """Terms of each group at the highest level, [tiles, groups], and which streams are ragged and say it later."""
        tiles = len(self.position)
        if not groups:
            return np.empty((tiles, 0), np.uint8), np.zeros(tiles, np.bool_)
        most = self._take(np.ones(tiles, np.int64))
        ragged = most == RAGGED
        if most[~ragged].max(initial=0) > MAX_ALPHA:
            raise MalformedError(self._where, f"groups of {most[~ragged].max()} terms", f"at most {MAX_ALPHA}")
        missing = self.section(np.where(ragged, 0, groups))
        count = np.repeat(most[:, None], groups, axis=1)
        fewer = missing.reshape(-1, groups)
        if (fewer > most[~ragged, None]).any():
            raise MalformedError(self._where, "a group of fewer than no terms", f"0…{MAX_ALPHA}")
        count[~ragged] -= fewer
        return count, ragged

    def kept(self, count: Bytes, ragged: Mask, low: Bytes, alpha: int) -> Bytes:
        """Terms of each group at the next level, [tiles, groups], from those at the highest and at the last one."""
        high = np.minimum(count, np.uint8(alpha))
        if ragged.any():
            extra = self.section(np.where(ragged, count.shape[1], 0))
            high[ragged] = low[ragged] + extra.reshape(-1, count.shape[1])
            if high.max() > alpha:
                raise MalformedError(self._where, f"a group of {high.max()} terms", f"at most {alpha} at this level")
        if (high < low).any():
            raise MalformedError(self._where, "budgets that fall from level to level", "budgets that do not")
        return high

    def section(self, count: Ints, signed: bool = False) -> Bytes:
        """So many numbers of each tile, more than 127 as 128; or, if signs are bit 7, no more than 127."""
        some = count > 0
        k = np.zeros(len(count), np.uint8)
        k[some] = self._take(some.astype(np.int64))
        if k.max(initial=0) > _MAX_K:
            raise MalformedError(self._where, f"k = {k.max()}", f"0…{_MAX_K}")
        plane_bytes = -(-count // 8)
        padded = np.zeros(8 * int(plane_bytes.sum()), np.uint8)
        for bit in (*[_SIGN] * signed, *range(k.max(initial=0))):
            has = (k > bit) | (bit == _SIGN)
            plane = np.zeros(len(padded) // 8, np.uint8)
            plane[np.repeat(has, plane_bytes)] = self._take(np.where(has, plane_bytes, 0))
            padded |= np.unpackbits(plane) * np.uint8(1 << bit)
        low = np.delete(padded, _ranges(8 * _before(plane_bytes) + count, 8 * plane_bytes - count))
        high = self._unary(count).astype(np.uint16) << np.repeat(k, count)
        if signed and high.max(initial=0) >= _PLACES:
            raise MalformedError(self._where, "a term beyond the last place", f"places below {_PLACES}")
        numbers: Bytes = (high | low if signed else np.minimum(high | low, _PLACES)).astype(np.uint8)
        return numbers

    def _unary(self, count: Ints) -> Bytes:
        """So many numbers of each tile, those above 128 as 128."""
        size = self._unary_bytes(count)
        zeros = np.flatnonzero(np.unpackbits(~self._take(size)).view(np.bool_))
        if len(zeros) > count.sum():
            raise MalformedError(self._where, "zeros after the last number", "ones")
        numbers, some = zeros - 1, count > 0
        numbers[1:] -= zeros[:-1]
        first = _before(count)[some]
        numbers[first] = zeros[first] - 8 * _before(size)[some]
        return np.minimum(numbers, _PLACES).astype(np.uint8)

    def _unary_bytes(self, count: Ints) -> Ints:
        """Bytes of each tile up to the one with the zero that ends so many numbers."""
        left = self._stop - self.position
        for window in (np.minimum(left, count // 2 + 8), left):  # mostly, half a byte a number is enough
            zeros = np.bitwise_count(~self._data[_ranges(self.position, window)])
            total = np.cumsum(zeros, dtype=np.int64)
            first = _before(window)
            before = np.concatenate([[0], total])[first]
            last = np.searchsorted(total, before + count)
            size = np.where(count > 0, last + 1 - first, 0)
            if (size <= window).all():
                return size
        raise self._short()

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


def _by_group(rows: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """[ranks, groups] with groups as the outer axis in memory; numpy's own copy is slow if there are few ranks."""
    out = np.empty(rows.shape[::-1], rows.dtype)
    for column, row in zip(out.T, rows, strict=True):
        column[:] = row
    return out


def _before(size: Ints) -> Ints:
    """Sum of all sizes before each."""
    total: Ints = np.cumsum(size) - size
    return total


def _ranges(start: npt.NDArray[np.integer[Any]], size: npt.NDArray[np.integer[Any]]) -> Ints:
    """start[0] … start[0] + size[0] - 1, start[1] …"""
    first = np.cumsum(size, dtype=np.int64) - size
    return np.repeat(start - first, size) + np.arange(int(size.sum(dtype=np.int64)))
