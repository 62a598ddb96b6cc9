"""What plans cost, by the runtime's own model: cycles or millijoules of each layer with each of its candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmac.compiler.emit import Emit
from mmac.compiler.graph import Budget, Partition, Terms
from mmac.compiler.search.space import Layer, chains
from mmac.compiler.tile import Allocate, Pack, Schedule, Tile
from mmac.isa.plan import FULL, MAX_ALPHA, Level
from mmac.isa.program import Program
from mmac.runtime.report import Report, estimate
from mmac.runtime.targets import Target

Float64 = npt.NDArray[np.float64]
Plans = Mapping[str, Sequence[Level]]
"""For each array layer by name, its (α, β) at each level."""


@dataclass(frozen=True)
class Costs:
    """Costs of a program at each of its levels.

    Attributes:
        layers: [layers, levels], of the array layers.
        total: [levels], of everything.
    """

    layers: Float64
    total: Float64

    @property
    def rest(self) -> Float64:
        """[levels], of what is no array layer."""
        return np.asarray(self.total - self.layers.sum(axis=0))


@dataclass(frozen=True)
class Table:
    """Costs of single layers.

    Attributes:
        options: [options] of each layer.
        rest: of what is no array layer.
    """

    options: list[Float64]
    rest: float


class CostModel:
    """Compiles plans, without correction, and asks the runtime what they cost.

    A quantity is a field that `mmac.runtime.report.LevelReport` and `LayerReport` have: latency_ms or energy_mj.

    Args:
        model: what the pass `quantize` gives.
        layers: its array layers.
        target: the hardware.
    """

    def __init__(self, model: ir.Model, layers: Sequence[Layer], target: Target) -> None:
        self._model, self._layers, self._target = model, layers, target

    def report(self, names: Sequence[Level], plans: Plans) -> Report:
        """Costs of a program with these levels, in which every array layer has its own plan."""
        budgets = {
            name: {"alpha": [level.alpha for level in plan], "beta": [level.beta for level in plan]}
            for name, plan in plans.items()
        }
        passes = (
            Budget(names, budgets),
            Partition(),
            Terms(),
            Tile(self._target),
            Pack(),
            Schedule(self._target),
            Allocate(self._target),
            Emit(self._target, predict=False),
        )
        state: Any = self._model
        for step in passes:
            state = step.apply(state)
        program: Program = state
        return estimate(program, self._target)

    def costs(self, report: Report, quantity: str) -> Costs:
        """One quantity out of a report."""
        position = {layer.name: number for number, layer in enumerate(self._layers)}
        found = np.zeros((len(self._layers), len(report.levels)))
        for row in report.layers:
            if row.name in position:
                found[position[row.name]] += getattr(row, quantity)
        return Costs(found, np.array([getattr(level, quantity) for level in report.levels]))

    def programs(self) -> list[list[Level]]:
        """Levels of the programs that together tell the costs of all options; they differ in α only.

        The last one drops nothing.
        """
        partly = [o for layer in self._layers for o in layer.options if o != layer.full]
        alphas = sorted({option.alpha for option in partly} | {MAX_ALPHA})
        betas = sorted({option.beta for option in partly})
        return [*([Level(alpha, beta) for alpha in part] for beta in betas for part in chains(alphas)), [FULL]]

    def alike(self, names: Sequence[Level], quantity: str) -> Costs:
        """Costs if all array layers have these budgets."""
        return self.costs(self.report(names, {"*": names}), quantity)


def tabulate(layers: Sequence[Layer], programs: Sequence[Sequence[Level]], costs: Sequence[Costs]) -> Table:
    """Costs of each layer's options out of those of programs."""
    known: list[dict[Level, float]] = [{} for _ in layers]
    for names, found in zip(programs, costs, strict=True):
        for layer, row, at in zip(layers, found.layers, known, strict=True):
            for level, cost in zip(names, row, strict=True):
                own = Level(min(level.alpha, layer.full.alpha), min(level.beta, layer.full.beta))
                at[own] = min(float(cost), at.get(own, np.inf))
    options = [np.array([at[o] for o in layer.options]) for layer, at in zip(layers, known, strict=True)]
    return Table(options, float(costs[-1].rest[-1]))
