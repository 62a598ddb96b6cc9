"""What plans are expected to give: the error of every option at every level, and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mmac.compiler.search.costs import Costs, Table
from mmac.compiler.search.space import Layer
from mmac.isa.plan import Level

Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

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
        rest: [levels] cost of what is no array layer.
    """

    layers: Sequence[Layer]
    errors: Float64
    floor: float
    table: Table
    levels: int
    _near: Float64 = field(init=False)
    _known: Float64 = field(init=False)
    rest: Float64 = field(init=False)

    def __post_init__(self) -> None:
        self._near = np.ones((self.levels, len(self.layers)))
        self._known = np.full((self.levels, *self._table.shape), np.nan)
        self.rest = np.full(self.levels, self.table.rest)

    @cached_property
    def _table(self) -> Float64:
        return padded(self.table.options, np.inf)

    @property
    def costs(self) -> Float64:
        """[levels, layers, options]."""
        return np.asarray(np.where(np.isnan(self._known), self._near[..., None], self._known) * self._table)

    def learn(self, chosen: Ints, found: Costs) -> None:
        """Correct the costs by those of a program that has these options, [levels, layers]: others' by half."""
        every = np.arange(len(self.layers))
        for level, options in enumerate(chosen):
            ratio = found.layers[:, level] / np.maximum(self._table[every, options], 1e-12)
            self._known[level, every, options] = np.clip(ratio, 1 / _STEP, _STEP)
            self._near[level] = np.sqrt(self._known[level, every, options])
        self.rest = found.rest

    def plans(self, chosen: Ints) -> dict[str, tuple[Level, ...]]:
        """For each layer its (α, β) at each level, from options [levels, layers]."""
        return {
            layer.name: tuple(layer.options[option] for option in column)
            for layer, column in zip(self.layers, chosen.T, strict=True)
        }

    def options(self, plans: Mapping[str, Sequence[Level]]) -> Ints:
        """[levels, layers] options of plans."""
        return np.array([[layer.index(level) for level in plans[layer.name]] for layer in self.layers], np.int64).T


def padded(rows: Sequence[Float64], fill: float) -> Float64:
    """[rows, longest], with `fill` at the ends."""
    found = np.full((len(rows), max(map(len, rows))), fill)
    for line, row in zip(found, rows, strict=True):
        line[: len(row)] = row
    return found


def at_level(plans: Mapping[str, Sequence[Level]], level: int) -> dict[str, Level]:
    """The (α, β) of each layer at one level."""
    return {name: plan[level] for name, plan in plans.items()}
