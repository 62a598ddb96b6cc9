"""What is known about the order of events: vector clocks of the queues, and the contents of scratchpads.

An event is the execution of one instruction; each queue numbers its own. ``clock[r][q]`` is the last event of queue q
that queue r knows to be over; a token carries the clock of the instruction that signalled it. Only the order of the
numbers matters, so `Order.normalise` replaces them by ranks, and states that behave alike become equal.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from operator import getitem, gt
from typing import NamedTuple

from mmac.isa.spec import Queue
from mmac.isa.table import SEMAPHORES, Pad

QUEUES = (Queue.LOAD, Queue.COMPUTE, Queue.STORE, Queue.WEIGHTS)

Clock = tuple[int, ...]
"""An event of each queue, in the order of `QUEUES`."""

START: Clock = (0,) * len(QUEUES)
"""Before the first events; known to all."""


class Region(NamedTuple):
    """Bytes `start` … `stop`-1 of a scratchpad, last written as a whole by event `time` of `queue`.

    `pc` is the instruction that wrote them; None if only a part of what it wrote is left. `reads` are the last events
    of each queue that read them. `stale`: a loop that the written box moves with has gone on since.
    """

    start: int
    stop: int
    pc: int | None
    queue: int
    time: int
    reads: Clock = START
    stale: bool = False

    def matters(self, known: Clock) -> bool:
        """False for a rest that nobody can read and anybody may overwrite, as all know the events up to `known`."""
        return self.pc is not None or self.time > known[self.queue] or any(map(gt, self.reads, known))


class DramUse(NamedTuple):
    """The last event in which instruction `pc` of `queue` touched DRAM."""

    pc: int
    queue: int
    time: int


State = tuple[tuple[Clock, ...], tuple[tuple[Clock, ...], ...], tuple[tuple[Region, ...], ...], tuple[DramUse, ...]]


class Order:
    """The state that the proof of races steps through."""

    def __init__(self) -> None:
        self.clocks: list[Clock] = [START] * len(QUEUES)
        self.tokens: list[list[Clock]] = [[] for _ in range(SEMAPHORES)]
        self.pads: list[list[Region]] = [[] for _ in Pad]
        self.dram: list[DramUse] = []

    def begin(self, queue: int, waits: Iterable[int]) -> int:
        """Start the next event of a queue, after taking tokens; returns its number."""
        known = self.clocks[queue]
        for semaphore in waits:
            known = _later(known, self.tokens[semaphore].pop(0))
        time = known[queue] + 1
        self.clocks[queue] = with_event(known, queue, time)
        return time

    def signal(self, queue: int, signals: Iterable[int]) -> None:
        """Give tokens that say what the queue knows."""
        for semaphore in signals:
            self.tokens[semaphore].append(self.clocks[queue])

    def barrier(self) -> None:
        """All queues are idle: everything is over and known."""
        now = tuple(map(getitem, self.clocks, range(len(QUEUES))))
        self.clocks = [now] * len(QUEUES)
        self.dram.clear()

    def knows(self, queue: int, other: int, time: int) -> bool:
        """True if the present event of `queue` comes after event `time` of queue `other`."""
        return time <= self.clocks[queue][other]

    @property
    def size(self) -> int:
        """How much there is to keep track of."""
        return sum(map(len, self.tokens)) + sum(map(len, self.pads)) + len(self.dram)

    def normalise(self) -> State:
        """Replace event numbers by ranks, those that everybody knows by 0; returns the state as a value."""
        clocks = {*self.clocks, *(clock for fifo in self.tokens for clock in fifo)}
        known = tuple(map(min, zip(*clocks, strict=True)))
        pads = [[region for region in pad if region.matters(known)] for pad in self.pads]
        clocks.update(region.reads for pad in pads for region in pad)
        times = [set(column) for column in zip(*clocks, strict=True)]
        for pad in pads:
            for region in pad:
                times[region.queue].add(region.time)
        for use in self.dram:
            times[use.queue].add(use.time)
        ranks = [_ranks(column, floor) for column, floor in zip(times, known, strict=True)]
        ranked = {old: tuple(map(getitem, ranks, old)) for old in clocks}
        state = (
            tuple(ranked[clock] for clock in self.clocks),
            tuple(tuple(ranked[clock] for clock in fifo) for fifo in self.tokens),
            tuple(
                tuple(
                    Region(start, stop, pc, queue, ranks[queue][time], ranked[reads], stale)
                    for start, stop, pc, queue, time, reads, stale in pad
                )
                for pad in pads
            ),
            tuple(DramUse(pc, queue, ranks[queue][time]) for pc, queue, time in self.dram),
        )
        self.restore(state)
        return state

    def restore(self, state: State) -> None:
        """Go to a state that `normalise` returned."""
        clocks, tokens, pads, dram = state
        self.clocks = list(clocks)
        self.tokens = [list(fifo) for fifo in tokens]
        self.pads = [list(pad) for pad in pads]
        self.dram = list(dram)


def with_event(clock: Clock, queue: int, time: int) -> Clock:
    """`clock` with the event of one queue replaced."""
    return (*clock[:queue], time, *clock[queue + 1 :])


def _later(a: Clock, b: Clock) -> Clock:
    return tuple(map(max, a, b))


def _ranks(times: set[int], floor: int) -> dict[int, int]:
    ordered = sorted(times)
    known = bisect.bisect_right(ordered, floor)
    return {time: max(0, rank) for rank, time in enumerate(ordered, 1 - known)}
