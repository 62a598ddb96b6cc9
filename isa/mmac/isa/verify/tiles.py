"""Proof that every weight tile's stream is what its directory entry and the instructions that use it say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.isa import streams, table, terms
from mmac.isa.errors import MalformedError, VerificationError
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.structure import Op
from mmac.isa.table import TermFormat
from mmac.isa.verify.addresses import Accesses
from mmac.isa.verify.context import Context
from mmac.isa.verify.races import Handovers

CHUNK = 1 << 17
"""Groups decoded at once, so that temporaries stay small."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TileFormat:
    """What an `mmac` takes the stream at its `wgt` for: groups per output, output channels, α at each level."""

    kind: TermFormat
    groups: int
    channels: int
    alphas: tuple[int, ...]


def check_tiles(context: Context, accesses: Accesses, handovers: Handovers) -> Mapping[int, int]:
    """Check every tile that an `mmac` reads.

    Returns:
        For each `mmac`, by position in the code: a bound of Σ|w| over the groups of one tile for any output channel,
        at any level.

    Raises:
        VerificationError: a stream that does not decode, or not to the lengths and term counts in the directory.
    """
    sites = {site.pc: site for site in context.sites}
    bounds: dict[int, int] = {}
    known: dict[tuple[TileFormat, bytes], int] = {}
    for reader, loader in sorted(handovers.tiles):
        form = _format(context, sites[reader].op)
        entries = accesses.directories[loader]
        key = form, entries.tobytes()
        if key not in known:
            known[key] = _check(context, loader, reader, form, entries)
        bounds[reader] = max(bounds.get(reader, 0), known[key])
    return bounds


def _format(context: Context, op: Op) -> TileFormat:
    instr, conv = op.instr, op.conv
    if not isinstance(instr, table.Mmac) or conv is None:
        raise TypeError(f"instruction {op.pc} does not read weights")
    groups = -(-conv.kernel_h * conv.kernel_w * conv.ic // GROUP_SIZE)
    alphas = tuple(level.alpha for level in context.program.plan.layers[instr.layer].levels)
    return TileFormat(TermFormat(instr.format), groups, op.views["y"].box[3], alphas)


def _check(context: Context, loader: int, reader: int, form: TileFormat, entries: npt.NDArray[np.void]) -> int:
    """All tiles of one directory; returns the bound of Σ|w|."""
    needed = form.groups * form.channels
    wrong = entries["groups"] != needed
    if wrong.any():
        found = f"it loads a tile of {entries['groups'][wrong.argmax()]} groups for {context.where(reader)}"
        raise context.error(loader, found, f"{needed}: {form.groups} × {form.channels} channels")
    # a level costs a pass over the headers, a term a pass over the codes
    context.spend(len(entries) * needed * GROUP_SIZE * 4, loader)
    bound, step = 0, max(1, CHUNK // needed)
    for start in range(0, len(entries), step):
        part = entries[start : start + step]
        count, sums = _read(context, loader, form, part)
        _compare(context, loader, form, part, count)
        bound = max(bound, int(sums.reshape(len(part), form.groups, form.channels).sum(axis=1).max()))
    return bound


def _read(context: Context, loader: int, form: TileFormat, entries: npt.NDArray[np.void]) -> tuple[Ints, Ints]:
    """Terms of each group of each tile, [T, G·N], and a bound of the Σ|w| of each group, [T·G·N]."""
    image = context.program.image
    sizes = entries["level"]["bytes"][:, -1].astype(np.int64)
    data = np.concatenate([image[o : o + s] for o, s in zip(entries["offset"].tolist(), sizes.tolist(), strict=True)])
    needed = form.groups * form.channels
    if form.kind == TermFormat.RAW and (sizes == needed * GROUP_SIZE).all():
        weights = data.view(np.int8).reshape(-1, GROUP_SIZE)
        count = np.minimum(terms.group_term_count(weights).ravel(), form.alphas[-1])
        return count.reshape(len(entries), needed).astype(np.int64), _MAGNITUDE[data].reshape(weights.shape).sum(
            1, np.int64
        )
    try:
        decoded = streams.decode(form.kind, data, (len(entries), form.groups, form.channels), form.alphas, sizes)
    except MalformedError as error:
        raise VerificationError(context.where(loader), f"a weight tile: {error.found}", error.allowed) from None
    # every code counts 2^exponent; the codes beyond a group's count are 0 and would count 1
    count = decoded.count.astype(np.int64)
    sums = np.left_shift(np.uint8(1), decoded.exponent).sum(axis=1, dtype=np.int64) - (decoded.codes.shape[1] - count)
    return count.reshape(len(entries), needed), sums


def _compare(context: Context, loader: int, form: TileFormat, entries: npt.NDArray[np.void], count: Ints) -> None:
    """The directory's prefix lengths and term counts are those of the streams."""
    for level, alpha in enumerate(form.alphas):
        kept = np.minimum(count, alpha)
        size = kept.sum(axis=1) + count.shape[1] if form.kind == TermFormat.PLAIN else count.shape[1] * GROUP_SIZE
        for name, true in (("bytes", size), ("alpha", kept.max(axis=1))):
            stored = entries["level"][name][:, level]
            wrong = stored != true
            if wrong.any():
                tile = int(wrong.argmax())
                raise context.error(loader, f"a directory entry says {name} {stored[tile]} at level {level}",
                                    f"{np.broadcast_to(true, wrong.shape)[tile]} as its stream")  # fmt: skip


def _magnitudes() -> npt.NDArray[np.uint8]:
    """Σ 2^e over the terms of each int8, indexed by its byte: no truncation of it is larger."""
    positive, negative = terms.signed_digits(np.arange(256, dtype=np.uint8).view(np.int8))
    return (positive | negative).astype(np.uint8)


_MAGNITUDE = _magnitudes()
