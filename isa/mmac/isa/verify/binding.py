"""Proof that what one instruction leaves for another comes from the same iteration of the loops around both."""

from __future__ import annotations

import bisect
from collections import defaultdict

from mmac.isa import table
from mmac.isa.structure import Ring
from mmac.isa.verify.context import Context, Site
from mmac.isa.verify.races import Handovers


def check_binding(context: Context, handovers: Handovers) -> None:
    """Check the weight tiles.

    So every `mmac` has its one `load.terms`, which the timing model asks for the tile's size, and `overflow` for the
    tiles that are added up in a sum.

    Raises:
        VerificationError: an `mmac` whose weights another pointer or another iteration has loaded, or that a load into
            the same slots follows before the `mmac` has used them for the last time.
    """
    sites = {site.pc: site for site in context.sites}
    last: dict[int, int] = {}  # instruction of each loop
    loads: dict[int, list[int]] = defaultdict(list)  # by slot
    for site in context.sites:
        last.update(dict.fromkeys(site.loops, site.pc))
        if isinstance(site.op.instr, table.LoadTerms):
            for slot in slots(site.op.rings["p"]):
                loads[slot].append(site.pc)
    for reader, loader in sorted(handovers.tiles):
        mmac, load = sites[reader], sites[loader]
        ring = mmac.op.rings["wgt"]
        inner = mmac.loops[len(load.loops) :]
        stop = last[inner[0]] if inner else reader
        if not same_iteration(load, load.op.rings["p"], mmac, ring) or any(
            _first(loads[slot], loader) <= stop for slot in slots(ring)
        ):
            raise context.error(
                reader,
                f"its weights come from {context.where(loader)}",
                "the last load.terms into these slots before it, through the same pointer,"
                " in the same loop or one further out, with none into these slots inside of that",
            )


def slots(ring: Ring) -> set[int]:
    """Addresses of both slots."""
    return {ring.addr, ring.addr + ring.toggle}


def same_iteration(writer: Site, written: Ring, reader: Site, read: Ring) -> bool:
    """True if what `reader` reads at `read`, where `writer` has written it, is of the present iteration.

    The writer stands before the reader, in loops that are all around the reader, and both pointers take the same slot
    in each iteration: so the writer has last written this slot in the present one.
    """
    return writer.pc < reader.pc and writer.encloses(reader) and written == read


def _first(loads: list[int], after: int) -> float:
    """The first of rising positions `after` one."""
    number = bisect.bisect_right(loads, after)
    return loads[number] if number < len(loads) else float("inf")
