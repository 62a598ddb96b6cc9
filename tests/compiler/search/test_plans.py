"""Plans nest, keep their limits, and are close to the best that enumeration finds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmac.compiler.search.plans import Nested, Problem, nest
from mmac.compiler.search.space import Layer
from mmac.isa.plan import Level

OPTIONS = tuple(Level(alpha, beta) for beta in (1, 2) for alpha in (4, 8, 16))


def problem(seed: int, layers: int, levels: int, rising: bool = True) -> Problem:
    """Random errors that fall with α and β, random costs that rise with them up to a limit."""
    rng = np.random.default_rng(seed)
    shape = (levels, layers, len(OPTIONS))
    gamma = np.array([option.gamma for option in OPTIONS], float)
    errors = np.broadcast_to(rng.lognormal(0, 1, (layers, 1)) / gamma * rng.uniform(0.8, 1.2, len(OPTIONS)), shape)
    costs = np.broadcast_to(np.minimum(gamma, gamma.max() * 0.7) * rng.integers(1, 9, (layers, 1)), shape)
    names = tuple(Layer(f"layer{n}", False, OPTIONS[-1], OPTIONS) for n in range(layers))
    ones = np.ones(levels)
    if rising:
        low, high = costs[0].min(axis=1).sum(), costs[0].max(axis=1).sum()
        return Problem(names, errors, costs, 0 * ones, ones, np.linspace(low, high, levels + 1)[1:], True)
    low, high = errors[0].min(axis=1).sum(), errors[0].max(axis=1).sum()
    return Problem(names, costs, errors, 0 * ones, ones, np.linspace(high, low, levels + 1)[1:] * 1.0001, False)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4), st.booleans())
@settings(max_examples=25, deadline=None)
def test_plans_nest_and_keep_limits(seed, layers, levels, rising):
    given_ = problem(seed, layers, levels, rising)
    found = nest(given_)
    assert isinstance(found, Nested)
    assert np.isfinite(given_.score(found.chosen))
    for column in found.chosen.T:
        for low, high in itertools.pairwise(OPTIONS[option] for option in column):
            assert low.alpha <= high.alpha
            assert low.beta <= high.beta
    values = given_.sums(given_.values, found.chosen)
    assert (values >= found.bound * (1 - 1e-9)).all()


def test_as_good_as_enumeration_of_two_layers_and_levels():
    close = 0
    for seed in range(12):
        given_ = problem(seed, 2, 2)
        best = min(
            given_.score(np.array(chosen).reshape(2, 2))
            for chosen in itertools.product(range(len(OPTIONS)), repeat=4)
            if all(given_.below[n, chosen[n], chosen[2 + n]] for n in (0, 1))
        )
        found = nest(given_)
        assert isinstance(found, Nested)
        score = given_.score(found.chosen)
        assert best * (1 - 1e-9) <= score <= best * 1.5
        close += score <= best * 1.0001
    assert close >= 9


def test_one_level_is_exact():
    for seed in range(6):
        given_ = problem(seed, 3, 1)
        found = nest(given_)
        assert isinstance(found, Nested)
        assert given_.sums(given_.values, found.chosen) == pytest.approx(found.bound)


def test_a_limit_below_the_lightest_choice():
    given_ = problem(0, 3, 2)
    low = Problem(given_.layers, given_.values, given_.weights, given_.offsets, given_.units, np.array([1.0, 1e9]))
    assert nest(low) == 0


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(2, 4), st.data())
@settings(max_examples=25, deadline=None)
def test_a_level_that_is_held_to_one_option(seed, layers, levels, data):
    """The others keep below and above it."""
    free = problem(seed, layers, levels)
    level = data.draw(st.integers(0, levels - 1))
    option = data.draw(st.integers(0, len(OPTIONS) - 1))
    weights, values = free.weights.copy(), free.values.copy()
    others = [number for number in range(len(OPTIONS)) if number != option]
    weights[level][..., others] = values[level][..., others] = np.inf
    limits = np.maximum.accumulate(np.full(levels, free.weights.max() * layers))
    held = Problem(free.layers, values, weights, free.offsets, free.units, limits)
    found = nest(held)
    assert isinstance(found, Nested)
    assert (found.chosen[level] == option).all()
    assert np.isfinite(held.score(found.chosen))
    for column in found.chosen.T:
        for low, high in itertools.pairwise(OPTIONS[chosen] for chosen in column):
            assert low.alpha <= high.alpha
            assert low.beta <= high.beta
