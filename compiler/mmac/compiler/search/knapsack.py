"""The multiple-choice knapsack: one option per item, least value under a limit on the weight, exactly.

A Lagrange multiplier gives a bound and a solution close to it; options that no better solution can contain are
dropped by their reduced costs, and a dynamic programme over Pareto-optimal states settles the rest (Kellerer, Pferschy,
Pisinger, *Knapsack Problems*, 2004, ch. 11).
"""

from __future__ import annotations

from collections.abc import Sequence
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


def solve(values: Sequence[Float64], weights: Sequence[Float64], limit: float) -> Solution | None:
    """The options of least total value among those of total weight ≤ `limit`; None if even the lightest exceed it.

    Args:
        values: of each item, one number per option (finite).
        weights: of each item, one non-negative number per option.
        limit: on the sum of weights.
    """
    limit += _SLACK * max(1.0, abs(limit))
    lightest = np.array([_least(w, v) for v, w in zip(values, weights, strict=True)], np.int64)
    if _total(weights, lightest) > limit:
        return None
    best = np.array([_least(v, w) for v, w in zip(values, weights, strict=True)], np.int64)
    if _total(weights, best) <= limit:
        return _solution(values, weights, best, 0.0)
    price, chosen = _bisect(values, weights, limit, lightest)
    chosen = _improve(values, weights, chosen, limit)
    reduced = [v + price * w for v, w in zip(values, weights, strict=True)]
    bound = sum(float(r.min()) for r in reduced) - price * limit
    gap = _total(values, chosen) - bound
    gap += _SLACK * max(1e-300, abs(_total(values, chosen)) + abs(price * limit))
    found = _enumerate(values, weights, [r - r.min() for r in reduced], limit, gap)
    if found is not None and _total(values, found) < _total(values, chosen):
        chosen = found
    return _solution(values, weights, chosen, price)


def _least(first: Float64, second: Float64) -> int:
    """Position of the least of `first`, of these of the least of `second`."""
    return int(np.lexsort((second, first))[0])


def _total(arrays: Sequence[Float64], chosen: Ints) -> float:
    return float(sum(array[i] for array, i in zip(arrays, chosen, strict=True)))


def _solution(values: Sequence[Float64], weights: Sequence[Float64], chosen: Ints, price: float) -> Solution:
    return Solution(chosen, _total(values, chosen), _total(weights, chosen), price)


def _bisect(values: Sequence[Float64], weights: Sequence[Float64], limit: float, lightest: Ints) -> tuple[float, Ints]:
    """The price at which the cheapest options (value + price · weight) just fit, and these options."""

    def cheapest(price: float) -> Ints:
        return np.array([_least(v + price * w, w) for v, w in zip(values, weights, strict=True)], np.int64)

    spread = sum(float(np.ptp(v)) for v in values)
    gaps = [float(np.diff(np.unique(w)).min()) for w in weights if np.ptp(w) > 0]
    low, high, chosen = 0.0, spread / min(gaps) + 1e-300, lightest
    for _ in range(_ROUNDS):
        # in proportion at first, as prices of very different magnitude are possible
        middle = (low * high) ** 0.5 if low > 0 else high / 1024
        found = cheapest(middle)
        if _total(weights, found) <= limit:
            high, chosen = middle, found
        else:
            low = middle
        if low == 0 and high < 1e-290:
            break
    return high, chosen


def _improve(values: Sequence[Float64], weights: Sequence[Float64], chosen: Ints, limit: float) -> Ints:
    """Use what the limit leaves: the single change that saves most, again and again."""
    chosen = chosen.copy()
    room = limit - _total(weights, chosen)
    while True:
        best, change = 0.0, None
        for item, (v, w) in enumerate(zip(values, weights, strict=True)):
            saved = np.where(w - w[chosen[item]] <= room, v[chosen[item]] - v, -np.inf)
            option = int(saved.argmax())
            if saved[option] > best:
                best, change = float(saved[option]), (item, option)
        if change is None:
            return chosen
        item, option = change
        room -= float(weights[item][option] - weights[item][chosen[item]])
        chosen[item] = option


def _enumerate(
    values: Sequence[Float64], weights: Sequence[Float64], reduced: Sequence[Float64], limit: float, gap: float
) -> Ints | None:
    """The best options whose reduced costs add up to at most `gap`, or None."""
    kept = [np.flatnonzero(r <= gap) for r in reduced]
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
