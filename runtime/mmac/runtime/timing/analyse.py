"""Exact cycles, action counts and traffic of a program at all its levels, independent of loop counts.

The model: the sequencer spends one cycle on every instruction of every iteration and hands queue instructions to queues
of unbounded depth; each queue executes in order; an instruction starts when its queue is free, it has been dispatched
and the signals that it waits for have been given, and gives its own signals when it ends. Whoever reads DRAM also waits
for all who did so before in program order. So the state after an instruction is a max-plus linear function of the state
before; a loop body is a matrix, and a run of n equal iterations its n-th power. `events` is the same model, unrolled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.errors import ResourceError, VerificationError
from mmac.isa.program import DebugEntry, Program
from mmac.isa.spec import Queue
from mmac.isa.structure import Node, Op, Repeat, parse
from mmac.runtime.targets import Target
from mmac.runtime.timing.binding import bind_weights
from mmac.runtime.timing.cost import SYNCS, Action
from mmac.runtime.timing.formulas import SYNC_CYCLES
from mmac.runtime.timing.machine import Machine, Tile, reads_dram
from mmac.runtime.timing.maxplus import Component, Engine, Queues, power, product
from mmac.runtime.timing.runs import MAX_CYCLES, MAX_RUNS, Nest, operations

Int64 = npt.NDArray[np.int64]
Key = tuple[tuple[int, ...], ...]

MAX_STATE = 128
"""Queues and pending signals that one loop may involve."""


@dataclass
class Share:
    """What part of a program costs; arrays int64 [levels].

    Attributes:
        entry: the ONNX node, or None for instructions that no debug entry names.
        cycles: by how much it moved the end of the program so far.
        actions: action counts.
        tiles: the weight tiles that it reads.
    """

    entry: DebugEntry | None
    cycles: Int64
    actions: dict[Action, Int64] = field(default_factory=dict)
    tiles: list[Tile] = field(default_factory=list)

    def add_actions(self, counts: dict[Action, Int64]) -> None:
        """Add to the action counts."""
        for action, count in counts.items():
            self.actions[action] = self.actions.get(action, 0) + count

    def weight_bytes(self) -> Int64:
        """Bytes of the term streams read, every tile once, [levels]."""
        return unique_bytes(self.tiles, len(self.cycles))


@dataclass
class Analysis:
    """Result of `analyse`: the total `cycles` [levels], shared out exactly over `shares`, in program order."""

    machine: Machine
    cycles: Int64
    shares: list[Share]

    @property
    def actions(self) -> dict[Action, Int64]:
        """Action counts of the whole program, every action present."""
        zero = np.zeros_like(self.cycles)
        return {action: sum((s.actions.get(action, zero) for s in self.shares), zero) for action in Action}

    def weight_bytes(self) -> Int64:
        """Bytes of the term streams that one inference reads, every tile once, [levels]."""
        return unique_bytes([tile for share in self.shares for tile in share.tiles], len(self.cycles))


def unique_bytes(tiles: Sequence[Tile], levels: int) -> Int64:
    """Sum of the sizes of distinct tiles, [levels]."""
    if not tiles:
        return np.zeros(levels, np.int64)
    sizes = np.concatenate([tile.size.reshape(-1, levels) for tile in tiles])
    entries = np.concatenate([np.broadcast_to(tile.entry, tile.size.shape).reshape(-1, levels) for tile in tiles])
    firsts = [np.unique(entries[:, level], return_index=True)[1] for level in range(levels)]
    return np.array([sizes[first, level].sum() for level, first in enumerate(firsts)], np.int64)


def analyse(program: Program, target: Target, mac: str | None = None) -> Analysis:
    """Time a verified program at all its levels.

    Args:
        program: the program.
        target: the hardware.
        mac: kind of cell (default: the one that the target's array is built of).

    Raises:
        UsageError: the target has no such cell.
        VerificationError: loops or signals that do not balance (the verifier refuses such a program).
        ResourceError: more cycles or more irregular than the model counts.
    """
    machine = Machine(program, target, mac or target.array.cell)
    nodes = parse(program.code)
    sources = bind_weights(nodes)
    clock = Queues.idle(machine.levels)
    shares = _Shares(program, machine.levels)
    done, pc, budget = clock.makespan(), 0, MAX_CYCLES
    for node in nodes:
        clock.dispatch(node.pc - pc + 1)
        pc = stop_of(node)
        share = shares.of(node.pc)
        if isinstance(node, Op) and isinstance(node.instr, table.Host | table.Halt):
            clock.barrier()
        elif isinstance(node, Op) and isinstance(node.instr, SYNCS):
            _issue(clock, machine, node, np.full((machine.levels, 1), SYNC_CYCLES))
        else:
            nest = Nest(machine, node, sources)
            budget -= _dispatched(node) + sum(cost.bound for cost in nest.costs.values())
            if budget < 0:
                raise ResourceError(f"instruction {node.pc}", "the program takes too long", f"{MAX_CYCLES} cycles")
            _Player(nest).top(node, clock)
            for cost in nest.costs.values():
                share.add_actions(cost.total)
            share.tiles += nest.tiles
        share.cycles += clock.makespan() - done
        done = clock.makespan()
    return Analysis(machine, done, shares.all)


class _Shares:
    """Finds the share of an instruction; neighbours that belong to the same node, or to none, are one share."""

    def __init__(self, program: Program, levels: int) -> None:
        self.entries, self.levels = program.entries, levels
        self.all: list[Share] = []

    def of(self, pc: int) -> Share:
        """The share of instruction `pc`; asked for in program order."""
        entry = self.entries[pc]
        if not self.all or self.all[-1].entry != entry:
            self.all.append(Share(entry, np.zeros(self.levels, np.int64)))
        return self.all[-1]


def stop_of(node: Node) -> int:
    """The pc after a node; for a loop, after its `end`."""
    if isinstance(node, Op):
        return node.pc + 1
    return (stop_of(node.body[-1]) if node.body else node.pc + 1) + 1


def _dispatched(node: Node) -> int:
    """Cycles that the sequencer spends on a node in all its iterations."""
    if isinstance(node, Op):
        return 1
    return 1 + node.count * (1 + sum(_dispatched(child) for child in node.body))


def _issue(clock: Queues, machine: Machine, op: Op, duration: Int64) -> None:
    if not isinstance(op.instr, table.Queued):
        raise VerificationError(f"instruction {op.pc}", f"{op.instr.mnemonic} inside a loop")
    engine = Engine.DRAM_READ if reads_dram(op, machine) else None
    clock.issue(op.pc, op.instr.queue, op.instr.waits, op.instr.signals, duration, engine)


@dataclass(frozen=True)
class _Scope:
    """What a loop involves, and what distinguishes the runs of its own and of outer loops: `keys` [depth][run]."""

    parts: tuple[Component, ...]
    semaphores: tuple[int, ...]
    keys: list[list[tuple[int, ...]]]


class _Player:
    """Plays a loop nest on `Queues`, with a matrix per loop and combination of runs, each made once."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.levels = nest.machine.levels
        self.scopes: dict[int, _Scope] = {}
        self.matrices: dict[tuple[int, str, Key, tuple[int, ...]], Int64] = {}
        self._scan(nest.node, ())

    def _scan(self, node: Node, path: tuple[Repeat, ...]) -> None:
        if isinstance(node, Op):
            return
        path = (*path, node)
        instrs = [op.instr for op, _ in operations((node,)) if isinstance(op.instr, table.Queued)]
        engines = (Engine.DRAM_READ,) if any(reads_dram(op, self.nest.machine) for op, _ in operations((node,))) else ()
        labels = [self.nest.costs[op.pc].labels for op, _ in operations((node,))]
        keys = []
        for depth, loop in enumerate(path):
            varying = [label[depth] for label in labels if len(label[depth]) > 1]
            keys.append(list(zip(*varying, strict=True)) or [()] * len(self.nest.starts[loop.pc]))
        self.scopes[node.pc] = _Scope(
            (Queue.SEQUENCER, *sorted({instr.queue for instr in instrs}), *engines),
            tuple(sorted({s for instr in instrs for s in (*instr.waits, *instr.signals)})),
            keys,
        )
        for child in node.body:
            self._scan(child, path)

    def top(self, node: Node, clock: Queues) -> None:
        """Play a top-level node whose first instruction has been dispatched."""
        if isinstance(node, Op):
            _issue(clock, self.nest.machine, node, self.nest.costs[node.pc].duration(()))
            return
        for run, count in self._runs(node, ()):
            if count == 1:
                self._play(node, clock, (run,))
            else:
                self._jump(clock, node, power(self._body(node, clock, (run,)), count))

    def _runs(self, node: Repeat, outer: tuple[int, ...]) -> list[tuple[int, int]]:
        """Runs of the loop with their lengths; neighbours that cost the same are one run."""
        keys = self.scopes[node.pc].keys[len(outer)]
        merged: list[tuple[int, int]] = []
        for run, length in enumerate(self.nest.lengths[node.pc].tolist()):
            if merged and keys[merged[-1][0]] == keys[run]:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((run, length))
        return merged

    def _play(self, node: Repeat, clock: Queues, runs: tuple[int, ...]) -> None:
        """One iteration of a loop, `end` included."""
        pc = node.pc + 1
        for child in node.body:
            clock.dispatch(child.pc - pc + 1)
            pc = stop_of(child)
            if isinstance(child, Op):
                _issue(clock, self.nest.machine, child, self.nest.costs[child.pc].duration(runs))
            else:
                self._jump(clock, child, self._loop(child, clock, runs))
        clock.dispatch(1)

    def _jump(self, clock: Queues, node: Repeat, matrix: Int64) -> None:
        scope = self.scopes[node.pc]
        clock.apply(matrix, scope.parts, scope.semaphores)

    def _loop(self, node: Repeat, clock: Queues, outer: tuple[int, ...]) -> Int64:
        """The matrix of a whole loop, for a clock with as many signals pending as this one."""
        key = self._key("loop", node, clock, outer)
        if key not in self.matrices:
            whole: Int64 | None = None
            for run, count in self._runs(node, outer):
                step = power(self._body(node, clock, (*outer, run)), count)
                whole = step if whole is None else product(step, whole)
            if whole is None:
                raise VerificationError(f"instruction {node.pc} (loop)", "no iterations")
            self.matrices[key] = whole
        return self.matrices[key]

    def _body(self, node: Repeat, clock: Queues, runs: tuple[int, ...]) -> Int64:
        """The matrix of one iteration."""
        key = self._key("body", node, clock, runs)
        if key not in self.matrices:
            if len(self.matrices) > MAX_RUNS:
                raise ResourceError(f"instruction {node.pc} (loop)", "too many different iterations", f"{MAX_RUNS}")
            scope = self.scopes[node.pc]
            pending = clock.pending(scope.semaphores)
            if len(scope.parts) + sum(pending.values()) > MAX_STATE:
                raise ResourceError(f"instruction {node.pc} (loop)", f"{sum(pending.values())} signals are pending")
            local = Queues.symbolic(scope.parts, pending, self.levels)
            self._play(node, local, runs)
            if local.pending(scope.semaphores) != pending:
                raise VerificationError(f"instruction {node.pc} (loop)", "an iteration leaves signals over")
            self.matrices[key] = local.stacked(scope.parts, scope.semaphores)
        return self.matrices[key]

    def _key(
        self, kind: str, node: Repeat, clock: Queues, runs: tuple[int, ...]
    ) -> tuple[int, str, Key, tuple[int, ...]]:
        scope = self.scopes[node.pc]
        found = tuple(keys[run] for keys, run in zip(scope.keys, runs, strict=False))
        return node.pc, kind, found, tuple(clock.pending(scope.semaphores).values())
