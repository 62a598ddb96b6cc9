"""The multiple-choice knapsack: one option per item, least value under a limit on the weight, exactly.

A Lagrange multiplier gives a bound and a solution close to it; options that no better solution can contain are
dropped by their reduced costs, and a dynamic programme over Pareto-optimal states settles the rest (Kellerer, Pferschy,
Pisinger, *Knapsack Problems*, 2004, ch. 11).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ROUNDS = 60
"""Bisections of the multiplier."""
_SLACK = 1e-9
"""Of sums whose terms were added in another order, relative."""


@dataclass(frozen=True)
class Solution:
    """One option of each item.

    `multiplier` is the price of weight at which the bound is tightest: about how much value one more unit would save.
    """

    chosen: Ints
    value: float
    weight: float
    multiplier: float


def solve(values: Float64, weights: Float64, limit: float) -> Solution | None:
    """The options of least total value among those of total weight ≤ `limit`; None if even the lightest exceed it.

    Args:
        values: [items, options], finite.
        weights: [items, options], not negative; an option of infinite weight may not be chosen.
        limit: on the sum of weights.
    """
    limit += _SLACK * abs(limit)
    order = np.lexsort((values, weights))  # of options alike in value the lightest comes first
    items = _Items(np.take_along_axis(values, order, axis=1), np.take_along_axis(weights, order, axis=1))
    lightest = np.zeros(len(values), np.int64)
    if not items.weight(lightest) <= limit:
        return None
    price, chosen = 0.0, items.cheapest(0.0)
    if items.weight(chosen) > limit:
        price, chosen = _bisect(items, limit, lightest)
        chosen = _improve(items, chosen, limit)
        reduced = items.values + price * items.weights
        bound = float(reduced.min(axis=1).sum()) - price * limit
        gap = items.value(chosen) - bound
        gap += _SLACK * max(1e-300, abs(items.value(chosen)) + abs(price * limit))
        found = _enumerate(items, reduced - reduced.min(axis=1, keepdims=True), limit, gap)
        if found is not None and items.value(found) < items.value(chosen):
            chosen = found
    given = np.take_along_axis(order, chosen[:, None], axis=1)[:, 0]
    return Solution(given, items.value(chosen), items.weight(chosen), price)


class _Items:
    """Options of each item, [items, options], the lightest first; those that may not be chosen have infinite values."""

    def __init__(self, values: Float64, weights: Float64) -> None:
        usable = np.isfinite(weights)
        self.values, self.weights = np.where(usable, values, np.inf), np.where(usable, weights, 0.0)
        self._every, self._usable = np.arange(len(values)), usable

    def value(self, chosen: Ints) -> float:
        """Of one option of each item."""
        return float(self.values[self._every, chosen].sum())

    def weight(self, chosen: Ints) -> float:
        """Of one option of each item; infinite if one may not be chosen."""
        weights = np.where(self._usable[self._every, chosen], self.weights[self._every, chosen], np.inf)
        return float(weights.sum())

    def cheapest(self, price: float) -> Ints:
        """The options of least value + price · weight, of these the lightest."""
        chosen: Ints = (self.values + price * self.weights).argmin(axis=1)
        return chosen

    def dearest(self) -> float:
        """A price at which the lightest options are the cheapest."""
        spread = np.ptp(np.where(self._usable, self.values, self.values[:, :1]), axis=1).sum()
        gaps = np.diff(np.maximum.accumulate(self.weights, axis=1), axis=1)
        return float(spread / gaps[gaps > 0].min(initial=np.inf)) + 1e-300


def _bisect(items: _Items, limit: float, lightest: Ints) -> tuple[float, Ints]:
    """The price at which the cheapest options (value + price · weight) just fit, and these options."""
    low, high, chosen = 0.0, items.dearest(), lightest
    for _ in range(_ROUNDS):
        # in proportion at first, as prices of very different magnitude are possible
        middle = (low * high) ** 0.5 if low > 0 else high / 1024
        found = items.cheapest(middle)
        if items.weight(found) <= limit:
            high, chosen = middle, found
        else:
            low = middle
        if low == 0 and high < 1e-290:
            break
    return high, chosen


def _improve(items: _Items, chosen: Ints, limit: float) -> Ints:
    """Use what the limit leaves: the single change that saves most, again and again."""
    chosen, every = chosen.copy(), np.arange(len(chosen))
    while True:
        room = limit - items.weight(chosen)
        value, weight = (of[every, chosen][:, None] for of in (items.values, items.weights))
        saved = np.where(items.weights - weight <= room, value - items.values, -np.inf)
        item, option = np.unravel_index(int(saved.argmax()), saved.shape)
        if not saved[item, option] > 0:
            return chosen
        chosen[item] = option


def _enumerate(items: _Items, reduced: Float64, limit: float, gap: float) -> Ints | None:
    """The best options whose reduced costs add up to at most `gap`, or None."""
    values, weights = items.values, items.weights
    kept = [np.flatnonzero(row <= gap) for row in reduced]
    lightest_after = np.cumsum([0.0, *(float(weights[i][kept[i]].min()) for i in range(len(kept))[::-1])])[::-1]
    value, weight, lost = np.zeros(1), np.zeros(1), np.zeros(1)
    steps: list[tuple[Ints, Ints]] = []
    for item, options in enumerate(kept):
        value, weight, lost = (
            (state[:, None] + of[item][options]).ravel()
            for state, of in ((value, values), (weight, weights), (lost, reduced))
        )
        order = np.lexsort((value, weight))
        order = order[(lost[order] <= gap) & (weight[order] + lightest_after[item + 1] <= limit)]
        if not len(order):
            return None
        ahead = np.minimum.accumulate(np.concatenate([[np.inf], value[order]]))[:-1]
        order = order[value[order] < ahead]  # nothing lighter is as good
        value, weight, lost = value[order], weight[order], lost[order]
        before, option = np.divmod(order, len(options))
        steps.append((before, options[option]))
    state, chosen = int(value.argmin()), []
    for before, option in reversed(steps):
        chosen.append(option[state])
        state = before[state]
    return np.array(chosen[::-1], np.int64)
