"""Proof that every weight tile's stream is what its directory entry and the instructions that use it say."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.isa import streams, table, terms
from mmac.isa.errors import MalformedError, ResourceError, VerificationError
from mmac.isa.plan import GROUP_SIZE, MAX_BETA
from mmac.isa.structure import Op
from mmac.isa.table import TermFormat
from mmac.isa.verify.addresses import Accesses
from mmac.isa.verify.context import Context
from mmac.isa.verify.races import Handovers

CHUNK = 1 << 15
"""Groups decoded at once, so that temporaries stay small."""

MAX_CHANNELS = 1 << 24
"""Output channels of all weight tiles of one directory: sums are kept for each."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TileFormat:
    """What an `mmac` takes the stream at its `wgt` for: groups per output, output channels, α at each level."""

    kind: TermFormat
    groups: int
    channels: int
    alphas: tuple[int, ...]


@dataclass(frozen=True)
class Magnitudes:
    """Σ|w| of each output channel of each tile of a directory, the largest of all levels: [n, h, w, c, channels].

    Attributes:
        bound: not less than that, as all terms were of one sign.
        exact: computes it exactly, which takes much longer.
    """

    bound: Ints
    exact: Callable[[], Ints]


def check_tiles(context: Context, accesses: Accesses, handovers: Handovers) -> Mapping[int, Magnitudes]:
    """Check every tile that an `mmac` reads.

    Returns:
        For each `mmac`, by position in the code, the weights that it may read.

    Raises:
        VerificationError: a stream that does not decode, or not to the lengths and term counts in the directory.
        ResourceError: more channels than can be kept.
    """
    sites = {site.pc: site for site in context.sites}
    _check_use(context, {loader for _, loader in handovers.tiles})
    weights: dict[int, Magnitudes] = {}
    known: dict[tuple[TileFormat, tuple[int, ...], bytes], Magnitudes] = {}
    for reader, loader in sorted(handovers.tiles):
        form = _format(context, loader, sites[reader].op)
        entries = accesses.directories[loader]
        key = form, entries.shape, entries.tobytes()
        if key not in known:
            bound = _check(context, loader, reader, form, entries.ravel()).reshape(*entries.shape, form.channels)
            known[key] = Magnitudes(bound, functools.partial(_exact, context, loader, form, entries))
        weights[reader] = known[key]
    return weights


def _check_use(context: Context, used: set[int]) -> None:
    """Coded tiles are decoded as they are loaded; which ones they may be, only an `mmac` that reads them can say."""
    for site in context.sites:
        instr = site.op.instr
        if isinstance(instr, table.LoadTerms) and instr.format == TermFormat.CODED and site.pc not in used:
            raise context.error(site.pc, "no mmac uses the coded tiles that it loads", "tiles that are used")


