"""Proof that waits find their signals, loops are balanced, and the program ends.

Program order is one order in which the queues can work. If in it every wait finds a signal that was given before,
no order of the queues can block: the instruction that comes first in program order among the blocked ones
could go on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mmac.isa import table
from mmac.isa.errors import ResourceError
from mmac.isa.spec import Queue
from mmac.isa.structure import Node, Op
from mmac.isa.verify.context import Context

MAX_EXECUTED = 1 << 32
"""Instructions that one run may execute: 25 s at 170 MHz and one dispatch per cycle."""


def check_tokens(context: Context) -> None:
    """Check the whole program.

    Raises:
        VerificationError: a semaphore with two producers or consumers, a wait without a signal, a loop that gains or
            loses tokens, tokens left at `host` or `halt`.
        ResourceError: a program that runs for too long.
    """
    executed = 0
    for site in context.sites:
        executed += math.prod(site.counts)
        if executed > MAX_EXECUTED:
            raise ResourceError(
                context.where(site.pc), f"{executed} instructions are executed up to here", f"{MAX_EXECUTED} in all"
            )
    _check_ends(context)
    _balance(context, context.nodes, [0] * table.SEMAPHORES)


def _check_ends(context: Context) -> None:
    """Each semaphore is signalled by one queue and waited for by one queue."""
    for verb, ends in (("signalled", _signals), ("waited for", _waits)):
        owner: dict[int, tuple[Queue, int]] = {}
        for site in context.sites:
            for semaphore in ends(site.op):
                queue, pc = owner.setdefault(semaphore, (site.op.instr.queue, site.pc))
                if queue != site.op.instr.queue:
                    found = f"semaphore {semaphore} is {verb} by the {site.op.instr.queue.name.lower()} queue"
                    raise context.error(site.pc, found, f"the {queue.name.lower()} queue, as in instruction {pc}")


def _waits(op: Op) -> tuple[int, ...]:
    return op.instr.waits if isinstance(op.instr, table.Queued) else ()


def _signals(op: Op) -> tuple[int, ...]:
    return op.instr.signals if isinstance(op.instr, table.Queued) else ()


def _balance(context: Context, nodes: Sequence[Node], counts: list[int]) -> None:
    """Go through `nodes` once, updating the tokens of every semaphore in `counts`.

    Once is enough for a loop: its body leaves the counts as they were, so all iterations see the same ones.
    """
    for node in nodes:
        if isinstance(node, Op):
            _count(context, node, counts)
            continue
        before = list(counts)
        _balance(context, node.body, counts)
        for semaphore, difference in _changes(before, counts):
            raise context.error(node.pc, f"an iteration changes semaphore {semaphore} by {difference:+d} tokens",
                                "as many waits as signals in a loop")  # fmt: skip


def _count(context: Context, op: Op, counts: list[int]) -> None:
    if isinstance(op.instr, table.Host | table.Halt):
        for semaphore, left in _changes([0] * len(counts), counts):
            raise context.error(op.pc, f"semaphore {semaphore} holds {left} tokens", "0")
    for semaphore in _waits(op):
        if counts[semaphore] == 0:
            raise context.error(op.pc, f"it waits for semaphore {semaphore}, which nothing before it has signalled",
                                "a signal for every wait, earlier in the program")  # fmt: skip
        counts[semaphore] -= 1
    for semaphore in _signals(op):
        counts[semaphore] += 1


def _changes(before: list[int], after: list[int]) -> Iterator[tuple[int, int]]:
    for semaphore, (old, new) in enumerate(zip(before, after, strict=True)):
        if old != new:
            yield semaphore, new - old
