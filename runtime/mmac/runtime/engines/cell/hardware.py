"""The units of a target, and how much there is to step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.errors import ResourceError, UnsupportedError
from mmac.isa.plan import LayerPlan
from mmac.isa.structure import Node, Repeat
from mmac.runtime.engines.cell.array import BEHIND, Counts, SystolicArray, timing_of
from mmac.runtime.engines.cell.cells import KINDS
from mmac.runtime.engines.cell.layout import Layout, Work, whole_work
from mmac.runtime.engines.cell.multipliers import DotProducts, phases_of
from mmac.runtime.engines.cell.operands import Operands
from mmac.runtime.targets import Multipliers, Target

Int = npt.NDArray[np.int32]

LIMIT = 1 << 31
"""Register steps (cycles × cells or multipliers) that take a few minutes."""

OVERHEAD = 1 << 11
"""Cells that could be stepped in the time that a cycle takes whatever there is to step."""


@dataclass(frozen=True)
class Hardware:
    """A target whose array is built of one kind of cell.

    Raises:
        UsageError: the target has no such cell.
        UnsupportedError: a cell or a pipeline that the engine has no registers for.
    """

    target: Target
    mac: str

    @classmethod
    def of(cls, target: Target, mac: str | None) -> Hardware:
        """A target with a kind of cell, None for its own."""
        return cls(target, mac or target.array.cell)

    def __post_init__(self) -> None:
        cell, where = self.target.cell(self.mac), f"target {self.target.name}"
        if self.mac not in KINDS:
            raise UnsupportedError(f"{where}: cell {self.mac!r}", "not a cell that can be stepped", ", ".join(KINDS))
        own = KINDS[self.mac].group_cycles
        if cell.group_cycles != own:
            found, needed = (n or '"gamma"' for n in (cell.group_cycles, own))
            raise UnsupportedError(f"{where}: cell {self.mac!r}", f"cycles_per_group = {found}", f"it takes {needed}")
        pipeline = self.target.array.pipeline_cycles
        if pipeline <= BEHIND:
            raise UnsupportedError(
                f"{where}: pipeline_cycles", f"{pipeline}", f"{BEHIND + 1} or more",
                "a first register, the last partial sum and the accumulator take a cycle each",
            )  # fmt: skip

    def multiply(self, unit: table.Unit, work: Work, operands: Operands, acc: Int) -> tuple[int, Counts]:
        """Execute one `mmac`: add its sums to `acc`, int32 [channel of the box, pixel].

        Returns:
            The cycles that it takes, and what it has done in them.

        Raises:
            ResourceError: it needs multipliers that the target does not have, or more weights than they have room for.
        """
        if work.is_empty:
            return 1, Counts()
        machine = self._array(work, operands, acc) if unit == table.Unit.ARRAY else self._units(work, operands, acc)
        cycles = machine.run()
        acc[...] = machine.acc[:-1, :-1]
        return cycles, machine.counts

    def _array(self, work: Work, operands: Operands, acc: Int) -> SystolicArray:
        return SystolicArray(Layout(work, self.target.array), KINDS[self.mac], operands, acc)

    def _units(self, work: Work, operands: Operands, acc: Int) -> DotProducts:
        unit = self._multipliers()
        if (needed := phases_of(unit, work).words) > unit.words:
            raise ResourceError(
                f"target {self.target.name}", f"a unit of the multipliers needs {needed} words of weights",
                f"it has {unit.words}", "compile it for this target",
            )  # fmt: skip
        return DotProducts(unit, self.target.array.pipeline_cycles, work, operands, acc)

    def _multipliers(self) -> Multipliers:
        if self.target.multipliers is None:
            raise ResourceError(
                f"target {self.target.name}", "it has no multipliers", "an mmac of this program needs them",
                "compile it for this target",
            )  # fmt: skip
        return self.target.multipliers

    def check(self, nodes: Sequence[Node], layers: Sequence[LayerPlan], level: int) -> None:
        """Refuse a program that takes too long to step.

        Raises:
            ResourceError: too many steps, or on multipliers that the target does not have.
        """
        check_steps(sum(self._steps_of(node, layers, level) for node in nodes))

    def _steps_of(self, node: Node, layers: Sequence[LayerPlan], level: int) -> int:
        """About how many register steps a node of a program takes."""
        if isinstance(node, Repeat):
            return node.count * sum(self._steps_of(child, layers, level) for child in node.body)
        if not isinstance(node.instr, table.Mmac):
            return 0
        budgets = layers[node.instr.layer].levels[level]
        return self.steps(node.instr.unit(level), whole_work(node, node.instr), budgets.alpha, budgets.beta)

    def steps(self, unit: table.Unit, work: Work, alpha: int, beta: int) -> int:
        """About how many register steps one `mmac` takes."""
        if work.is_empty:
            return 0
        if unit == table.Unit.MULTIPLIERS:
            units, phases = self._multipliers(), phases_of(self._multipliers(), work)
            return (phases.loads + phases.turns * phases.chunks) * (units.units * units.taps + OVERHEAD)
        timing = timing_of(Layout(work, self.target.array), KINDS[self.mac], alpha, beta)
        load = max(timing.load_cycles, timing.rank_cycles)
        cycles = timing.passes * max(timing.beats * timing.beat_cycles, load)
        return cycles * (self.target.cell_count + OVERHEAD)


def check_steps(steps: int) -> None:
    """Refuse what takes too long.

    Raises:
        ResourceError: more than `LIMIT`.
    """
    if steps > LIMIT:
        raise ResourceError(
            "engine cell", f"about {steps:.1e} register steps", f"at most {LIMIT:.1e}",
            "use engine fast, or a smaller model and a smaller target",
        )  # fmt: skip
