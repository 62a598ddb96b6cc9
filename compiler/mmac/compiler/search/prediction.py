"""What plans are expected to give: the error of every option at every level, and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mmac.compiler.search.costs import Costs, Table
from mmac.compiler.search.plans import Nested, Problem
from mmac.compiler.search.space import Layer
from mmac.isa.plan import Level

Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Frozen = Mapping[int, tuple[Ints, Float64]]
"""By layer the options to keep at all levels, and what they cost there."""

_STEP = 3.0
"""Most that programs correct the cost of a layer by, either way."""


@dataclass
class Prediction:
    """Errors and costs, and what is learned about costs from programs.

    Attributes:
        layers: the layers with their options.
        errors: [layers, options] each alone; infinite beyond a layer's options.
        floor: error of the model without truncation.
        table: costs.
        levels: how many there are.
    """

    layers: Sequence[Layer]
    errors: Float64
    floor: float
    table: Table
    levels: int
    _near: Float64 = field(init=False)
    _known: Float64 = field(init=False)
    _rest: Float64 = field(init=False)

    def __post_init__(self) -> None:
        self.forget()

    def forget(self, chosen: Ints | None = None, found: Costs | None = None) -> None:
        """Believe the table of costs again, besides what a program with options [levels, layers] has told of these."""
        self._near = np.ones((self.levels, len(self.layers)))
        self._known = np.full((self.levels, *self._table.shape), np.nan)
        self._rest = np.full(self.levels, self.table.rest)
        if chosen is not None and found is not None:
            self.learn(chosen, found)

    def doubt(self) -> None:
        """Forget half of what programs have told: a layer's cost at one level depends on its budgets at all others."""
        self._near, self._known = np.sqrt(self._near), np.sqrt(self._known)

    @cached_property
    def _table(self) -> Float64:
        return padded(self.table.options, np.inf)

    @property
    def costs(self) -> Float64:
        """[levels, layers, options]."""
        return np.asarray(np.where(np.isnan(self._known), self._near[..., None], self._known) * self._table)

    def cheapest(self) -> float:
        """What the cheapest plan costs, at the lowest level."""
        return float(self.costs[0].min(axis=1).sum() + self._rest[0])

    def under_costs(
        self, limits: Float64, units: Float64, errors: Float64, held: Mapping[int, list[int]], frozen: Frozen
    ) -> Problem:
        """Least error, [levels, layers, options], under limits on costs; levels are compared in `units`.

        Levels in `held` have at most these options of the layers; layers in `frozen` have theirs at all levels.
        """
        offsets = np.full(self.levels, self.floor)
        problem = Problem(self.layers, errors.copy(), self.costs, offsets, units, limits - self._rest)
        for level, options in held.items():
            others = ~problem.below[np.arange(len(options)), :, options]
            problem.values[level, others] = problem.weights[level, others] = np.inf
        every = np.arange(self.levels)
        for layer, (kept, costs) in frozen.items():
            problem.values[:, layer] = problem.weights[:, layer] = np.inf
            problem.values[every, layer, kept] = errors[every, layer, kept]
            problem.weights[every, layer, kept] = costs
        return problem

    def under_errors(self, limits: Float64) -> Problem:
        """Least cost under limits on the errors."""
        costs = self.costs
        errors = np.broadcast_to(self.errors, costs.shape)
        units = np.full(self.levels, self.cheapest())
        return Problem(self.layers, costs, errors, self._rest, units, limits - self.floor, rising=False)

    def learn(self, chosen: Ints, found: Costs) -> None:
        """Correct the costs by those of a program that has these options, [levels, layers]: others' by half."""
        every = np.arange(len(self.layers))
        for level, options in enumerate(chosen):
            ratio = found.layers[:, level] / np.maximum(self._table[every, options], 1e-12)
            self._known[level, every, options] = np.clip(ratio, 1 / _STEP, _STEP)
            self._near[level] = np.sqrt(self._known[level, every, options])
        self._rest = found.rest

    def surprises(self, chosen: Ints, found: Costs) -> Float64:
        """[layers, levels] by how much a program's layers cost more than if they had these options at all levels."""
        alone = self._table[np.arange(len(self.layers)), chosen].T
        return np.maximum(found.layers - alone, 0.0)

    def plans(self, nested: Nested) -> dict[str, tuple[Level, ...]]:
        """For each layer its (α, β) at each level."""
        return {
            layer.name: tuple(layer.options[option] for option in column)
            for layer, column in zip(self.layers, nested.chosen.T, strict=True)
        }


def padded(rows: Sequence[Float64], fill: float) -> Float64:
    """[rows, longest], with `fill` at the ends."""
    found = np.full((len(rows), max(map(len, rows))), fill)
    for line, row in zip(found, rows, strict=True):
        line[: len(row)] = row
    return found


def at_level(plans: Mapping[str, Sequence[Level]], level: int) -> dict[str, Level]:
    """The (α, β) of each layer at one level."""
    return {name: plan[level] for name, plan in plans.items()}
