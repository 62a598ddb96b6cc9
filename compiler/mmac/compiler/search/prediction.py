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

    def forget(self) -> None:
        """Believe the table of costs again."""
        self._near = np.ones((self.levels, len(self.layers)))
        self._known = np.full((self.levels, *self._table.shape), np.nan)
        self._rest = np.full(self.levels, self.table.rest)

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

    def under_costs(self, limits: Float64, units: Float64, errors: Float64, held: Mapping[int, list[int]]) -> Problem:
        """Least error, [levels, layers, options], under limits on costs; levels are compared in `units`.

        Levels in `held` have at most these options of the layers.
        """
        offsets = np.full(self.levels, self.floor)
        problem = Problem(self.layers, errors.copy(), self.costs, offsets, units, limits - self._rest)
        for level, options in held.items():
            others = ~problem.below[np.arange(len(options)), :, options]
            problem.values[level, others] = problem.weights[level, others] = np.inf
        return problem

    def under_errors(self, limits: Float64) -> Problem:
        """Least cost under limits on the errors."""
        costs = self.costs
        errors = np.broadcast_to(self.errors, costs.shape)
        units = np.full(self.levels, self.cheapest())
        return Problem(self.layers, costs, errors, self._rest, units, limits - self.floor, rising=False)

    def learn(self, nested: Nested, found: Costs) -> None:
        """Correct the costs by those of a program that has these plans: those of a layer's other options by half."""
        every = np.arange(len(self.layers))
        for level, chosen in enumerate(nested.chosen):
            ratio = found.layers[:, level] / np.maximum(self._table[every, chosen], 1e-12)
            self._known[level, every, chosen] = np.clip(ratio, 1 / _STEP, _STEP)
            self._near[level] = np.sqrt(self._known[level, every, chosen])
        self._rest = found.rest

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
