"""The knapsack against enumeration."""

from __future__ import annotations

import itertools

import highspy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmac.compiler.search.knapsack import solve

NUMBERS = st.integers(0, 12) | st.floats(0, 12, allow_subnormal=False).map(lambda x: round(x, 3))


@given(st.data(), st.integers(1, 3))
@settings(deadline=None)
def test_as_good_as_enumeration(data: st.DataObject, count: int):
    item = st.lists(st.tuples(NUMBERS, *[NUMBERS] * count), min_size=1, max_size=5)
    items = data.draw(st.lists(item, min_size=1, max_size=5))
    limits = np.array(data.draw(st.lists(st.integers(0, 50), min_size=count, max_size=count)), float)
    values = [np.array([option[0] for option in options], float) for options in items]
    weights = [np.array([option[1:] for option in options], float) for options in items]
    sums = np.array([np.sum(choice, axis=0, dtype=float) for choice in itertools.product(*items)])
    fitting = sums[(sums[:, 1:] <= limits).all(axis=1)]
    found = solve(values, weights, limits)
    if found is None:  # a tie of rounded numbers may count as too much
        assert not len(fitting) or (sums[:, 1:] > limits * (1 - 1e-6)).any(axis=1).all()
        return
    used = np.sum([weight[choice] for weight, choice in zip(weights, found, strict=True)], axis=0)
    assert (used <= limits * (1 + 1e-6) + 1e-6).all()
    value = sum(own[choice] for own, choice in zip(values, found, strict=True))
    below = sums[(sums[:, 1:] <= limits * (1 - 1e-6)).all(axis=1), 0]
    assert value <= below.min(initial=np.inf) * (1 + 3e-3) + 1e-6


def test_many_items_with_many_options_and_limits():
    rng = np.random.default_rng(1)
    weights = np.sort(rng.integers(100, 20000, (60, 20, 8)), axis=1).astype(float)
    values = np.sort(rng.lognormal(0, 2, (60, 20)), axis=1)[:, ::-1]
    limits = weights.max(axis=1).sum(axis=0) * np.linspace(0.3, 0.5, 8)
    found = solve(list(values), list(weights), limits)
    assert found is not None
    assert found == solve(list(values), list(weights), limits)
    used = weights[np.arange(60), found].sum(axis=0)
    assert (used <= limits * (1 + 1e-6)).all()
    # with prices on the limits, no choice can be better than the best one of each item alone
    prices = values.sum() / limits / 40
    for _ in range(400):
        chosen = (values + weights @ prices).argmin(axis=1)
        prices *= np.exp(0.05 * (weights[np.arange(60), chosen].sum(axis=0) / limits - 1))
    bound = (values + weights @ prices).min(axis=1).sum() - prices @ limits
    assert bound <= values[np.arange(60), found].sum() <= bound * 1.1


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_numbers_of_any_size(scale: float):
    values, weights = [np.array([1.0, 0.0]) * scale], [np.array([[1.0], [500.0]]) * scale]
    assert solve(values, weights, np.array([2.0]) * scale) == [0]
    assert solve(values, weights, np.array([500.0]) * scale * 1.001) == [1]


@pytest.mark.parametrize("large", [1e3, 1e6, 1e9, 1e12])
def test_one_large_value_does_not_hide_the_others(large: float):
    rng = np.random.default_rng(0)
    values, weights = list(rng.uniform(0, 1, (8, 6))), list(rng.uniform(1, 2, (8, 6, 1)))
    found = solve(values, weights, np.array([11.0]))
    values[0], weights[0] = np.append(values[0], large), np.append(weights[0], [[1.9]], axis=0)
    assert found == solve(values, weights, np.array([11.0]))


def test_threads_of_others_do_not_matter():
    with_many = highspy.Highs()
    with_many.silent()
    highspy.Highs.resetGlobalScheduler(True)
    with_many.setOptionValue("threads", 2)
    variable = with_many.addVariable(lb=0, ub=1)
    with_many.changeColIntegrality(variable.index, highspy.HighsVarType.kInteger)
    assert with_many.run() == highspy.HighsStatus.kOk
    rng = np.random.default_rng(0)
    assert solve(list(rng.uniform(0, 1, (8, 6))), list(rng.uniform(1, 2, (8, 6, 1))), np.array([11.0])) is not None
    highspy.Highs.resetGlobalScheduler(True)


@pytest.mark.parametrize("limit", [-1.0, 0.0, 0.5])
def test_limits_that_cannot_be_kept(limit: float):
    assert solve([np.array([1.0])], [np.array([[1.0]])], np.array([limit])) is None


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]):
    solve([np.array([1.0, 2.0])] * 3, [np.array([[2.0], [1.0]])] * 3, np.array([5.0]))
    assert capfd.readouterr() == ("", "")
