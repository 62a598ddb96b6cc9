"""Loops cut into runs of iterations that cost the same.

Along one loop, what an operation costs changes only where a box starts or stops reaching over the edge of its view, or
where another weight tile has another size. A `Nest` finds these places for all operations of a top-level loop nest,
evaluates every cost once per combination of runs, and labels runs that turn out equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.errors import ResourceError
from mmac.isa.spec import LEVEL_LOOP, NONE_LOOP
from mmac.isa.structure import Node, Op, Repeat, Step
from mmac.runtime.timing.cost import ACTIONS, CYCLES, Action
from mmac.runtime.timing.machine import At, Indices, Machine, Tile, clipped

Int64 = npt.NDArray[np.int64]

MAX_RUNS = 1 << 14
"""Runs of one loop, and combinations of runs of one operation or loop, that are still worth the time and memory."""

MAX_CYCLES = 1 << 42
"""Longest program (7 hours at 170 MHz); with `MAX_CELLS` it keeps all counts inside 64 bits."""

Path = tuple[Repeat, ...]


def operations(nodes: tuple[Node, ...], path: Path = ()) -> Iterator[tuple[Op, Path]]:
    """All operations in program order with the loops around them, outermost first."""
    for node in nodes:
        if isinstance(node, Op):
            yield node, path
        else:
            yield from operations(node.body, (*path, node))


def loops(nodes: tuple[Node, ...]) -> Iterator[Repeat]:
    """All loops, outer before inner."""
    for node in nodes:
        if isinstance(node, Repeat):
            yield node
            yield from loops(node.body)


def moving_loops(op: Op) -> set[int]:
    """Depths of the loops that move a view of `op`."""
    steps = [step for view in op.views.values() for step in view.walk if step.step]
    return {step.loop for step in steps} - {NONE_LOOP, LEVEL_LOOP}


def clip_breaks(step: Step, size: int, count: int) -> set[int]:
    """First indices of the runs in which as many elements of the box lie inside the view.

    The number is a piecewise linear function of the index with kinks where the start or the end of the box crosses 0 or
    `size`. Between kinks it is constant, or every index is a run of its own.
    """
    kinks = {0, count}
    for edge in (-step.extent, 0, size - step.extent, size):
        at = (edge - step.origin) // step.step
        kinks |= {k for k in (at, at + 1) if 0 < k < count}
    breaks: set[int] = set()
    for low, high in pairwise(sorted(kinks)):
        ends = step.origin + step.step * np.array([low, high - 1])
        first, last = clipped(ends, step.extent, size)
        if first != last and high - low > MAX_RUNS:
            raise ResourceError("loop", f"{high - low} iterations that all differ", f"at most {MAX_RUNS}")
        breaks |= {low} if first == last else set(range(low, high))
    return breaks


@dataclass
class Costs:
    """One operation evaluated on the grid of runs of the loops around it.

    `cycles` is int64 [runs of loop 0, …, levels] with axes of 1 where the loop does not matter; `labels` gives per loop
    and run a number, equal for runs whose slices of `cycles` are equal; `total` and `executions` are sums over all
    iterations: action counts int64 [levels], and how often the operation executes.
    """

    op: Op
    cycles: Int64
    labels: list[list[int]]
    total: dict[Action, Int64]
    executions: int

    @property
    def bound(self) -> int:
        """Cycles of all executions together at most."""
        return self.executions * int(self.cycles.max(initial=0))

    def duration(self, runs: tuple[int, ...]) -> Int64:
        """Cycles in a combination of runs, [levels, 1]."""
        at = tuple(run if size > 1 else 0 for run, size in zip(runs, self.cycles.shape, strict=False))
        found: Int64 = self.cycles[at]
        return found[:, None]


@dataclass
class Nest:
    """The costs of a top-level node. `sources` maps the pc of each `mmac` to its `load.terms`.

    Attributes:
        starts: per loop (by pc) the first index of each run; `lengths` likewise.
        costs: per operation (by pc).
        tiles: the weight tiles that each `load.terms` reads, over all iterations.
    """

    machine: Machine
    node: Node
    sources: Mapping[int, Op]
    starts: dict[int, Int64] = field(default_factory=dict)
    lengths: dict[int, Int64] = field(default_factory=dict)
    costs: dict[int, Costs] = field(default_factory=dict)
    tiles: list[Tile] = field(default_factory=list)

    def __post_init__(self) -> None:
        found = list(operations((self.node,)))
        self._cut(found)
        for op, path in found:
            self.costs[op.pc] = self._evaluate(op, path)

    def _cut(self, found: list[tuple[Op, Path]]) -> None:
        count = {loop.pc: loop.count for loop in loops((self.node,))}
        breaks: dict[int, set[int]] = {pc: {0} for pc in count}
        for op, path in found:
            for view in op.views.values():
                for step, size in zip(view.walk, view.shape, strict=True):
                    if step.step and step.loop not in (NONE_LOOP, LEVEL_LOOP):
                        loop = path[step.loop]
                        breaks[loop.pc] |= clip_breaks(step, size, loop.count)
            if isinstance(op.instr, table.LoadTerms):
                self._cut_tiles(op, path, breaks)
        for pc, firsts in breaks.items():
            self.starts[pc] = np.array(sorted(firsts), np.int64)
            self.lengths[pc] = np.diff(self.starts[pc], append=count[pc])

    def _cut_tiles(self, op: Op, path: Path, breaks: dict[int, set[int]]) -> None:
        """A run ends where a directory entry differs from its neighbour's."""
        moving = moving_loops(op)
        counts = [loop.count if d in moving else 1 for d, loop in enumerate(path)]
        if math.prod(counts) > MAX_RUNS:
            raise ResourceError(
                f"instruction {op.pc} (load.terms)", f"{math.prod(counts)} weight tiles", f"at most {MAX_RUNS}"
            )
        tile = self._at(op, _grid([np.arange(n) for n in counts])).tile()
        self.tiles.append(tile)
        for depth in moving:
            same = np.ones(counts[depth] - 1, bool)
            for values in (tile.size, tile.alpha):
                moved = np.moveaxis(values, depth, 0)
                same &= (moved[1:] == moved[:-1]).all(axis=tuple(range(1, moved.ndim)))
            breaks[path[depth].pc] |= set((np.flatnonzero(~same) + 1).tolist())

    def _at(self, op: Op, indices: Indices) -> At:
        source = self.sources.get(op.pc, op if isinstance(op.instr, table.LoadTerms) else None)
        return At(self.machine, indices, None if source is None else (source.views["t"], indices))

    def _evaluate(self, op: Op, path: Path) -> Costs:
        moving = moving_loops(op) | (moving_loops(self.sources[op.pc]) if op.pc in self.sources else set())
        counts = [self.lengths[loop.pc] if d in moving else np.array([loop.count]) for d, loop in enumerate(path)]
        firsts = [self.starts[loop.pc] if d in moving else np.zeros(1, np.int64) for d, loop in enumerate(path)]
        if math.prod(len(first) for first in firsts) > MAX_RUNS:
            raise ResourceError(
                f"instruction {op.pc} ({op.instr.mnemonic})", "too many different iterations", f"at most {MAX_RUNS}"
            )
        at = self._at(op, _grid(firsts))
        shape = (*(len(first) for first in firsts), self.machine.levels)
        cycles = np.broadcast_to(np.asarray(CYCLES[type(op.instr)](op, at), np.int64), shape)
        total = {
            action: _weighted_sum(np.broadcast_to(count, shape), counts)
            for action, count in ACTIONS[type(op.instr)](op, at).items()
        }
        labels = [_labels(cycles, axis) for axis in range(len(path))]
        return Costs(op, cycles, labels, total, math.prod(loop.count for loop in path))


def _grid(axes: list[Int64]) -> Indices:
    """Index arrays that broadcast to the grid of `axes`, with a last axis of 1 for the level."""
    size = len(axes)
    return tuple(axis.reshape((1,) * d + (-1,) + (1,) * (size - d)) for d, axis in enumerate(axes))


def _weighted_sum(values: Any, counts: list[Int64]) -> Int64:
    """Sum over all grid axes, each run counted as often as it has iterations."""
    for count in counts:
        values = np.tensordot(count, values, axes=(0, 0))
    return np.asarray(values, np.int64)


def _labels(cycles: Int64, axis: int) -> list[int]:
    """A number per slice along `axis`, equal for equal slices."""
    if cycles.shape[axis] == 1:
        return [0]
    seen: dict[bytes, int] = {}
    return [seen.setdefault(part.tobytes(), len(seen)) for part in np.moveaxis(cycles, axis, 0)]
