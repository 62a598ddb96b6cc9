"""Sums over samples against whole arrays in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmac.compiler.comparison.errors import VARIANTS, Sums, decibels, difference

numbers = st.floats(-1000, 1000, width=32)
stacks = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.just(len(VARIANTS) + 1), st.integers(1, 9)), elements=numbers
)


@given(stacks)
def test_sums(samples):
    sums = Sums()
    for reference, *variants in samples:
        sums.add(reference, variants)
    errors = sums.errors()
    reference, *variants = samples.astype(np.float64).transpose(1, 0, 2)
    power = np.square(reference).sum()
    for name, found in zip(VARIANTS, variants, strict=True):
        noise = np.square(found - reference).sum()
        expected = 10 * np.log10(max(power, 1e-30) / noise) if noise > 1e-20 else errors.stages_db[name]
        assert errors.stages_db[name] == pytest.approx(expected, abs=1e-3)
    assert errors.sqnr_db == errors.stages_db["constants"]
    assert errors.max_abs_error == pytest.approx(np.abs(variants[-1] - reference).max(), rel=1e-6)
    assert -1.0001 <= errors.cosine <= 1.0001


def test_equal_arrays_have_no_noise():
    x = np.arange(5, dtype=np.float32)
    sums = Sums()
    sums.add(x, [x, x.copy(), x, x.copy()])
    errors = sums.errors()
    assert (errors.sqnr_db, errors.cosine, errors.max_abs_error) == (None, 1.0, 0.0)
    assert set(errors.noise.values()) == {0.0}


def test_a_reference_of_zeros():
    sums = Sums()
    sums.add(np.zeros(3, np.float32), [np.ones(3, np.float32)] * 4)
    errors = sums.errors()
    assert errors.cosine == 0
    assert errors.sqnr_db == pytest.approx(10 * np.log10(1e-30 / 3))
    assert np.isfinite(list(errors.noise.values())).all()


def test_what_is_no_number_counts_nothing():
    """Masks of attention are full of infinities."""
    x = np.array([1, -np.inf, np.nan, 2], np.float32)
    assert difference(x, x).tolist() == [0, 0, 0, 0]
    sums = Sums()
    sums.add(x, [x + np.float32(1)] * 4)
    errors = sums.errors()
    assert errors.max_abs_error == 1
    assert errors.sqnr_db == pytest.approx(10 * np.log10(5 / 2))


def test_decibels():
    assert decibels(100, 1) == 20
    assert decibels(1, 0) is None
