"""The timing model unrolled: every instruction of every iteration, one level. For traces, and as a test oracle.

The sequencer is stepped with a program counter and a loop stack, and queues and signals are played event by event. So
`analyse` shares nothing with it but the functions of `cost`, which are asked about the iterations themselves here, many
at once, and not about runs of equal iterations.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from mmac.isa import table
from mmac.isa.errors import VerificationError
from mmac.isa.program import Program
from mmac.isa.spec import Queue
from mmac.isa.structure import Op, Repeat, parse
from mmac.runtime.targets import Target
from mmac.runtime.timing.cost import CYCLES
from mmac.runtime.timing.machine import At, Indices, Machine, reads_dram

BATCH = 1 << 14
"""Events whose costs are evaluated together."""

Durations = Callable[[Op, tuple[int, ...]], int | None]
"""Cycles of an operation in the iteration with these loop indices (outermost first), None for what `cost` says."""


@dataclass(frozen=True, slots=True)
class Event:
    """Instruction `pc` occupied `queue` from cycle `start` to cycle `end`.

    `waited` is how long its queue stood still for the signals that the instruction waits for, or for its turn to read
    DRAM.

    On the sequencer an event is a top-level instruction or loop nest: the cycles in which it was dispatched in all its
    iterations, with the configuration before it; for `host` and `halt`, until all queues are idle.
    """

    queue: Queue
    pc: int
    start: int
    end: int
    waited: int = 0


@dataclass(frozen=True)
class Group:
    """Executions of one instruction: the positions of their events in a batch, and where they are, indices [n, 1]."""

    op: Op
    at: At
    positions: list[int]


@dataclass(frozen=True)
class Batch:
    """Events that follow each other in program order, and the executions among them by instruction."""

    events: list[Event]
    groups: list[Group]


def events(
    program: Program, target: Target, level: int, mac: str | None = None, durations: Durations | None = None
) -> Iterator[Event]:
    """All events in program order, the sequencer's at the end of what they stand for; the last to end is `halt`'s.

    Args:
        program: a verified program.
        target: the hardware.
        level: position of the level in the program's plan.
        mac: kind of cell (default: the one that the target's array is built of).
        durations: replaces durations, for instance by those of a simulated cell array.
    """
    for batch in batches(Machine(program, target, mac or target.array.cell), level, durations):
        yield from batch.events


def batches(machine: Machine, level: int, durations: Durations | None = None) -> Iterator[Batch]:
    """The same with the executions that the events stand for, so that more can be asked about them."""
    queues, source = _Queues(), _steps(machine.program)
    while steps := list(islice(source, BATCH)):
        groups = _grouped(machine, steps)
        cycles, uses_dram = [0] * len(steps), [False] * len(steps)
        for group in groups:
            for position in group.positions if reads_dram(group.op, machine) else ():
                uses_dram[position] = True
            found = CYCLES[type(group.op.instr)](group.op, group.at)
            levels = np.broadcast_to(found, (len(group.positions), machine.levels))
            for position, number in zip(group.positions, levels[:, level].tolist(), strict=True):
                cycles[position] = number
        if durations is not None:
            for position, step in enumerate(steps):
                if step.op is not None and (replaced := durations(step.op, step.indices)) is not None:
                    cycles[position] = replaced
        yield Batch([queues.play(*each) for each in zip(steps, cycles, uses_dram, strict=True)], groups)


def executions(nodes: Sequence[Op | Repeat]) -> int:
    """Number of queue instructions executed, loops counted."""
    return sum(
        node.count * executions(node.body) if isinstance(node, Repeat) else isinstance(node.instr, table.Queued)
        for node in nodes
    )


# --------------------------------------------------------------------------------------------------------- sequencer


@dataclass(frozen=True, slots=True)
class _Step:
    """An instruction that leaves the sequencer `cycles` cycles after the one before it.

    `op` is None where a top-level instruction or loop at `pc` is done. `source` is the `load.terms` whose weights an
    `mmac` finds in its slot, and the iteration that it was in.
    """

    pc: int
    cycles: int
    op: Op | None = None
    indices: tuple[int, ...] = ()
    source: tuple[Op, tuple[int, ...]] | None = None


def _steps(program: Program) -> Iterator[_Step]:
    """Step through the code with a program counter and a loop stack."""
    code = program.code
    operations = _by_pc(parse(code))
    loaded: dict[int, tuple[Op, tuple[int, ...]]] = {}
    stack: list[tuple[int, int]] = []
    pc, cycles, top = 0, 0, 0
    while pc < len(code):
        cycles += 1
        instr = code[pc]
        if not stack:
            top = pc
        if isinstance(instr, table.Loop):
            stack.append((pc, 0))
        elif isinstance(instr, table.End):
            start, index = stack.pop()
            loop = code[start]
            if isinstance(loop, table.Loop) and index + 1 < loop.count:
                stack.append((start, index + 1))
                pc = start
        elif pc in operations:
            op, indices = operations[pc], tuple(index for _, index in stack)
            source = None
            if isinstance(instr, table.LoadTerms):
                source = loaded[op.rings["p"].address(indices)] = (op, indices)
            elif isinstance(instr, table.Mmac):
                source = loaded.get(op.rings["wgt"].address(indices))
            yield _Step(pc, cycles, op, indices, source)
            cycles = 0
        pc += 1
        if not stack and isinstance(instr, table.End | table.Queued):
            yield _Step(top, cycles)
            cycles = 0


def _by_pc(nodes: Sequence[Op | Repeat]) -> dict[int, Op]:
    found: dict[int, Op] = {}
    for node in nodes:
        found |= _by_pc(node.body) if isinstance(node, Repeat) else {node.pc: node}
    return found


def _grouped(machine: Machine, steps: Sequence[_Step]) -> list[Group]:
    """Queue instructions by instruction, and by the instruction that loaded their weights."""
    found: dict[tuple[int, int], list[int]] = {}
    for position, step in enumerate(steps):
        if step.op is not None and isinstance(step.op.instr, table.Queued):
            found.setdefault((step.pc, step.source[0].pc if step.source else -1), []).append(position)
    groups = []
    for positions in found.values():
        members = [steps[position] for position in positions]
        op, loads = members[0].op, [step.source for step in members if step.source]
        if op is None:
            continue
        source = (loads[0][0].views["t"], _columns([indices for _, indices in loads])) if loads else None
        groups.append(Group(op, At(machine, _columns([step.indices for step in members]), source), positions))
    return groups


def _columns(indices: Sequence[tuple[int, ...]]) -> Indices:
    """Per loop the index in each execution, int64 [executions, 1]."""
    grid = np.array(indices, np.int64).reshape(len(indices), -1)
    return tuple(grid[:, depth, None] for depth in range(grid.shape[1]))


# ------------------------------------------------------------------------------------------------------------ queues


@dataclass
class _Queues:
    """When each queue becomes free, and the signals not yet waited for, oldest first."""

    free: dict[Queue, int] = field(default_factory=lambda: dict.fromkeys(Queue, 0))
    signals: dict[int, deque[int]] = field(default_factory=dict)
    dram: int = 0
    """When the engine that reads DRAM becomes free."""
    shown: int = 0
    """Up to here the sequencer's time is in events."""

    def play(self, step: _Step, duration: int, uses_dram: bool) -> Event:
        """Dispatch an instruction and let it execute."""
        self.free[Queue.SEQUENCER] += step.cycles
        if step.op is None:
            return self._sequencer(step.pc)
        instr = step.op.instr
        if not isinstance(instr, table.Queued):
            self.free = dict.fromkeys(Queue, max(self.free.values()))
            return self._sequencer(step.pc)
        ready = start = max(self.free[instr.queue], self.free[Queue.SEQUENCER])
        for semaphore in instr.waits:
            if not self.signals.get(semaphore):
                found = f"waits for semaphore {semaphore} that nobody signals"
                raise VerificationError(f"instruction {step.pc}", found)
            start = max(start, self.signals[semaphore].popleft())
        if uses_dram:
            start = max(start, self.dram)
        end = start + duration
        self.free[instr.queue] = end
        if uses_dram:
            self.dram = end
        for semaphore in instr.signals:
            self.signals.setdefault(semaphore, deque()).append(end)
        return Event(instr.queue, step.pc, start, end, start - ready)

    def _sequencer(self, pc: int) -> Event:
        start, self.shown = self.shown, self.free[Queue.SEQUENCER]
        return Event(Queue.SEQUENCER, pc, start, self.shown)
