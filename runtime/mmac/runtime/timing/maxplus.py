"""Max-plus algebra: matrices over (max, +), batched over levels, and the queues as a max-plus linear system.

The product is ``(A ⊗ B)[i, j] = max_k A[i, k] + B[k, j]``. Minus infinity is `NEG`: every value below ``NEG / 2`` means
it, so that adding durations to it needs no special case.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from mmac.isa.errors import VerificationError
from mmac.isa.spec import Queue

Int64 = npt.NDArray[np.int64]

NEG = -(1 << 60)
"""Minus infinity. Two of them add up without overflow, and no sum of durations (< 2^42) lifts one above ``NEG / 2``."""


def identity(size: int, levels: int) -> Int64:
    """Unit of the product, [levels, size, size]."""
    unit = np.full((size, size), NEG, np.int64)
    np.fill_diagonal(unit, 0)
    return np.broadcast_to(unit, (levels, size, size))


def product(a: Int64, b: Int64) -> Int64:
    """A ⊗ B for a [levels, i, k] and b [levels, k, j]."""
    sums = (a[:, :, :, None] + b[:, None, :, :]).max(axis=2)
    np.maximum(sums, NEG, out=sums)
    return np.asarray(sums)


def power(a: Int64, exponent: int) -> Int64:
    """A ⊗ … ⊗ A, `exponent` ≥ 1 times, by repeated squaring."""
    result: Int64 | None = None
    while True:
        if exponent & 1:
            result = a if result is None else product(a, result)
        exponent >>= 1
        if not exponent:
            break
        a = product(a, a)
    return a if result is None else result


class Engine(IntEnum):
    """What instructions of several queues share, in program order."""

    DRAM_READ = 100


Component = Queue | Engine


class Queues:
    """The state of sequencer, queues, engine and semaphores: when each becomes free, as rows [levels, width].

    With ``width`` 1 a row is a time. With more it is a linear form: column j says how long after component j of an
    earlier state. `times` is keyed by component; `tokens` holds per semaphore the signals not yet waited for, oldest
    first.
    """

    def __init__(self, times: dict[Component, Int64], tokens: dict[int, deque[Int64]]) -> None:
        self.times, self.tokens = times, tokens

    @classmethod
    def idle(cls, levels: int) -> Queues:
        """All free at time 0, no signals."""
        return cls({part: np.zeros((levels, 1), np.int64) for part in (*Queue, *Engine)}, {})

    @classmethod
    def symbolic(cls, parts: Sequence[Component], pending: Mapping[int, int], levels: int) -> Queues:
        """Each component is its own unknown: the parts in the given order, then the pending signals."""
        size = len(parts) + sum(pending.values())
        rows = iter(identity(size, levels).swapaxes(0, 1))
        times = {part: next(rows) for part in parts}
        return cls(times, {s: deque(next(rows) for _ in range(count)) for s, count in pending.items()})

    def dispatch(self, cycles: int) -> None:
        """The sequencer spends `cycles` cycles."""
        self.times[Queue.SEQUENCER] = self.times[Queue.SEQUENCER] + cycles

    def issue(
        self,
        pc: int,
        queue: Queue,
        waits: Sequence[int],
        signals: Sequence[int],
        duration: Int64,
        engine: Engine | None = None,
    ) -> Int64:
        """Execute an instruction that the sequencer has just dispatched; `duration` is [levels, 1]. Returns its end.

        Raises:
            VerificationError: it waits for a signal that nobody has given.
        """
        start = np.maximum(self.times[queue], self.times[Queue.SEQUENCER])
        if engine is not None:
            start = np.maximum(start, self.times[engine])
        for semaphore in waits:
            if not self.tokens.get(semaphore):
                raise VerificationError(f"instruction {pc}", f"waits for semaphore {semaphore} that nobody signals")
            start = np.maximum(start, self.tokens[semaphore].popleft())
        end: Int64 = start + duration
        self.times[queue] = end
        if engine is not None:
            self.times[engine] = end
        for semaphore in signals:
            self.tokens.setdefault(semaphore, deque()).append(end)
        return end

    def pending(self, semaphores: Sequence[int]) -> dict[int, int]:
        """Number of signals waiting at each of `semaphores`."""
        return {s: len(self.tokens.get(s, ())) for s in semaphores}

    def stacked(self, parts: Sequence[Component], semaphores: Sequence[int]) -> Int64:
        """The rows as one array [levels, components, width], ordered as by `symbolic`."""
        rows = [self.times[part] for part in parts]
        for semaphore in semaphores:
            rows += self.tokens.get(semaphore, ())
        return np.stack(rows, axis=1)

    def apply(self, matrix: Int64, parts: Sequence[Component], semaphores: Sequence[int]) -> None:
        """Advance by a linear step over some of the components; it leaves the numbers of signals as they are."""
        rows = iter(product(matrix, self.stacked(parts, semaphores)).swapaxes(0, 1))
        for part in parts:
            self.times[part] = next(rows)
        for semaphore in semaphores:
            self.tokens[semaphore] = deque(next(rows) for _ in self.tokens.get(semaphore, ()))

    def makespan(self) -> Int64:
        """When everything issued so far is done, [levels]."""
        latest: Int64 = np.maximum.reduce(list(self.times.values()))
        return latest[:, 0]

    def barrier(self) -> None:
        """Wait until all queues are idle."""
        latest = self.makespan()[:, None]
        self.times = dict.fromkeys(self.times, latest)
