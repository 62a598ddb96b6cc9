"""Plans that nest: one option per layer and level, α and β of every layer not falling from one level to the next.

One level alone is a multiple-choice knapsack, which is solved exactly (`knapsack`). Levels depend on each other, as
options may not fall. So all levels together are relaxed first: with a price on each level's weight, each layer's best
chain of options follows from a dynamic programme over the levels. Each level is then solved exactly among the options
that its neighbours leave, again and again until nothing improves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mmac.compiler.search import knapsack
from mmac.compiler.search.space import Layer

Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ROUNDS = 64
"""Adjustments of the prices."""
_BETWEEN = 8
"""Adjustments from one try of the plans that they lead to, to the next."""
_SWEEPS = 6
"""Passes over the levels, at most."""
_POWER = 2.0
"""Of values in their units, whose sum is minimised: the level that is worst off counts most."""


@dataclass(frozen=True)
class Problem:
    """What is to be minimised, and what is limited, by level, layer and option.

    Attributes:
        layers: the layers with their options.
        values: [levels, layers, options] to be made small, of each level in proportion to the whole.
        weights: the same of what is limited. Layers with fewer options than others have infinite ones at the end.
        offsets: [levels] of the value that no choice changes.
        units: [levels] in which values are compared between levels.
        limits: [levels] on the sum of weights.
        rising: limits rise with the level (costs), or else fall (errors).
    """

    layers: Sequence[Layer]
    values: Float64
    weights: Float64
    offsets: Float64
    units: Float64
    limits: Float64
    rising: bool = True

    @cached_property
    def below(self) -> npt.NDArray[np.bool_]:
        """[layers, options, options]: whether the second may follow the first at a higher level."""
        alpha, beta = (np.full(self.values.shape[1:], 1000) for _ in range(2))
        for number, layer in enumerate(self.layers):
            alpha[number, : len(layer.options)] = [option.alpha for option in layer.options]
            beta[number, : len(layer.options)] = [option.beta for option in layer.options]
        found: npt.NDArray[np.bool_] = (alpha[:, :, None] <= alpha[:, None]) & (beta[:, :, None] <= beta[:, None])
        return found

    def at(self, level: int, allowed: npt.NDArray[np.bool_] | None = None) -> knapsack.Solution | None:
        """The best choice at one level, layers being limited to `allowed` options."""
        weights = self.weights[level] if allowed is None else np.where(allowed, self.weights[level], np.inf)
        return knapsack.solve(self.values[level], weights, self.limits[level])

    def sums(self, of: Float64, chosen: Ints) -> Float64:
        """[levels] sums over layers of `values` or `weights`; `chosen` is [levels, layers]."""
        level, layer = np.arange(len(chosen))[:, None], np.arange(len(self.layers))
        picked: Float64 = of[level, layer, chosen].sum(axis=1)
        return picked

    def score(self, chosen: Ints) -> float:
        """What plans are to make small; infinite where a limit does not hold."""
        if (self.sums(self.weights, chosen) > self.limits * (1 + 1e-9)).any():
            return np.inf
        values = (self.sums(self.values, chosen) + self.offsets) / self.units
        return float((values**_POWER).sum())


@dataclass(frozen=True)
class Nested:
    """A solution of a `Problem`.

    Attributes:
        chosen: [levels, layers] positions of options.
        bound: [levels] value of each level alone, which does not have to agree with the others.
    """

    chosen: Ints
    bound: Float64


def nest(problem: Problem) -> Nested | int:
    """The best plans found; or the first level (by strictness) whose limit not even the lightest choice keeps."""
    free = _free(problem)
    if isinstance(free, int):
        return free
    values = np.array([solution.value for solution in free])
    prices = np.array([solution.multiplier for solution in free])
    bound = values + problem.offsets
    lightest = np.where(np.isfinite(problem.weights), problem.weights, 0).max()
    prices = np.maximum(prices, values.max() * 1e-9 / max(lightest, 1e-300))
    best, best_score = _sweep(problem, _loosest(problem)), np.inf
    if best is not None:
        best_score = problem.score(best)
    for number in range(_ROUNDS):
        shares = ((values + problem.offsets) / problem.units) ** (_POWER - 1) / problem.units
        chosen = _chains(problem, prices, shares)
        if number % _BETWEEN == _BETWEEN - 1:
            swept = _sweep(problem, chosen)
            if swept is not None and (score := problem.score(swept)) < best_score:
                best, best_score = swept, score
        values = problem.sums(problem.values, chosen)
        used = problem.sums(problem.weights, chosen)
        prices *= np.exp(np.clip(4 / (1 + number / 8) * (used / problem.limits - 1), -1, 1))
    if best is None:
        return 0 if problem.rising else len(problem.limits) - 1
    return Nested(best, bound)


def _free(problem: Problem) -> list[knapsack.Solution] | int:
    """Each level by itself."""
    order = range(len(problem.limits)) if problem.rising else reversed(range(len(problem.limits)))
    solutions: dict[int, knapsack.Solution] = {}
    for level in order:
        found = problem.at(level)
        if found is None:
            return level
        solutions[level] = found
    return [solutions[level] for level in range(len(problem.limits))]


def _chains(problem: Problem, prices: Float64, shares: Float64) -> Ints:
    """Of each layer the options at all levels that cost least, values and priced weights added up."""
    weights = np.where(np.isfinite(problem.weights), problem.weights, 0)  # where they are infinite, values are too
    cost = shares[:, None, None] * (problem.values + prices[:, None, None] * weights)
    levels, layers, _ = cost.shape
    total, before = cost[0], np.zeros(cost.shape, np.int64)
    for level in range(1, levels):
        reach = np.where(problem.below, total[:, :, None], np.inf)
        before[level] = reach.argmin(axis=1)
        total = reach.min(axis=1) + cost[level]
    chosen = np.empty((levels, layers), np.int64)
    chosen[-1] = total.argmin(axis=1)
    for level in range(levels - 1, 0, -1):
        chosen[level - 1] = before[level, np.arange(layers), chosen[level]]
    return chosen


def _sweep(problem: Problem, start: Ints) -> Ints | None:
    """Solve level after level exactly, between what its neighbours have, until nothing changes; None if impossible."""
    chosen, levels, every = start.copy(), len(start), np.arange(len(problem.layers))
    order = list(range(levels)) if problem.rising else list(reversed(range(levels)))
    for _ in range(_SWEEPS):
        before = chosen.copy()
        for level in order:
            allowed = np.ones(problem.values.shape[1:], np.bool_)
            if level > 0:
                allowed &= problem.below[every, chosen[level - 1]]
            if level < levels - 1:
                allowed &= problem.below[every, :, chosen[level + 1]]
            found = problem.at(level, allowed)
            if found is None:
                return None
            chosen[level] = found.chosen
        if (chosen == before).all():
            break
    return chosen


def _loosest(problem: Problem) -> Ints:
    """[levels, layers] options between which each level, beginning with the strictest, may have any.

    Where a level is held to what is below some option, those below it are too.
    """
    ends = [len(layer.options) - 1 if problem.rising else 0 for layer in problem.layers]
    loosest = np.tile(np.array(ends, np.int64), (len(problem.limits), 1))
    if problem.rising:
        possible = np.isfinite(problem.weights)
        most = (possible & (problem.below | ~possible[..., None]).all(axis=2)).argmax(axis=2)
        for level in reversed(range(len(loosest) - 1)):
            above = loosest[level + 1]
            loosest[level] = np.where(most[level] == ends, above, most[level])
        loosest[-1] = most[-1]
    return loosest
