"""What is known about the order of events: vector clocks of the three queues, and the contents of scratchpads.

An event is the execution of one instruction; each queue numbers its own. ``clock[r][q]`` is the last event of queue q
that queue r knows to be over; a token carries the clock of the instruction that signalled it. Only the order of the
numbers matters, so `Order.normalise` replaces them by ranks, and states that behave alike become equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mmac.isa.spec import Queue
from mmac.isa.table import SEMAPHORES, Pad

Clock = tuple[int, int, int]
QUEUES = (Queue.LOAD, Queue.COMPUTE, Queue.STORE)


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
    reads: Clock = (0, 0, 0)
    stale: bool = False


class DramUse(NamedTuple):
    """The last event in which instruction `pc` of `queue` touched DRAM."""

    pc: int
    queue: int
    time: int


State = tuple[tuple[Clock, ...], tuple[tuple[Clock, ...], ...], tuple[tuple[Region, ...], ...], tuple[DramUse, ...]]


class Order:
    """The state that the proof of races steps through."""

    def __init__(self) -> None:
        self.clocks: list[Clock] = [(0, 0, 0)] * len(QUEUES)
        self.tokens: list[list[Clock]] = [[] for _ in range(SEMAPHORES)]
        self.pads: list[list[Region]] = [[] for _ in Pad]
        self.dram: list[DramUse] = []

    def begin(self, queue: int, waits: Iterable[int]) -> int:
        """Start the next event of a queue, after taking tokens; returns its number."""
        known = self.clocks[queue]
        for semaphore in waits:
            known = _later(known, self.tokens[semaphore].pop(0))
        time = known[queue] + 1
        self.clocks[queue] = (*known[:queue], time, *known[queue + 1 :])  # type: ignore[assignment]
        return time

    def signal(self, queue: int, signals: Iterable[int]) -> None:
        """Give tokens that say what the queue knows."""
        for semaphore in signals:
            self.tokens[semaphore].append(self.clocks[queue])

    def barrier(self) -> None:
        """All queues are idle: everything is over and known."""
        now: Clock = (self.clocks[0][0], self.clocks[1][1], self.clocks[2][2])
        self.clocks = [now] * len(QUEUES)
        self.dram.clear()

    def knows(self, queue: int, other: int, time: int) -> bool:
        """True if the present event of `queue` comes after event `time` of queue `other`."""
        return time <= self.clocks[queue][other]

    def normalise(self) -> State:
        """Replace event numbers by ranks, those that everybody knows by 0; returns the state as a value."""
        clocks = [*self.clocks, *(clock for fifo in self.tokens for clock in fifo)]
        used: list[set[int]] = [set(column) for column in zip(*clocks, strict=True)]
        floors = [min(column) for column in used]
        for pad in self.pads:
            for region in pad:
                used[region.queue].add(region.time)
                for column, read in zip(used, region.reads, strict=True):
                    column.add(read)
        for use in self.dram:
            used[use.queue].add(use.time)
        ranks = [_ranks(column, floor) for column, floor in zip(used, floors, strict=True)]

        def clock(old: Clock) -> Clock:
            return ranks[0][old[0]], ranks[1][old[1]], ranks[2][old[2]]

        state = (
            tuple(map(clock, self.clocks)),
            tuple(tuple(map(clock, fifo)) for fifo in self.tokens),
            tuple(
                tuple(r._replace(time=ranks[r.queue][r.time], reads=clock(r.reads)) for r in pad) for pad in self.pads
            ),
            tuple(use._replace(time=ranks[use.queue][use.time]) for use in self.dram),
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


def _later(a: Clock, b: Clock) -> Clock:
    return max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2])


def _ranks(times: set[int], floor: int) -> dict[int, int]:
    ordered = sorted(times)
    known = sum(time <= floor for time in ordered)
    return {time: max(0, rank + 1 - known) for rank, time in enumerate(ordered)}
