"""Cycles of whole programs: the queues played event by event, with the stepped duration of every `mmac`."""

from __future__ import annotations

import numpy as np

from mmac.isa import table
from mmac.isa.program import Program
from mmac.isa.structure import Op, parse
from mmac.runtime.engines.cell.hardware import Hardware, check_steps
from mmac.runtime.engines.cell.layout import Work, work_of
from mmac.runtime.engines.cell.operands import blank
from mmac.runtime.targets import Target
from mmac.runtime.timing.binding import bind_weights
from mmac.runtime.timing.events import events
from mmac.runtime.timing.machine import At, Machine


def cycles(program: Program, target: Target, level: int, mac: str | None = None) -> int:
    """Cycles of a program at a level.

    Durations do not depend on values, so that every `mmac` is stepped on operands that are blank, and once only of
    those that are alike.

    Args:
        program: a verified program.
        target: the hardware.
        level: position of the level in the program's plan.
        mac: kind of cell (default: the one that the target's array is built of).

    Raises:
        ResourceError: the program is too large to be stepped, or needs multipliers that the target does not have.
        UsageError, UnsupportedError: as `CellEngine`.
    """
    stepped = _Durations(program, Hardware.of(target, mac), level)
    return max(event.end for event in events(program, target, level, mac, stepped))


class _Durations:
    """Steps `mmac` instructions, those that are alike once."""

    def __init__(self, program: Program, hardware: Hardware, level: int) -> None:
        self.program, self.hardware, self.level = program, hardware, level
        self.machine = Machine(program, hardware.target, hardware.mac)
        self.loads = bind_weights(parse(program.code))
        self.known: dict[tuple[table.Unit, Work, int, int], int] = {}
        self.steps = 0

    def __call__(self, op: Op, indices: tuple[int, ...]) -> int | None:
        """Cycles of an `mmac` in an iteration; None for other instructions."""
        if not isinstance(op.instr, table.Mmac):
            return None
        work, unit = work_of(op, indices, self.level), op.instr.unit(self.level)
        alpha, beta = self._alpha(op, indices), self.program.plan.layers[op.instr.layer].levels[self.level].beta
        key = unit, work, alpha, beta
        if key not in self.known:
            self.steps += self.hardware.steps(*key)
            check_steps(self.steps)
            operands = blank(work, alpha, beta)
            acc = np.zeros((operands.tile.shape[1], work.pixels), np.int32)
            self.known[key], _ = self.hardware.multiply(unit, work, operands, acc)
        return self.known[key]

    def _alpha(self, op: Op, indices: tuple[int, ...]) -> int:
        """Most terms of a group of the tile that an `mmac` finds in its slot, from the tile's directory entry."""
        grid = tuple(np.array([index], np.int64) for index in indices)
        tile = At(self.machine, grid, (self.loads[op.pc].views["t"], grid)).tile()
        return int(np.broadcast_to(tile.alpha, (self.machine.levels,))[self.level])
