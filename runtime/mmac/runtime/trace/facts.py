"""What a trace says about single executions: bytes moved, budgets, blocks, utilization."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.runtime.timing import formulas
from mmac.runtime.timing.cost import ACTIONS, Action
from mmac.runtime.timing.events import Group
from mmac.runtime.timing.formulas import ArrayWork, BlockWork, ceil_div
from mmac.runtime.timing.machine import work_of

Int64 = npt.NDArray[np.int64]

TRAFFIC = {
    Action.DRAM_READ: "DRAM read",
    Action.DRAM_WRITE: "DRAM write",
    Action.BUFFER_READ: "buffer read",
    Action.BUFFER_WRITE: "buffer write",
}
"""Actions that are bytes on their way, and the names of their counters."""


class Facts:
    """About the executions of a group at one level; lists have one value per execution, arrays are int64 [executions].

    Attributes:
        columns: arguments of the slices by name.
        traffic: bytes moved per action.
        parts: for an `mmac` on the array, different ways of dealing parts to blocks, int64 [ways, blocks].
        way: which of them each execution takes; `rounds` is in how many rounds.
    """

    def __init__(self, group: Group, level: int, durations: list[int]) -> None:
        self.group, self.level, self.cycles = group, level, np.array(durations, np.int64)
        self.counts = ACTIONS[type(group.op.instr)](group.op, group.at)
        self.traffic = {action: self._of(action) for action in TRAFFIC if action in self.counts}
        self.columns: dict[str, list[Any]] = {f"{action}_bytes": n.tolist() for action, n in self.traffic.items()}
        self.parts, self.way = np.zeros((0, group.at.target.array.blocks), np.int64), np.zeros(0, np.int64)
        self.rounds = 1
        if isinstance(group.op.instr, table.Mmac):
            self._add_mmac(group.op.instr)
        if group.at.indices:
            indices = np.concatenate(group.at.indices, axis=1).tolist()
            self.columns["iteration"] = [", ".join(map(str, row)) for row in indices]

    def rows(self) -> list[dict[str, Any]]:
        """The arguments of each execution's slice."""
        if not self.columns:
            return [{} for _ in self.group.positions]
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]

    def busy(self) -> list[int]:
        """For how many cycles the unit that does the work is busy: a requantizer may be done before its store is."""
        cycles = self.cycles
        if Action.REQUANT in self.counts:
            cycles = formulas.requant_cycles(self.group.at.target, self._of(Action.REQUANT))
        busy: list[int] = cycles.tolist()
        return busy

    def _of(self, action: Action) -> Int64:
        return self._at_level(self.counts[action])

    def _at_level(self, values: Any) -> Int64:
        shape = (len(self.group.positions), self.group.at.machine.levels)
        return np.array(np.broadcast_to(values, shape)[:, self.level], np.int64)

    def _add_mmac(self, instr: table.Mmac) -> None:
        at, target, cell = self.group.at, self.group.at.target, self.group.at.machine.cell
        work = work_of(self.group.op, at)
        alpha, beta = self._at_level(at.tile().alpha), self._at_level(at.machine.betas[instr.layer])
        add = self.columns.update
        unit = instr.unit(self.level)
        if unit == table.Unit.MULTIPLIERS and target.multipliers:
            capacity, used = target.multipliers.units * target.multipliers.taps, self._of(Action.MULTIPLY)
        else:
            capacity, used = target.cell_count, self._of(Action.CELL_CYCLE)
            self.rounds = int(np.max(BlockWork(target.array, work).rounds))
            self._deal(work, instr, target.array.blocks)
            blocks = (self.parts > 0).sum(axis=1)[self.way]
            passes = np.where(blocks > 0, self._at_level(BlockWork(target.array, work).passes), 0)
            add(blocks=blocks.tolist(), rounds=[self.rounds] * len(alpha), passes=passes.tolist())
            add(beat_cycles=formulas.beat_cycles(target.array, cell, alpha, beta).tolist())
        add(alpha=alpha.tolist(), beta=beta.tolist(), gamma=(alpha * beta).tolist())
        add(unit=[unit.name.lower()] * len(alpha))
        add(utilization=np.round(used / (capacity * np.maximum(1, self.cycles)), 4).tolist())

    def _deal(self, work: ArrayWork, instr: table.Mmac, blocks: int) -> None:
        split = tuple(max(1, pieces) for pieces in (instr.split_m, instr.split_n, instr.split_k))
        sizes = np.stack([self._at_level(size) for size in (work.m, work.n, work.depth, work.conv_groups)], axis=1)
        different, way = np.unique(sizes, axis=0, return_inverse=True)
        self.way = way.reshape(-1)
        self.parts = np.stack([parts_per_block(blocks, ArrayWork(*row, *split)) for row in different.tolist()])


def parts_per_block(blocks: int, work: ArrayWork) -> Int64:
    """How many parts with something to do each block of the array gets over all rounds, int64 [blocks].

    `docs/hardware.md`, *Split*, says how parts are cut and numbered, and which of them run in the same round.
    """
    groups, within = int(work.group_parts), int(work.channel_parts)
    at_once = max(1, blocks // int(work.split_k))
    outputs = _filled(work.m, work.split_m, int(work.split_n), at_once)
    outputs = _added(outputs, _filled(work.conv_groups, groups, within, at_once))
    outputs = _added(outputs, _filled(work.n, within, 1, at_once))
    first = np.zeros(blocks, np.int64)
    first[np.arange(at_once) * work.split_k] = outputs
    return _added(first, _filled(work.g, work.split_k, 1, blocks))


def _filled(size: Any, pieces: Any, distance: int, modulus: int) -> Int64:
    """How many parts of an axis that are not empty have each number, if numbers are `distance` apart."""
    filled = int(ceil_div(size, ceil_div(size, pieces))) if size else 0
    return np.bincount(np.arange(filled) * distance % modulus, minlength=modulus).astype(np.int64)


def _added(a: Int64, b: Int64) -> Int64:
    """How often each sum (modulo the length) of two numbers occurs, given how often the numbers do."""
    i, j = np.flatnonzero(a), np.flatnonzero(b)
    sums = (i[:, None] + j) % len(a)
    return np.bincount(sums.ravel(), (a[i][:, None] * b[j]).ravel(), len(a)).astype(np.int64)
