"""Chains of options nest, and are the best ones for their limits."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmac.compiler.search.costs import Costs
from mmac.compiler.search.plans import Problem, relax
from mmac.compiler.search.pool import Pool
from mmac.compiler.search.space import Layer
from mmac.isa.plan import Level

OPTIONS = tuple(Level(alpha, beta) for beta in (1, 2) for alpha in (4, 8, 16))


def problem(seed: int, layers: int, levels: int) -> Problem:
    """Random errors that fall with α and β, random costs that rise with them up to a limit."""
    rng = np.random.default_rng(seed)
    shape = (levels, layers, len(OPTIONS))
    gamma = np.array([option.gamma for option in OPTIONS], float)
    errors = rng.lognormal(0, 1, (layers, 1)) / gamma * rng.uniform(0.8, 1.2, len(OPTIONS))
    costs = np.minimum(gamma, gamma.max() * 0.7) * rng.integers(1, 9, (layers, 1))
    low, high = costs.min(axis=1).sum(), costs.max(axis=1).sum()
    names = tuple(Layer(f"layer{n}", False, OPTIONS[-1], OPTIONS) for n in range(layers))
    limits = np.linspace(low, high, levels + 1)[1:]
    return Problem(names, np.broadcast_to(errors, shape), np.broadcast_to(costs, shape), np.ones(levels), limits)


def nests(chosen: np.ndarray) -> bool:
    columns = [[OPTIONS[option] for option in column] for column in chosen.T]
    pairs = [pair for column in columns for pair in itertools.pairwise(column)]
    return all(low.alpha <= high.alpha and low.beta <= high.beta for low, high in pairs)


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_chains_nest_and_are_the_best_for_what_they_use(seed: int, layers: int, levels: int):
    given_ = problem(seed, layers, levels)
    chosen = relax(given_)
    assert nests(chosen)
    used = given_.sums(given_.weights, chosen)
    value = given_.sums(given_.values, chosen).sum()
    if layers * levels <= 4:  # by enumeration: nothing that uses as little at every level errs less
        for other in itertools.product(range(len(OPTIONS)), repeat=layers * levels):
            tried = np.array(other).reshape(levels, layers)
            if (given_.sums(given_.weights, tried) <= used).all() and nests(tried):
                assert given_.sums(given_.values, tried).sum() >= value * (1 - 1e-9)


def test_limits_hold_about():
    for seed in range(20):
        given_ = problem(seed, 30, 4)
        used = given_.sums(given_.weights, relax(given_))
        assert (np.abs(used / given_.limits - 1) < 0.06).all()


def test_options_that_a_layer_does_not_have_are_never_taken():
    given_ = problem(3, 4, 3)
    values, weights = given_.values.copy(), given_.weights.copy()
    values[:, 1, 2:] = weights[:, 1, 2:] = np.inf
    short = Layer("short", False, OPTIONS[1], OPTIONS[:2])
    layers = (given_.layers[0], short, *given_.layers[2:])
    for limits in (given_.limits, given_.limits * 0 + 1, given_.limits * 1e9, given_.limits * 0, -given_.limits):
        for shares in (given_.shares, np.array([1.0, 0.0, 1.0]), given_.shares * 0):
            chosen = relax(Problem(layers, values, weights, shares, limits))
            assert chosen.shape == (3, 4)
            assert (chosen[:, 1] < 2).all()


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_the_pool_puts_the_best_columns_together(seed: int, layers: int, levels: int):
    given_, rng = problem(seed, layers, levels), np.random.default_rng(seed)
    programs = [np.sort(rng.integers(0, 3, (levels, layers)), axis=0) for _ in range(4)]
    pool = Pool(layers)
    columns: list[dict[tuple[int, ...], np.ndarray]] = [{} for _ in range(layers)]
    for chosen in programs:
        costs = rng.uniform(1, 9, (layers, levels))
        pool.add(chosen, Costs(costs, costs.sum(axis=0)))
        for layer in range(layers):
            columns[layer][tuple(chosen[:, layer].tolist())] = costs[layer]
    every = list(itertools.product(*(of.items() for of in columns)))
    limits = np.median([np.sum([cost for _, cost in each], axis=0) for each in every], axis=0) * 1.001
    picked = pool.least_errors(given_.values, given_.shares, limits)
    errors = [given_.sums(given_.values, np.array([options for options, _ in each]).T).sum() for each in every]
    fits = [bool((np.sum([cost for _, cost in each], axis=0) <= limits).all()) for each in every]
    if picked is None:
        assert not any(fits)
        return
    best = min(error for error, fit in zip(errors, fits, strict=True) if fit)
    assert given_.sums(given_.values, picked).sum() <= best * 1.003
    all_errors = np.full(levels, 1e9)
    cheapest = pool.least_costs(given_.values, given_.shares, all_errors)
    least = sum(min(float(cost.sum()) for cost in of.values()) for of in columns)
    assert cheapest is not None
    assert sum(of[tuple(c.tolist())].sum() for of, c in zip(columns, cheapest.T, strict=True)) <= least * 1.003
