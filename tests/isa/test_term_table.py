from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmac.isa import term_table, terms
from mmac.isa.terms import IntArray
from tests.isa import naive

tile_arrays = hnp.arrays(
    np.int16,
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.just(16)),
    elements=st.one_of(st.integers(-128, 128), st.just(0)),
)


@given(tile_arrays, st.integers(1, 64))
def test_rank(tile: IntArray, alpha: int) -> None:
    table = term_table.rank(tile, alpha)
    for row, group in enumerate(tile.reshape(-1, 16).tolist()):
        expected = naive.ranked(group)[:alpha]
        found = zip(table.exponent[row], table.index[row], table.sign[row], strict=True)
        assert [(e, i, -1 if s else 1) for e, i, s in found][: table.count[row]] == expected
        assert table.count[row] == len(expected)


def test_more_groups_than_one_pass_takes() -> None:
    tile = np.random.default_rng(1).integers(-127, 128, (9, 1000, 16)).astype(np.int8)
    np.testing.assert_array_equal(term_table.rank(tile, 20).values(), terms.truncate_groups(tile, 20))


@given(tile_arrays, st.integers(1, 64))
def test_a_decoded_tile_in_the_scratchpad_says_what_it_is(tile: IntArray, alpha: int) -> None:
    table = term_table.rank(tile, alpha)
    held = table.to_scratchpad()
    assert len(held) == len(table.count) * (1 + int(table.count.max()))
    again = term_table.TermTable.from_scratchpad(np.concatenate([held, held]), table.shape)
    np.testing.assert_array_equal(again.values(), table.values())


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2), st.booleans()), max_size=8), st.booleans())
def test_canonical_terms_are_those_of_the_weights(codes: list[tuple[int, int, bool]], ordered: bool) -> None:
    """Any terms of three values, against the definition: the ranked digits of what they add up to."""
    found = [(exponent, index, -1 if negative else 1) for exponent, index, negative in codes]
    if ordered:
        found.sort(key=lambda term: (-term[0], term[1]))
    values = [0] * 16
    for exponent, index, sign in found:
        values[index] += sign * 2**exponent
    table = np.array([[e << 5 | (s < 0) << 4 | i for e, i, s in found] + [0] * 2] * 3, np.uint8)
    canonical = term_table.TermTable(table, np.full(3, len(found), np.uint8), (3, 1)).is_canonical()
    assert canonical == (max(map(abs, values)) <= 128 and naive.ranked(values) == found)
