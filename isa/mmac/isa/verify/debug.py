"""Proof that debug entries name tensors after the stores of one loop nest and before the next nest.

That is where every engine can look at DRAM. What is not proved is that the tensors are complete by then, and that they
are what the node computes: nothing but a look at them depends on it.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from mmac.isa import table
from mmac.isa.errors import VerificationError
from mmac.isa.verify.context import Context, Site

_STORES = (table.Store, table.StoreAcc)
_SYNCS = (table.SyncLoad, table.SyncWeights, table.SyncCompute, table.SyncStore)


@dataclass(frozen=True)
class _Part:
    """A top-level node that does more than synchronise: its first and last instruction, and what is in it."""

    first: int
    last: int
    stores: bool
    only_stores: bool


def check_debug(context: Context) -> None:
    """Check all entries that name tensors.

    Raises:
        VerificationError: one of them ends elsewhere than between the stores of a nest and the next nest.
    """
    parts = [_part(context, list(sites)) for _, sites in itertools.groupby(context.sites, lambda site: site.node)]
    parts = [part for part in parts if part.stores or not part.only_stores]
    for entry in context.program.debug:
        if entry.outputs and not _is_between(parts, entry.stop):
            raise VerificationError(
                f"debug entry of node {entry.node!r}", f"it ends before instruction {entry.stop}, with outputs",
                "the end of a loop nest, after its stores",
            )  # fmt: skip


def _part(context: Context, sites: Sequence[Site]) -> _Part:
    work = [site.op.instr for site in sites if not isinstance(site.op.instr, _SYNCS)]
    stores = [isinstance(instr, _STORES) for instr in work]
    return _Part(context.nodes[sites[0].node].pc, sites[-1].pc, any(stores), all(stores))


def _is_between(parts: Sequence[_Part], stop: int) -> bool:
    """True if the last part before instruction `stop` stores and is over by then, and the next one begins a nest."""
    end = bisect.bisect_left(parts, stop, key=lambda part: part.first)
    stored = any(part.stores and part.last < stop for part in parts[max(0, end - 1) : end])
    return stored and not any(part.only_stores for part in parts[end : end + 1])
