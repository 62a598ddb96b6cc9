"""The exact knapsack against enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.compiler.search.knapsack import solve

NUMBERS = st.integers(0, 12) | st.floats(0, 12, allow_subnormal=False).map(lambda x: round(x, 3))
ITEM = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5)


@given(st.lists(ITEM, min_size=1, max_size=5), st.integers(0, 50))
def test_as_good_as_enumeration(items, limit):
    values = [np.array([value for value, _ in item], float) for item in items]
    weights = [np.array([weight for _, weight in item], float) for item in items]
    sums = [[sum(pair[axis] for pair in choice) for axis in (0, 1)] for choice in itertools.product(*items)]
    best = min((value for value, weight in sums if weight <= limit + 1e-12), default=None)
    options = max(map(len, items))
    padded = [
        np.array([[*row, *[fill] * (options - len(row))] for row in rows])
        for rows, fill in ((values, 3.0), (weights, np.inf))
    ]
    found = solve(*padded, limit)
    if best is None:
        assert found is None
        return
    assert found is not None
    assert found.value == pytest.approx(best, abs=1e-9)
    assert found.weight <= limit + 1e-6
    assert found.value == pytest.approx(sum(v[i] for v, i in zip(values, found.chosen, strict=True)))


def test_many_items_with_many_options():
    rng = np.random.default_rng(1)
    weights = np.sort(rng.integers(100, 20000, (60, 50)), axis=1).astype(float)
    values = np.sort(rng.lognormal(0, 2, (60, 50)), axis=1)[:, ::-1]
    limit = 0.4 * sum(w.max() for w in weights)
    found = solve(values, weights, limit)
    assert found is not None
    assert found.weight <= limit
    # the Lagrangian bound: no choice can be better, and the gap of so many items is small
    price = found.multiplier
    bound = sum((v + price * w).min() for v, w in zip(values, weights, strict=True)) - price * limit
    assert bound * (1 - 1e-9) <= found.value <= bound * 1.01


def test_small_limits_are_kept_too():
    solution = solve(np.array([[1.0, 0.0]]), np.array([[1e-12, 5e-10]]), 2e-12)
    assert solution is not None
    assert solution.chosen.tolist() == [0]
