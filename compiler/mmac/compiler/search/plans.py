"""Plans that nest: one option per layer and level, α and β of every layer not falling from one level to the next.

With a price on what is limited at each level, every layer's best chain of options follows from a dynamic programme
over the levels. Prices are raised where a limit is exceeded and lowered where it is not, until the limits hold about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mmac.compiler.search.space import Layer

Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ROUNDS = 64
"""Adjustments of the prices."""
_LEAST = 1e-12
"""Share of the largest sum of weights that limits are taken to be at least, which may be 0 or less."""


@dataclass(frozen=True)
class Problem:
    """What is to be minimised, and what is limited, by level, layer and option.

    Attributes:
        layers: the layers with their options.
        values: [levels, layers, options] whose weighted sum is to be small.
        weights: the same of what is limited. Layers with fewer options than others have infinite ones at the end.
        shares: [levels] by which a level's values count.
        limits: [levels] on the sum of weights.
    """

    layers: Sequence[Layer]
    values: Float64
    weights: Float64
    shares: Float64
    limits: Float64

    @cached_property
    def below(self) -> npt.NDArray[np.bool_]:
        """[layers, options, options]: whether the second may follow the first at a higher level."""
        alpha, beta = (np.full(self.values.shape[1:], 1000) for _ in range(2))
        for number, layer in enumerate(self.layers):
            alpha[number, : len(layer.options)] = [option.alpha for option in layer.options]
            beta[number, : len(layer.options)] = [option.beta for option in layer.options]
        found: npt.NDArray[np.bool_] = (alpha[:, :, None] <= alpha[:, None]) & (beta[:, :, None] <= beta[:, None])
        return found

    def sums(self, of: Float64, chosen: Ints) -> Float64:
        """[levels] sums over layers of `values` or `weights`; `chosen` is [levels, layers]."""
        level, layer = np.arange(len(chosen))[:, None], np.arange(len(self.layers))
        picked: Float64 = of[level, layer, chosen].sum(axis=1)
        return picked


def relax(problem: Problem) -> Ints:
    """[levels, layers] options that nest and use about what they may.

    They are the best ones for what they use, which may be more than the limits or less: of what the prices led to,
    that which comes closest to them.
    """
    finite = np.isfinite(problem.weights)
    weights = np.where(finite, problem.weights, 0)  # where they are infinite, values are too
    shared = problem.shares[:, None, None] * np.where(finite, problem.values, 0)  # shares may be 0
    values = np.where(finite, shared, np.inf)
    limits = np.maximum(problem.limits, np.maximum(_LEAST * weights.max(axis=2).sum(axis=1), 1e-300))
    spread = shared.sum(axis=1).max(axis=1)
    prices = np.maximum(spread, spread.max() * 1e-9) / limits
    best, least = np.zeros((0, 0), np.int64), np.inf
    for number in range(_ROUNDS):
        chosen = _chains(values + prices[:, None, None] * weights, problem.below)
        used = problem.sums(weights, chosen) / limits
        if (distance := float(np.abs(used - 1).sum())) < least:
            best, least = chosen, distance
        prices *= np.exp(np.clip(4 / (1 + number / 8) * (used - 1), -1, 1))
    return best


def _chains(cost: Float64, below: npt.NDArray[np.bool_]) -> Ints:
    """Of each layer the options at all levels that cost least together; `cost` is [levels, layers, options]."""
    levels, layers, _ = cost.shape
    total, before = cost[0], np.zeros(cost.shape, np.int64)
    for level in range(1, levels):
        reach = np.where(below, total[:, :, None], np.inf)
        before[level] = reach.argmin(axis=1)
        total = reach.min(axis=1) + cost[level]
    chosen = np.empty((levels, layers), np.int64)
    chosen[-1] = total.argmin(axis=1)
    for level in range(levels - 1, 0, -1):
        chosen[level - 1] = before[level, np.arange(layers), chosen[level]]
    return chosen
