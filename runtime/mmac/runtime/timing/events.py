"""The timing model unrolled: every instruction of every iteration, one level. For traces, and as a test oracle."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from mmac.isa import table
from mmac.isa.errors import VerificationError
from mmac.isa.program import Program
from mmac.isa.spec import Queue
from mmac.isa.structure import Op, Repeat, View, parse
from mmac.runtime.targets import Target
from mmac.runtime.timing.cost import CYCLES, At, Indices, Machine


@dataclass(frozen=True)
class Event:
    """Instruction `pc` occupied `queue` from cycle `start` to cycle `end`."""

    queue: Queue
    pc: int
    start: int
    end: int


def events(program: Program, target: Target, level: int, mac: str | None = None) -> Iterator[Event]:
    """All queue instructions in program order, and `host` and `halt` as sequencer events when all queues are idle.

    Args:
        program: a verified program.
        target: the hardware.
        level: position of the level in the program's plan.
        mac: kind of cell (default: the one that the target's array is built of).
    """
    yield from _Simulation(Machine(program, target, mac or target.array.cell), level).run()


@dataclass
class _Simulation:
    machine: Machine
    level: int
    free: dict[Queue, int] = field(default_factory=lambda: dict.fromkeys(Queue, 0))
    signals: dict[int, deque[int]] = field(default_factory=dict)
    weights: dict[int, tuple[View, Indices]] = field(default_factory=dict)

    def run(self) -> Iterator[Event]:
        """Step through the code with a program counter and a loop stack, as the sequencer does."""
        code = self.machine.program.code
        operations = _by_pc(parse(code))
        stack: list[tuple[int, int]] = []
        pc = 0
        while pc < len(code):
            self.free[Queue.SEQUENCER] += 1
            instr = code[pc]
            if isinstance(instr, table.Loop):
                stack.append((pc, 0))
            elif isinstance(instr, table.End):
                start, index = stack.pop()
                loop = code[start]
                if isinstance(loop, table.Loop) and index + 1 < loop.count:
                    stack.append((start, index + 1))
                    pc = start
            elif pc in operations:
                yield self._step(operations[pc], tuple(index for _, index in stack))
            pc += 1

    def _step(self, op: Op, indices: tuple[int, ...]) -> Event:
        instr = op.instr
        if not isinstance(instr, table.Queued):
            idle = max(self.free.values())
            self.free = dict.fromkeys(Queue, idle)
            return Event(Queue.SEQUENCER, op.pc, idle, idle)
        start = max(self.free[instr.queue], self.free[Queue.SEQUENCER])
        for semaphore in instr.waits:
            if not self.signals.get(semaphore):
                raise VerificationError(f"instruction {op.pc}", f"waits for semaphore {semaphore} that nobody signals")
            start = max(start, self.signals[semaphore].popleft())
        end = start + self._duration(op, indices)
        self.free[instr.queue] = end
        for semaphore in instr.signals:
            self.signals.setdefault(semaphore, deque()).append(end)
        return Event(instr.queue, op.pc, start, end)

    def _duration(self, op: Op, indices: tuple[int, ...]) -> int:
        grid = tuple(np.array([index], np.int64) for index in indices)
        source = None
        if isinstance(op.instr, table.LoadTerms):
            source = self.weights[op.rings["p"].address(indices)] = (op.views["t"], grid)
        elif isinstance(op.instr, table.Mmac):
            source = self.weights.get(op.rings["wgt"].address(indices))
        cycles = CYCLES[type(op.instr)](op, At(self.machine, grid, source))
        return int(np.broadcast_to(cycles, (self.machine.levels,))[self.level])


def _by_pc(nodes: tuple[Op | Repeat, ...]) -> dict[int, Op]:
    found: dict[int, Op] = {}
    for node in nodes:
        found |= _by_pc(node.body) if isinstance(node, Repeat) else {node.pc: node}
    return found
