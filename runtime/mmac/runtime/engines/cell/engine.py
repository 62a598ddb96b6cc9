"""The engine: instructions as on the reference engine, but every `mmac` stepped cycle by cycle."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np

from mmac.isa import table
from mmac.isa.program import Program
from mmac.isa.structure import Node, Op
from mmac.runtime.engines import Segment
from mmac.runtime.engines.cell.hardware import Hardware
from mmac.runtime.engines.cell.layout import work_of
from mmac.runtime.engines.cell.operands import read
from mmac.runtime.engines.reference import ReferenceEngine
from mmac.runtime.engines.reference.machine import Machine
from mmac.runtime.memory import Array, Memory
from mmac.runtime.targets import Target, target_for


class CellEngine(ReferenceEngine):
    """Executes instruction by instruction, and every `mmac` cycle by cycle (see `mmac.runtime.engines.Engine`).

    Args:
        program: a verified program.
        segments: its device code.
        threads: of no use here.
        target: the hardware (default: what the program was compiled for).
        mac: kind of cell (default: the one that the target's array is built of).

    Raises:
        UsageError: no such target or cell.
        UnsupportedError: a cell or a pipeline that the engine has no registers for.
    """

    def __init__(
        self,
        program: Program,
        segments: tuple[Segment, ...],
        threads: int = 1,
        *,
        target: Target | str | None = None,
        mac: str | None = None,
    ) -> None:
        super().__init__(program, segments, threads)
        self.machine: CellMachine = CellMachine(program, Hardware.of(target_for(program, target), mac))

    @property
    def durations(self) -> Mapping[tuple[int, tuple[int, ...]], int]:
        """Cycles of each `mmac` of the last run, by its position in the code and the loop indices."""
        return self.machine.durations

    def run(self, segment: int, memory: Memory, level: int, keep: Set[str]) -> dict[str, Array]:
        """Execute one segment at one level; returns the kept tensors that it completes.

        Raises:
            ResourceError: the program is too large to be stepped, or needs multipliers that its target does not have.
        """
        nodes = [node for part in self.segments for node in part.nodes]
        self.machine.hardware.check(nodes, self.machine.program.plan.layers, level)
        return super().run(segment, memory, level, keep)


class CellMachine(Machine):
    """The reference engine's machine with other hardware for `mmac`."""

    def __init__(self, program: Program, hardware: Hardware) -> None:
        super().__init__(program)
        self.hardware = hardware
        self.durations: dict[tuple[int, tuple[int, ...]], int] = {}

    def start(self, memory: Memory, level: int) -> None:
        """Begin to execute on `memory` at level number `level`."""
        super().start(memory, level)
        self.durations.clear()

    def execute(self, node: Node) -> None:
        """Execute a node of the program's tree, instruction by instruction in program order."""
        if isinstance(node, Op) and isinstance(node.instr, table.Mmac):
            self._mmac(node, node.instr)
        else:
            super().execute(node)

    def _mmac(self, op: Op, instr: table.Mmac) -> None:
        """Fetch the operands, step the unit, put back the accumulators."""
        inside = self.inside(op.views["y"])
        acc = self.pad(op.rings["acc"], op.views["y"].box, "<i4")
        if self.index(instr.first) == 0:
            acc[inside] = 0
        pixels = acc[inside[:3]]
        sums = np.ascontiguousarray(pixels.reshape(-1, acc.shape[3]).T)
        work = work_of(op, self.indices, self.level)
        cycles, _ = self.hardware.multiply(instr.unit(self.level), work, read(self, op, instr), sums)
        pixels[...] = sums.T.reshape(pixels.shape)
        self.durations[op.pc, tuple(self.indices)] = cycles
