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
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mmac.isa import coded, term_table, terms
from mmac.isa.errors import MalformedError
from mmac.isa.plan import GROUP_SIZE, MAX_ALPHA
from mmac.isa.table import TermFormat
from mmac.isa.term_table import TermTable

Bytes = npt.NDArray[np.uint8]

Scalar = TypeVar("Scalar", bound=np.generic)


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
    table = term_table.rank(tiles, alphas[-1])
    count = table.count.reshape(len(tiles), tiles.shape[1] * tiles.shape[2])
    present = _interleave(np.ones(count.shape, np.bool_), table.valid(), alphas)
    data = _interleave(count, table.codes, alphas).ravel()[np.flatnonzero(present)]
    kept = np.stack([np.minimum(count, alpha).sum(axis=1, dtype=np.int64) for alpha in alphas], axis=1)
    level_bytes = kept + count.shape[1]
    return EncodedTiles(data, level_bytes[:, -1], level_bytes, _level_alpha(count, alphas))


def _encode_coded(tiles: npt.NDArray[np.integer[Any]], alphas: Sequence[int], limits: Bytes | None) -> EncodedTiles:
    table = term_table.rank(tiles, alphas[-1])
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
        table = term_table.rank(data.view(np.int8).reshape(*shape, GROUP_SIZE), alphas[-1])
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
    present = _interleave(np.ones(count.shape, np.bool_), term_table.holds(count, most), alphas)
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
