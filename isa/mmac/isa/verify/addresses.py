"""Proof that every address is in bounds, in DRAM and in the scratchpads, for every iteration and level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.errors import ResourceError
from mmac.isa.program import directory_dtype
from mmac.isa.structure import Ring
from mmac.isa.table import Pad
from mmac.isa.verify.context import Context, Site
from mmac.isa.verify.reach import Reach, span, whole
from mmac.isa.verify.uses import ACC_BYTES, USES, Content

MAX_TILES = 1 << 20
"""Directory entries that one instruction may walk over."""


@dataclass(frozen=True)
class Accesses:
    """What the proofs after this one build on, by position in the code.

    Attributes:
        dram: DRAM bytes that a load or store touches in all its iterations; missing if there are none.
        directories: [n, h, w, c] the directory entries that a `load.terms` selects, by the positions of its walk.
        sizes: per use (in the order of `USES`) the bytes of a scratchpad that it touches at most.
    """

    dram: Mapping[int, Reach]
    directories: Mapping[int, npt.NDArray[np.void]]
    sizes: Mapping[int, tuple[int, ...]]


def check_addresses(context: Context) -> Accesses:
    """Check all accesses.

    Raises:
        VerificationError: a view that leaves DRAM or (for stores) begins inside the program image, stores to the same
            byte, a slot that leaves its scratchpad, a directory entry or weight tile outside the image.
        ResourceError: a directory that is too long to be checked.
    """
    accesses = Accesses(dram := {}, directories := {}, sizes := {})
    for site in context.sites:
        instr = site.op.instr
        _check_views(context, site)
        if isinstance(instr, table.LoadTerms):
            directories[site.pc] = _directory(context, site)
        elif isinstance(instr, table.Load | table.Store | table.StoreAcc):
            reach = _reach(context, site)
            if reach is not None:
                dram[site.pc] = reach
        if type(instr) in USES:
            sizes[site.pc] = _check_pads(context, site, directories.get(site.pc))
    return accesses


# -------------------------------------------------------------------------------------------------------------- DRAM


def _check_views(context: Context, site: Site) -> None:
    """Every view lies in DRAM as a whole, even where its walk does not go, so that engines may take it for a tensor."""
    image, dram = context.program.image.size, context.program.dram_bytes
    for name, view in site.op.views.items():
        low, high, what = 0, dram, "DRAM"
        if isinstance(site.op.instr, table.LoadTerms | table.LoadParams):
            high, what = image, "the program's image"
        elif isinstance(site.op.instr, table.Store | table.StoreAcc):
            low, what = image, "DRAM above the program's read-only image"
        reach = whole(view.base, view.elem, view.shape, view.strides)
        if not (low <= reach.low and reach.high <= high):
            found = f"{name} covers DRAM bytes {reach.low:#x} … {reach.high - 1:#x}"
            raise context.error(site.pc, found, f"{low:#x} … {high - 1:#x}, {what}")


def _reach(context: Context, site: Site) -> Reach | None:
    view = site.op.views["t"]
    spans = []
    for step, size in zip(view.walk, view.shape, strict=True):
        touched = span(step, size, context.iterations(step, site.counts))
        if touched is None:
            return None
        spans.append(touched)
    reach = Reach(view.base, view.elem, tuple(spans), view.strides)
    if not isinstance(site.op.instr, table.Load) and reach.overlaps_itself():
        found = f"elements of t overlap in DRAM (strides {view.strides})"
        raise context.error(site.pc, found, "stores to distinct bytes")
    return reach


def _directory(context: Context, site: Site) -> npt.NDArray[np.void]:
    """All entries that the walk selects; checks them against the image."""
    image = context.program.image
    grid = _entry_addresses(context, site)
    addresses = grid.ravel()
    dtype = directory_dtype(context.levels)
    entries: npt.NDArray[np.void] = image[addresses[:, None] + np.arange(dtype.itemsize)].view(dtype)[:, 0]
    sizes = entries["level"]["bytes"].astype(np.int64)
    stops = entries["offset"].astype(np.int64)[:, None] + sizes
    for wrong, found, allowed in (
        (stops.max(axis=1) > image.size, "a weight tile that ends beyond the program image", f"up to {image.size:#x}"),
        ((np.diff(sizes) < 0).any(axis=1), "prefixes that get shorter from one level to the next", "rising lengths"),
        (sizes[:, 0] < 1, "an empty weight tile", "1 byte or more"),
    ):
        if wrong.any():
            entry = int(addresses[wrong.argmax()])
            raise context.error(site.pc, f"the directory entry at {entry:#x} has {found}", allowed)
    _check_memory(context, site, entries["offset"].astype(np.int64), stops.max(axis=1))
    return entries.reshape(grid.shape)


def _check_memory(context: Context, site: Site, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]) -> None:
    """A directory lies in the same memory as the tiles that it points to: the on-chip buffer, or DRAM."""
    base, size = context.program.buffer
    view = site.op.views["t"]
    reach = whole(view.base, view.elem, view.shape, view.strides)
    starts, stops = np.append(starts, reach.low), np.append(stops, reach.high)
    inside = (starts >= base) & (stops <= base + size)
    outside = (stops <= base) | (starts >= base + size)
    if size and not (inside.all() or outside.all()):
        raise context.error(site.pc, "its directory and weight tiles are partly in the on-chip buffer", "all or none")


def _entry_addresses(context: Context, site: Site) -> npt.NDArray[np.int64]:
    """[n, h, w, c] DRAM addresses of the directory entries that the walk selects, one axis per dimension."""
    view = site.op.views["t"]
    total = 1
    parts = []
    for step, size, stride in zip(view.walk, view.shape, view.strides, strict=True):
        count = context.iterations(step, site.counts) if step.step else 1
        last = step.origin + step.step * (count - 1)
        if not (min(step.origin, last) >= 0 and max(step.origin, last) < size):
            raise context.error(site.pc, f"it selects directory entries {step.origin} … {last}", f"0 … {size - 1}")
        total *= count
        parts.append((step.origin, step.step, count, stride))
    if total > MAX_TILES:
        raise ResourceError(context.where(site.pc), f"it walks over {total} directory entries", f"{MAX_TILES}")
    context.spend(total * view.elem, site.pc)
    addresses = np.array(view.base, np.int64)
    for origin, step_size, count, stride in parts:
        addresses = addresses[..., None] + (origin + step_size * np.arange(count, dtype=np.int64)) * stride
    return addresses


# ------------------------------------------------------------------------------------------------------- scratchpads


def _check_pads(context: Context, site: Site, directory: npt.NDArray[np.void] | None) -> tuple[int, ...]:
    sizes = []
    for use in USES[type(site.op.instr)]:
        size = use.size(site.op) if directory is None else _tile_bytes(site, directory)
        ring = site.op.rings[use.ring]
        _check_slots(context, site, ring, size)
        if use.content in (Content.SUMS, Content.PARAMS) and (ring.addr | ring.toggle) % ACC_BYTES:
            raise context.error(site.pc, f"{use.ring} is at {_slots(ring)} of {ring.pad.name}",
                                f"multiples of {ACC_BYTES}")  # fmt: skip
        sizes.append(size)
    return tuple(sizes)


def _tile_bytes(site: Site, directory: npt.NDArray[np.void]) -> int:
    """Bytes that the largest tile takes in its scratchpad."""
    instr, levels = site.op.instr, directory["level"]
    if isinstance(instr, table.LoadTerms) and instr.format == table.TermFormat.CODED:
        return int((directory["groups"] * (1 + levels["alpha"].max(axis=-1).astype(np.int64))).max())
    return int(levels["bytes"].max())


def _check_slots(context: Context, site: Site, ring: Ring, size: int) -> None:
    room = context.program.scratchpads[ring.pad.name.lower()]
    if max(_slots(ring)) + size > room:
        raise context.error(
            site.pc,
            f"{size} bytes at {' and '.join(map(str, _slots(ring)))} of the {Pad(ring.pad).name} scratchpad",
            f"it has {room} bytes",
        )


def _slots(ring: Ring) -> list[int]:
    """Addresses that a pointer takes."""
    if ring.mask:
        return [ring.addr, ring.addr + ring.toggle]
    return [ring.addr + ring.phase * ring.toggle]
