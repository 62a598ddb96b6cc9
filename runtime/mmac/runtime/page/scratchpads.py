"""How much of each scratchpad the parts of a program use."""

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
    sizes = check_addresses(context).sizes
    parts = parts_of(context)
    used = {pad.name.lower(): np.zeros(len(parts), np.int64) for pad in Pad}
    for number, part in enumerate(parts):
        taken: dict[Pad, set[Interval]] = {}
        for site in (site for sites in part.nodes for site in sites):
            for use, size in zip(USES.get(type(site.op.instr), ()), sizes.get(site.pc, ()), strict=True):
                ring = site.op.rings[use.ring]
                taken.setdefault(ring.pad, set()).update((start, start + size) for start in _slots(ring))
        for pad, intervals in taken.items():
            used[pad.name.lower()][number] = covered(intervals)
    return used


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
