"""How much of each scratchpad the parts of a program use, and how much of them a program needs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from mmac.isa.program import Program
from mmac.isa.structure import Ring
from mmac.isa.table import Pad
from mmac.isa.verify.addresses import check_addresses
from mmac.isa.verify.context import Context
from mmac.isa.verify.uses import USES
from mmac.runtime.dataflow import parts_of

Interval = tuple[int, int]
"""First byte, and the one after the last."""


def scratchpad_bytes(program: Program) -> dict[str, npt.NDArray[np.int64]]:
    """Bytes of each scratchpad (by lower-case name) that the rings of each part of a verified program take, [parts].

    Both slots of a ring count, at the highest level; bytes that several rings share count once. The parts are those
    of `mmac.runtime.dataflow`.
    """
    context = Context(program)
    taken = _taken(context)
    parts = parts_of(context)
    used = {pad.name.lower(): np.zeros(len(parts), np.int64) for pad in Pad}
    for number, part in enumerate(parts):
        intervals: dict[Pad, set[Interval]] = {}
        for site in (site for sites in part.nodes for site in sites):
            for pad, interval in taken.get(site.pc, ()):
                intervals.setdefault(pad, set()).add(interval)
        for pad, found in intervals.items():
            used[pad.name.lower()][number] = covered(found)
    return used


def needed_bytes(program: Program) -> dict[str, int]:
    """Size of each scratchpad (by lower-case name) that a verified program needs: up to the last byte that it uses.

    Raises as `mmac.isa.verify.addresses.check_addresses`.
    """
    needed = {pad.name.lower(): 0 for pad in Pad}
    for pad, (_, stop) in (use for uses in _taken(Context(program)).values() for use in uses):
        needed[pad.name.lower()] = max(needed[pad.name.lower()], stop)
    return needed


def _taken(context: Context) -> dict[int, list[tuple[Pad, Interval]]]:
    """What each instruction takes of the scratchpads in all iterations, by position in the code."""
    sizes = check_addresses(context).sizes
    taken: dict[int, list[tuple[Pad, Interval]]] = {}
    for site in context.sites:
        for use, size in zip(USES.get(type(site.op.instr), ()), sizes.get(site.pc, ()), strict=True):
            ring = site.op.rings[use.ring]
            taken.setdefault(site.pc, []).extend((ring.pad, (start, start + size)) for start in _slots(ring))
    return taken


def covered(intervals: Iterable[Interval]) -> int:
    """Bytes in the union of intervals."""
    total, reached = 0, 0
    for start, stop in sorted(intervals):
        total += max(0, stop - max(start, reached))
        reached = max(reached, stop)
    return total


def _slots(ring: Ring) -> list[int]:
    """Addresses that a ring takes in all iterations."""
    return [ring.addr, ring.addr + ring.toggle] if ring.mask else [ring.address(())]
