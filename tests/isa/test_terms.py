from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmac.isa import terms
from mmac.isa.terms import IntArray
from tests.isa import naive

INT8 = np.arange(-128, 128).astype(np.int8)
DATA = np.arange(-256, 257).astype(np.int16)

weight_arrays = hnp.arrays(
    np.int16,
    st.tuples(st.integers(1, 4), st.integers(1, 50)),
    elements=st.one_of(st.integers(-128, 128), st.sampled_from([-128, -127, 0, 85, 127, 128])),
)


@pytest.mark.parametrize("values", [INT8, INT8.astype(np.int64), DATA], ids=["int8", "int64", "data"])
def test_digits_of_every_value(values: IntArray) -> None:
    positive, negative = terms.signed_digits(values)
    for value, plus, minus in zip(values, positive, negative, strict=True):
        expected = naive.naf(int(value))
        assert [(e, 1) for e in range(9) if plus >> e & 1] == sorted(t for t in expected if t[1] == 1)
        assert [(e, -1) for e in range(9) if minus >> e & 1] == sorted(t for t in expected if t[1] == -1)
    np.testing.assert_array_equal(terms.from_digits(positive, negative), values)
    np.testing.assert_array_equal(terms.term_count(values), [len(naive.naf(int(v))) for v in values])


@pytest.mark.parametrize("beta", range(1, 7))
def test_every_data_value_keeps_its_largest_terms(beta: int) -> None:
    expected = [sum(sign * 2**e for e, sign in naive.naf(int(v))[:beta]) for v in DATA]
    np.testing.assert_array_equal(terms.truncate_values(DATA, beta), expected)


def test_truncation_rounds_up_beyond_the_range() -> None:
    assert terms.truncate_values([127, 251, -255], 1).tolist() == [128, 256, -256]
    assert terms.truncate_values([251], 2).tolist() == [252]
    assert terms.truncate_groups(np.array([127], np.int8), 1).tolist() == [128]


@pytest.mark.parametrize("signed", [False, True])
def test_data_table_is_indexed_by_the_raw_byte(signed: bool) -> None:
    zero = -3 if signed else 7
    table = terms.data_table(zero, signed, 2)
    assert table.shape == (256,)
    for byte in range(256):
        q = byte - 256 if signed and byte > 127 else byte
        assert table[byte] == sum(sign * 2**e for e, sign in naive.naf(q - zero)[:2])


@pytest.mark.parametrize("alpha", [1, 2, 3, 4, 5])
def test_a_group_of_one_value_is_that_value(alpha: int) -> None:
    every = np.arange(-128, 129)
    np.testing.assert_array_equal(
        terms.truncate_groups(every[:, None], alpha)[:, 0], terms.truncate_values(every, alpha)
    )


@given(weight_arrays, st.integers(1, 130), st.sampled_from([1, 3, 8, 12, 16, 32]))
def test_groups_keep_their_largest_terms(weights: IntArray, alpha: int, group_size: int) -> None:
    expected = [naive.truncated(row, alpha, group_size) for row in weights.tolist()]
    np.testing.assert_array_equal(terms.truncate_groups(weights, alpha, group_size), expected)
    if weights.max() < 128:
        np.testing.assert_array_equal(terms.truncate_groups(weights.astype(np.int8), alpha, group_size), expected)


@given(weight_arrays, st.integers(1, 70), st.integers(1, 70))
def test_lower_budgets_keep_a_prefix(weights: IntArray, one: int, other: int) -> None:
    low, high = sorted((one, other))
    np.testing.assert_array_equal(
        terms.truncate_groups(terms.truncate_groups(weights, high), low), terms.truncate_groups(weights, low)
    )


@given(weight_arrays)
def test_group_term_count(weights: IntArray) -> None:
    expected = [[len(naive.ranked(row[s : s + 16])) for s in range(0, len(row), 16)] for row in weights.tolist()]
    np.testing.assert_array_equal(terms.group_term_count(weights), expected)


def test_ties_go_to_the_lower_index() -> None:
    group = np.full(16, 64, np.int8)
    for alpha in range(1, 17):
        assert terms.truncate_groups(group, alpha).tolist() == [64] * alpha + [0] * (16 - alpha)


def test_groups_of_the_fullest_values_do_not_overflow_a_counter() -> None:
    weights = np.full((3, 32), 85, np.int8)
    assert terms.group_term_count(weights, 32).tolist() == [[128]] * 3
    for alpha in (1, 31, 127, 128, 1000):
        np.testing.assert_array_equal(
            terms.truncate_groups(weights, alpha, 32), [naive.truncated([85] * 32, alpha, 32)] * 3
        )


def test_more_weights_than_one_pass_takes() -> None:
    weights = np.random.default_rng(0).integers(-127, 128, (5, 30_000)).astype(np.int8)
    got = terms.truncate_groups(weights, 8)
    np.testing.assert_array_equal(got[4, -96:], naive.truncated(weights[4, -96:].tolist(), 8))
    np.testing.assert_array_equal(got[:, :1600], terms.truncate_groups(weights[:, :1600], 8))


def test_shapes_and_empty_arrays() -> None:
    assert terms.truncate_groups(np.zeros((0, 5), np.int8), 3).shape == (0, 5)
    assert terms.truncate_groups(np.zeros((2, 0), np.int8), 3).shape == (2, 0)
    assert terms.group_term_count(np.zeros((2, 3, 17), np.int8)).shape == (2, 3, 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: terms.truncate_groups([129], 3),
        lambda: terms.truncate_groups(np.array([0.5]), 3),
        lambda: terms.truncate_groups([1], 0),
        lambda: terms.truncate_groups([1], 1, group_size=33),
        lambda: terms.truncate_groups(np.int8(1), 1),
        lambda: terms.truncate_values([257], 3),
        lambda: terms.truncate_values([1], 0),
    ],
)
def test_what_is_out_of_range_is_refused(call: Any) -> None:
    with pytest.raises(ValueError, match=r"budget|exceed|integers|group_size|axis"):
        call()
