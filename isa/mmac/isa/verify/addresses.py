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
from mmac.isa.verify.reach import Reach, span
from mmac.isa.verify.uses import ACC_BYTES, USES, Content

MAX_TILES = 1 << 20
"""Directory entries that one instruction may walk over."""


@dataclass(frozen=True)
class Accesses:
    """What the proofs after this one build on, by position in the code.

    Attributes:
        dram: DRAM bytes that a load or store touches in all its iterations; missing if there are none.
        directories: the directory entries that a `load.terms` may select, each once.
        sizes: per use (in the order of `USES`) the bytes of a scratchpad that it touches at most.
    """

    dram: Mapping[int, Reach]
    directories: Mapping[int, npt.NDArray[np.void]]
    sizes: Mapping[int, tuple[int, ...]]


def check_addresses(context: Context) -> Accesses:
    """Check all accesses.

    Raises:
        VerificationError: an address outside DRAM, outside a scratchpad, or (for stores) inside the program image.
        ResourceError: a directory that is too long to be checked.
    """
    accesses = Accesses(dram := {}, directories := {}, sizes := {})
    for site in context.sites:
        instr = site.op.instr
        if isinstance(instr, table.LoadTerms):
            directories[site.pc] = _directory(context, site)
        elif isinstance(instr, table.Load | table.Store | table.StoreAcc):
            reach = _reach(context, site)
            if reach is not None:
                _check_dram(context, site, reach)
                dram[site.pc] = reach
        if type(instr) in USES:
            sizes[site.pc] = _check_pads(context, site, directories.get(site.pc))
    return accesses


# -------------------------------------------------------------------------------------------------------------- DRAM


def _reach(context: Context, site: Site) -> Reach | None:
    view = site.op.views["t"]
    spans = []
    for step, size in zip(view.walk, view.shape, strict=True):
        touched = span(step, size, context.iterations(step, site.counts))
        if touched is None:
            return None
        spans.append(touched)
    return Reach(view.base, view.elem, tuple(spans), view.strides)


def _check_dram(context: Context, site: Site, reach: Reach) -> None:
    program = context.program
    low = 0 if isinstance(site.op.instr, table.Load) else program.image.size
    if not low <= reach.low <= reach.high <= program.dram_bytes:
        raise context.error(
            site.pc,
            f"it touches DRAM bytes {reach.low:#x} … {reach.high - 1:#x}",
            f"{low:#x} … {program.dram_bytes - 1:#x}" + (", above the program's read-only image" if low else ""),
        )
    if not isinstance(site.op.instr, table.Load) and reach.overlaps_itself():
        raise context.error(site.pc, f"elements of t overlap in DRAM (strides {site.op.views['t'].strides})",
                            "stores to distinct bytes")  # fmt: skip


def _directory(context: Context, site: Site) -> npt.NDArray[np.void]:
    """All entries that the walk selects; checks them against the image."""
    image = context.program.image
    addresses = _entry_addresses(context, site)
    dtype = directory_dtype(context.levels)
    if addresses[-1] + dtype.itemsize > image.size:
        raise context.error(
            site.pc,
            f"it selects directory entries up to DRAM byte {addresses[-1] + dtype.itemsize - 1:#x}",
            f"entries inside the program image, 0x0 … {image.size - 1:#x}",
        )
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
    return entries


def _entry_addresses(context: Context, site: Site) -> npt.NDArray[np.int64]:
    """DRAM addresses of the directory entries that the walk selects, rising."""
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
    addresses = np.array([view.base], np.int64)
    for origin, step_size, count, stride in parts:
        moved = (origin + step_size * np.arange(count, dtype=np.int64)) * stride
        addresses = np.unique(addresses[:, None] + moved)
    return addresses


# ------------------------------------------------------------------------------------------------------- scratchpads


def _check_pads(context: Context, site: Site, directory: npt.NDArray[np.void] | None) -> tuple[int, ...]:
    sizes = []
    for use in USES[type(site.op.instr)]:
        size = use.size(site.op) if directory is None else int(directory["level"]["bytes"].max())
        ring = site.op.rings[use.ring]
        _check_slots(context, site, ring, size)
        if use.content in (Content.SUMS, Content.PARAMS) and (ring.addr | ring.toggle) % ACC_BYTES:
            raise context.error(site.pc, f"{use.ring} is at {_slots(ring)} of {ring.pad.name}",
                                f"multiples of {ACC_BYTES}")  # fmt: skip
        sizes.append(size)
    return tuple(sizes)


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