def _format(context: Context, loader: int, op: Op) -> TileFormat:
    instr, conv, load = op.instr, op.conv, context.program.code[loader]
    if not isinstance(instr, table.Mmac) or not isinstance(load, table.LoadTerms) or conv is None:
        raise TypeError(f"instruction {op.pc} does not read weights that instruction {loader} loads")
    if instr.format != load.format:
        found = f"it loads a {TermFormat(load.format).name.lower()} tile for {context.where(op.pc)}"
        raise context.error(loader, found, f"format {TermFormat(instr.format).name.lower()}, as that takes it for")
    groups = -(-conv.kernel_h * conv.kernel_w * conv.ic // GROUP_SIZE)
    alphas = tuple(level.alpha for level in context.program.plan.layers[instr.layer].levels)
    return TileFormat(TermFormat(instr.format), groups, op.views["y"].box[3], alphas)


def _check(context: Context, loader: int, reader: int, form: TileFormat, entries: npt.NDArray[np.void]) -> Ints:
    """All tiles of one directory; returns the bounds of Σ|w|, [T, channels]."""
    needed = form.groups * form.channels
    wrong = entries["groups"] != needed
    if wrong.any():
        found = f"it loads a tile of {entries['groups'][wrong.argmax()]} groups for {context.where(reader)}"
        raise context.error(loader, found, f"{needed}: {form.groups} × {form.channels} channels")
    if len(entries) * form.channels > MAX_CHANNELS:
        found = f"its directory has {len(entries)} weight tiles of {form.channels} channels"
        raise ResourceError(context.where(loader), found, f"{MAX_CHANNELS} channels in all")
    # a level costs a pass over the headers, a term a pass over the codes
    context.spend(len(entries) * needed * GROUP_SIZE * 4, loader)
    bounds = np.empty((len(entries), form.channels), np.int64)
    for part in _chunks(form, len(entries)):
        tiles, sums = _read(context, loader, form, entries[part])
        _compare(context, loader, entries[part], tiles)
        bounds[part] = sums.reshape(-1, form.groups, form.channels).sum(axis=1)
    return bounds


def _exact(context: Context, loader: int, form: TileFormat, entries: npt.NDArray[np.void]) -> Ints:
    """What `Magnitudes.exact` says, of tiles that have been checked."""
    tiles = entries.ravel()
    largest = np.zeros((len(tiles), form.channels), np.int64)
    context.spend(largest.size * form.groups * GROUP_SIZE * 4 * len(form.alphas), loader)
    for part in _chunks(form, len(tiles)):
        data, sizes = _streams(context, tiles[part])
        found = streams.decode(form.kind, data, (len(sizes), form.groups, form.channels), form.alphas, sizes)
        for kept in found.kept:
            sums = np.abs(found.table.largest(kept.ravel()).values()).sum(axis=(1, 3), dtype=np.int64)
            np.maximum(largest[part], sums, out=largest[part])
    return largest.reshape(*entries.shape, form.channels)


def _chunks(form: TileFormat, tiles: int) -> Iterator[slice]:
    step = max(1, CHUNK // (form.groups * form.channels))
    return (slice(start, start + step) for start in range(0, tiles, step))


def _streams(context: Context, entries: npt.NDArray[np.void]) -> tuple[npt.NDArray[np.uint8], Ints]:
    """The streams of tiles one after the other, and their sizes."""
    image, sizes = context.program.image, entries["level"]["bytes"][:, -1].astype(np.int64)
    parts = [image[o : o + s] for o, s in zip(entries["offset"].tolist(), sizes.tolist(), strict=True)]
    return np.concatenate(parts), sizes


def _read(
    context: Context, loader: int, form: TileFormat, entries: npt.NDArray[np.void]
) -> tuple[streams.DecodedTiles, Ints]:
    """Weight tiles, and a bound of the Σ|w| of each group, [T·G·N]."""
    data, sizes = _streams(context, entries)
    try:
        tiles = streams.decode(form.kind, data, (len(entries), form.groups, form.channels), form.alphas, sizes)
    except MalformedError as error:
        raise VerificationError(context.where(loader), f"a weight tile: {error.found}", error.allowed) from None
    if form.kind == TermFormat.RAW:
        return tiles, _LARGEST[data].reshape(-1, GROUP_SIZE).sum(axis=1, dtype=np.int64)
    # every code counts 2^exponent, 64 · 2^7 at most in a group; those beyond a group's count are 0 and would count 1
    found = tiles.table
    sums = np.left_shift(np.uint8(1), found.exponent).sum(axis=1, dtype=np.uint16)
    return tiles, sums - (found.codes.shape[1] - found.count.astype(np.int64))


def _compare(context: Context, loader: int, entries: npt.NDArray[np.void], tiles: streams.DecodedTiles) -> None:
    """The directory's prefix lengths and term counts are those of the streams."""
    for level, kept in enumerate(tiles.kept):
        for name, true in (("bytes", tiles.level_bytes[:, level]), ("alpha", kept.max(axis=1))):
            stored = entries["level"][name][:, level]
            wrong = stored != true
            if wrong.any():
                tile = int(wrong.argmax())
                raise context.error(loader, f"a directory entry says {name} {stored[tile]} at level {level}",
                                    f"{true[tile]} as its stream")  # fmt: skip


def _largest() -> npt.NDArray[np.uint8]:
    """Largest magnitude of each int8 with any number of its terms dropped, indexed by its byte."""
    weights = np.arange(256, dtype=np.uint8).view(np.int8)
    kept = [terms.truncate_values(weights, count) for count in range(1, MAX_BETA + 1)]
    largest: npt.NDArray[np.uint8] = np.abs(kept).max(axis=0).astype(np.uint8)
    return largest


_LARGEST = _largest()
