"""The chosen format is the one that moves fewest bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.compiler.tile.formats import choose, likely_format
from mmac.isa import streams, terms
from mmac.isa.table import TermFormat


def tiles(largest=127, shape=(2, 4, 8, 16), seed=0):
    found = np.random.default_rng(seed).integers(-largest, largest + 1, shape).astype(np.int16)
    found[0, 0, 0, 0] = largest
    return found


@given(st.lists(st.integers(1, 64), min_size=1, max_size=4).map(sorted), st.integers(1, 128), st.integers(0, 99))
def test_no_other_format_moves_fewer_bytes(alphas, largest, seed):
    weights = tiles(largest, seed=seed)
    counted = range(len(alphas))
    kind, encoded = choose(weights, alphas, counted)
    others = [other for other in TermFormat if largest < 128 or other != TermFormat.RAW]
    sizes = {other: streams.encode(other, weights, alphas).level_bytes.sum() for other in others}
    assert encoded.level_bytes.sum() == sizes[kind] == min(sizes.values())


@pytest.mark.parametrize(
    ("shape", "alphas", "largest", "expected"),
    [
        ((2, 4, 8, 16), [8, 10], 127, TermFormat.CODED),
        ((2, 1, 1, 16), [1, 2], 127, TermFormat.PLAIN),  # coded tiles begin with some bytes of their own
        ((2, 4, 8, 16), [64], 127, TermFormat.RAW),
        ((2, 4, 8, 16), [64], 128, TermFormat.CODED),
    ],
)
def test_which_format_suits_what(shape, alphas, largest, expected):
    assert choose(tiles(largest, shape), alphas, range(len(alphas)))[0] == expected


def test_only_the_levels_that_count_do():
    assert choose(tiles(), [8, 64], [0])[0] == TermFormat.CODED
    assert choose(tiles(), [8, 64], [1])[0] == TermFormat.RAW


def test_budgets_of_groups():
    weights = tiles()
    count = terms.group_term_count(weights)[..., 0]
    limits = np.minimum(count, np.arange(1, 9)).astype(np.uint8)[None]
    kind, encoded = choose(weights, [64], [0], limits)
    assert kind == TermFormat.CODED
    assert encoded.level_alpha.tolist() == [[8], [8]]
    # where they drop nothing, the integers may be shorter
    assert choose(weights, [64], [0], np.full((1, *count.shape), 64, np.uint8))[0] == TermFormat.RAW


@pytest.mark.parametrize(("alpha", "expected"), [(8, TermFormat.CODED), (20, TermFormat.CODED), (64, TermFormat.RAW)])
def test_the_likely_format_is_the_one_of_common_tiles(alpha, expected):
    weights = tiles(shape=(1, 8, 16, 16))
    assert (
        likely_format(np.minimum(terms.group_term_count(weights), alpha))
        == choose(weights, [alpha], [0])[0]
        == expected
    )


def test_integers_cannot_hold_budgets_of_groups():
    kept = np.full((1, 8, 16), 40)
    assert (likely_format(kept), likely_format(kept, whole=False)) == (TermFormat.RAW, TermFormat.CODED)
