"""Weight tiles as bytes: the term streams that `load.terms` reads.

A tile is int16 [G, N, 16]: G groups along the reduction axis, N output channels. In a stream its groups come in
row-major (g, n) order.

``plain``
    One byte per group with the number of terms n that it keeps at the highest level; then, level by level of the
    layer's plan, the increments: for each group in order its terms of ranks α(l-1) … min(n, α(l))-1, one byte each
    (exponent in bits 7…5, sign in bit 4, 1 = negative, index in the group in bits 3…0). A level reads one contiguous
    prefix.

``coded``
    The same terms in about half the bytes, prefixes likewise (`mmac.isa.coded`). Only here can groups have budgets of
    their own, below the layer's.

``raw``
    The values as int8, the same bytes at every level; they are ranked and cut to α while loading.

Ranks order a group's terms by falling exponent, then rising index (`mmac.isa.terms`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mmac.isa import coded, terms
from mmac.isa.errors import MalformedError
from mmac.isa.plan import GROUP_SIZE, MAX_ALPHA
from mmac.isa.table import TermFormat

Bytes = npt.NDArray[np.uint8]

Scalar = TypeVar("Scalar", bound=np.generic)

_PLANES = 8
_DIGITS = _PLANES * GROUP_SIZE

_CHUNK = 1 << 13
"""Groups ranked per pass, so that the temporaries (256 bytes a group) stay in the second-level cache."""

_CHECKED = 1 << 13
"""Groups checked per pass, likewise: 32 bytes a group."""


@dataclass(frozen=True)
class EncodedTiles:
    """Streams of tiles of one shape.

    Attributes:
        data: all streams one after the other, uint8.
        size: [T] bytes of each stream.
        level_bytes: [T, L] length of the prefix that a level reads.
        level_alpha: [T, L] most terms that any group of the tile keeps at a level.
    """

    data: Bytes
    size: npt.NDArray[np.int64]
    level_bytes: npt.NDArray[np.int64]
    level_alpha: npt.NDArray[np.int64]

    @property
    def offset(self) -> npt.NDArray[np.int64]:
        """[T] first byte of each stream in `data`."""
        return np.cumsum(self.size) - self.size


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
        return _valid(self.count, self.codes.shape[1])

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
        place = coded.places(self.codes)
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
        place, valid, sign = coded.places(self.codes), self.valid(), self.sign
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


@dataclass(frozen=True)
class DecodedTiles:
    """What prefixes of streams hold.

    Attributes:
        table: the terms at the level that was read.
        kept: [L, T, groups] how many of them each group keeps at each level up to that one.
        level_bytes: [T, L] length of the prefix that each of these levels reads.
    """

    table: TermTable
    kept: Bytes
    level_bytes: npt.NDArray[np.int64]


def _valid(count: Bytes, most: int) -> npt.NDArray[np.bool_]:
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
    for start in range(0, len(codes), _CHECKED):
        part = slice(start, start + _CHECKED)
        words, least = planes[part].view(np.uint64), count[part].min()
        for rank, column in enumerate(codes[part].T):
            found = bits[column]
            if rank >= least:
                found[count[part] <= rank] = 0
            words |= found.view(np.uint64).reshape(words.shape)
    return planes


def encode(
    kind: TermFormat, tiles: npt.NDArray[np.integer[Any]], alphas: Sequence[int], limits: Bytes | None = None
) -> EncodedTiles:
    """Encode many tiles at once.

    Args:
        kind: format of the streams.
        tiles: [T, G, N, 16] weights in -128…128 (``raw``: -128…127), already in groups.
        alphas: the layer's α at each level, not falling.
        limits: [L, T, G, N] the groups' own α at each level, not falling, if they have any (``coded`` only).

    Raises:
        ValueError: values or budgets out of range.
    """
    if tiles.ndim != 4 or tiles.shape[-1] != GROUP_SIZE:
        raise ValueError(f"tiles of shape {tiles.shape}; [tiles, groups, channels, {GROUP_SIZE}]")
    if not alphas or list(alphas) != sorted(alphas) or alphas[0] < 1:
        raise ValueError(f"budgets {list(alphas)} fall or are below 1")
    if kind == TermFormat.CODED:
        return _encode_coded(tiles, alphas, limits)
    if limits is not None:
        raise ValueError(f"groups with budgets of their own as {kind.name.lower()}")
    return _encode_raw(tiles, alphas) if kind == TermFormat.RAW else _encode_plain(tiles, alphas)


def _encode_raw(tiles: npt.NDArray[np.integer[Any]], alphas: Sequence[int]) -> EncodedTiles:
    if tiles.size and not (tiles.min() >= -128 and tiles.max() <= 127):
        raise ValueError("a raw stream cannot hold a weight outside -128…127")
    count = terms.group_term_count(tiles).reshape(len(tiles), tiles.shape[1] * tiles.shape[2])
    size = np.full(len(tiles), count.shape[1] * GROUP_SIZE)
    data = np.ascontiguousarray(tiles, np.int8).view(np.uint8).reshape(-1)
    return EncodedTiles(data, size, np.repeat(size[:, None], len(alphas), axis=1), _level_alpha(count, alphas))


def _encode_plain(tiles: npt.NDArray[np.integer[Any]], alphas: Sequence[int]) -> EncodedTiles:
    table = rank(tiles, alphas[-1])
    count = table.count.reshape(len(tiles), tiles.shape[1] * tiles.shape[2])
    present = _interleave(np.ones(count.shape, np.bool_), table.valid(), alphas)
    data = _interleave(count, table.codes, alphas).ravel()[np.flatnonzero(present)]
    kept = np.stack([np.minimum(count, alpha).sum(axis=1, dtype=np.int64) for alpha in alphas], axis=1)
    level_bytes = kept + count.shape[1]
    return EncodedTiles(data, level_bytes[:, -1], level_bytes, _level_alpha(count, alphas))


def _encode_coded(tiles: npt.NDArray[np.integer[Any]], alphas: Sequence[int], limits: Bytes | None) -> EncodedTiles:
    table = rank(tiles, alphas[-1])
    count = table.count.reshape(len(tiles), tiles.shape[1] * tiles.shape[2])
    kept = _kept(count, alphas)
    if limits is not None:
        kept = np.minimum(kept, limits.reshape(kept.shape))
    data, ends = coded.encode(table.codes, kept, alphas)
    most = kept.max(axis=2, initial=0).T.astype(np.int64)
    return EncodedTiles(data, ends[:, -1], ends, most)


def _level_alpha(count: npt.NDArray[np.integer[Any]], alphas: Sequence[int]) -> npt.NDArray[np.int64]:
    most: npt.NDArray[np.int64] = count.max(axis=1, initial=0).astype(np.int64)
    return np.minimum(most[:, None], np.array(alphas, np.int64))


def _interleave(head: npt.NDArray[Scalar], ranks: npt.NDArray[Scalar], alphas: Sequence[int]) -> npt.NDArray[Scalar]:
    """[T, groups] headers and [T·groups, A] ranks in the order of a plain stream: [T, groups + groups·A]."""
    most = ranks.shape[1]
    out = np.empty((len(head), head.shape[1] * (1 + most)), head.dtype)
    for target, column in zip(_columns(out, most, alphas), (head, *ranks.T), strict=True):
        target[...] = column.reshape(head.shape)
    return out


def _columns(streams: npt.NDArray[Scalar], most: int, alphas: Sequence[int]) -> Iterator[npt.NDArray[Scalar]]:
    """Windows [T, groups] of plain streams [T, groups + groups·most]: the headers, then each rank."""
    groups = streams.shape[1] // (1 + most)
    yield streams[:, :groups]
    start = groups
    for low, high in itertools.pairwise((0, *alphas)):
        width = min(high, most) - min(low, most)
        stop = start + groups * width
        for rank in range(width):
            yield streams[:, start + rank : stop : width]
        start = stop


def decode(
    kind: TermFormat,
    data: Bytes,
    shape: tuple[int, ...],
    alphas: Sequence[int],
    sizes: npt.ArrayLike | None = None,
    where: str = "term stream",
) -> DecodedTiles:
    """Read what a level reads: the prefix of one tile's stream, or of many tiles' streams at once.

    Args:
        kind: format of the streams.
        data: exactly the prefixes, one after the other, uint8.
        shape: (G, N) of the one tile, or (T, G, N).
        alphas: the layer's α at each level up to and including this one.
        sizes: [T] bytes of each prefix, if there are many.
        where: what to call the streams in errors.

    Raises:
        MalformedError: wrong length, or not what `encode` gives for any weights.
    """
    size = np.array([len(data)] if sizes is None else sizes, np.int64)
    groups = shape[-2] * shape[-1]
    if size.sum() != len(data) or (len(shape) == 3 and len(size) != shape[0]):
        raise _bad_length(where, len(data), size.sum())
    if kind == TermFormat.RAW:
        _check_sizes(where, size, np.full(len(size), groups * GROUP_SIZE))
        table = rank(data.view(np.int8).reshape(*shape, GROUP_SIZE), alphas[-1])
        kept = _kept(table.count.reshape(len(size), groups), alphas)
        return DecodedTiles(table, kept, np.repeat(size[:, None], len(alphas), axis=1))
    if kind == TermFormat.CODED:
        found = coded.decode(data, size, groups, alphas, where)
        table = TermTable(found.codes, found.kept[-1].ravel(), shape)
        return DecodedTiles(_canonical(table, where), found.kept, found.ends)
    _check_sizes(where, np.minimum(size, groups), np.full(len(size), groups))
    head = data[(np.cumsum(size) - size)[:, None] + np.arange(groups)]
    if head.max(initial=0) > MAX_ALPHA:
        raise MalformedError(where, f"a group of {head.max()} terms", f"at most {MAX_ALPHA}")
    count = np.minimum(head, np.uint8(min(alphas[-1], MAX_ALPHA)))
    _check_sizes(where, size, groups + count.sum(axis=1, dtype=np.int64))
    table = TermTable(_deinterleave(data, count, alphas), count.ravel(), shape)
    kept = _kept(count, alphas)
    return DecodedTiles(_canonical(table, where), kept, groups + kept.sum(axis=2, dtype=np.int64).T)


def _kept(count: Bytes, alphas: Sequence[int]) -> Bytes:
    """[L, T, groups] terms of groups at each level, of those that they have at the highest: [T, groups]."""
    return np.minimum(count, coded.limits(alphas))


def _canonical(table: TermTable, where: str) -> TermTable:
    if not table.is_canonical():
        raise MalformedError(where, "terms that are not the ranked signed digits of weights", "what encode writes")
    return table


def _deinterleave(data: Bytes, count: Bytes, alphas: Sequence[int]) -> Bytes:
    """Plain streams of [T, groups] terms back to ranks [T·groups, A]: the inverse of `_interleave`."""
    most = int(count.max(initial=0))
    present = _interleave(np.ones(count.shape, np.bool_), _valid(count, most), alphas)
    dense = np.zeros(present.shape, np.uint8)
    dense[present] = data
    codes = np.empty((most, count.size), np.uint8)
    for target, column in zip(codes, itertools.islice(_columns(dense, most, alphas), 1, None), strict=True):
        target.reshape(count.shape)[...] = column
    return codes.T


def _check_sizes(where: str, found: npt.NDArray[np.int64], allowed: npt.NDArray[np.int64]) -> None:
    for tile in np.flatnonzero(found != allowed):
        raise _bad_length(where, found[tile], allowed[tile])


def _bad_length(where: str, found: np.int64 | int, allowed: np.int64 | int) -> MalformedError:
    return MalformedError(where, f"{found} bytes", f"{allowed} bytes")


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


def _codes(kept: Bytes, negative: Bytes) -> Bytes:
    """Bytes of the terms at digit positions `kept`, group by group, in rank order."""
    digits = np.flatnonzero(_bits(kept))
    return coded.codes(digits.astype(np.uint8) & np.uint8(_DIGITS - 1), _bits(negative)[digits])


def _bits(masks: Bytes) -> npt.NDArray[np.bool_]:
    """Digit positions [groups, 16] → whether there is a digit at each place of each group, [groups · 128]."""
    planes = np.empty((_PLANES, *masks.shape), np.uint8)
    for e, plane in enumerate(planes[::-1]):
        np.bitwise_and(masks >> np.uint8(e), np.uint8(1), out=plane)
    return _swap(planes).view(np.bool_).ravel()


def _swap(blocks: Bytes) -> Bytes:
    """[a, b, 16] → [b, a, 16], sixteen bytes at a time."""
    return np.ascontiguousarray(blocks.view(np.complex128)[..., 0].T)[..., None].view(np.uint8)
