"""Coded streams against a bit-by-bit definition, and what they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmac.isa import coded, streams, term_table, terms
from mmac.isa.errors import MalformedError
from mmac.isa.plan import PAPER_LEVELS
from mmac.isa.table import TermFormat
from mmac.isa.terms import IntArray
from tests.isa import naive

tile_arrays = hnp.arrays(
    np.int16,
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.just(16)),
    elements=st.one_of(st.integers(-128, 128), st.just(0)),
)
budgets = st.lists(st.integers(1, 64), min_size=1, max_size=4).map(sorted)


@st.composite
def kept_terms(draw: st.DrawFn, tiles: IntArray, alphas: list[int]) -> coded.Bytes:
    """[levels, tiles, groups] terms of each group at each level: those that α leaves, or fewer of some tiles."""
    count = term_table.rank(tiles, alphas[-1]).count.reshape(len(tiles), -1)
    kept = np.minimum(count, np.array(alphas, np.uint8).reshape(-1, 1, 1))
    own = draw(hnp.arrays(np.uint8, kept.shape, elements=st.integers(0, 64)))
    ragged = draw(hnp.arrays(np.bool_, (1, len(tiles), 1)))
    return np.where(ragged, np.minimum(kept, np.sort(own, axis=0)), kept)


def by_definition(tile: IntArray, kept: list[list[int]], alphas: list[int]) -> tuple[list[int], list[int]]:
    """The stream of a tile, and where each level's prefix ends."""
    groups = [naive.ranked(group) for group in tile.reshape(-1, 16).tolist()]
    counts = kept[-1]
    ragged = kept != [[min(count, alpha) for count in counts] for alpha in alphas]
    most = max(counts)
    stream = [128] if ragged else [most, *section([most - count for count in counts])]
    ends = []
    for low, high in pairwise([[0] * len(groups), *kept]):
        if ragged:
            stream += section([b - a for a, b in zip(low, high, strict=True)])
        gaps: list[int] = []
        signs: list[int] = []
        for group, first, last in zip(groups, low, high, strict=True):
            places = [-1] + [16 * (7 - exponent) + index for exponent, index, _ in group]
            gaps += [b - a - 1 for a, b in pairwise(places[first : last + 1])]
            signs += [sign < 0 for _, _, sign in group[first:last]]
        stream += section(gaps, signs)
        ends.append(len(stream))
    return stream, ends


def section(numbers: list[int], signs: list[int] | None = None) -> list[int]:
    found: list[list[int]] = []
    for k in range(7):
        planes = [signs] * (signs is not None) + [[number >> bit & 1 for number in numbers] for bit in range(k)]
        unary = [bit for number in numbers for bit in [1] * (number >> k) + [0]]
        unary += [1] * (-len(unary) % 8)
        found.append([k, *(byte for plane in planes for byte in as_bytes(plane or [])), *as_bytes(unary)])
    return min((len(each), each) for each in found)[1] if numbers else []


def as_bytes(bits: Sequence[int]) -> list[int]:
    padded = [*bits, *([0] * (-len(bits) % 8))]
    return [sum(bit << 7 - i for i, bit in enumerate(padded[at : at + 8])) for at in range(0, len(padded), 8)]


def encoded(
    tiles: IntArray, alphas: Sequence[int], kept: coded.Bytes | None = None
) -> tuple[term_table.TermTable, coded.Bytes, coded.Ints]:
    """Ranked terms, the streams of all tiles, and where each level's prefix ends."""
    table = term_table.rank(tiles, alphas[-1])
    count = table.count.reshape(len(tiles), -1)
    nested = np.minimum(count, np.array(alphas, np.uint8).reshape(-1, 1, 1))
    return table, *coded.encode(table.codes, nested if kept is None else kept, alphas)


def prefixes(data: coded.Bytes, ends: coded.Ints, level: int) -> coded.Bytes:
    start = np.cumsum(ends[:, -1]) - ends[:, -1]
    return np.concatenate([data[s : s + size] for s, size in zip(start, ends[:, level], strict=True)])


@given(tile_arrays, budgets, st.data())
def test_streams_are_as_defined(tiles: IntArray, alphas: list[int], draw: st.DataObject) -> None:
    kept = draw.draw(kept_terms(tiles, alphas))
    _, data, ends = encoded(tiles, alphas, kept)
    start = 0
    for t, own in enumerate(ends):
        stream = data[start : start + own[-1]].tolist()
        assert (stream, own.tolist()) == by_definition(tiles[t], kept[:, t].tolist(), alphas)
        start += own[-1]
    assert start == len(data)


@given(tile_arrays, budgets, st.data())
def test_every_level_reads_its_prefix(tiles: IntArray, alphas: list[int], draw: st.DataObject) -> None:
    kept = draw.draw(kept_terms(tiles, alphas))
    table, data, ends = encoded(tiles, alphas, kept)
    for level, own in enumerate(kept):
        read = prefixes(data, ends, level)
        found = coded.decode(read, ends[:, level], tiles.shape[1] * tiles.shape[2], alphas[: level + 1], "tiles")
        terms_found = term_table.TermTable(found.codes, found.kept[-1].ravel(), tiles.shape[:3])
        np.testing.assert_array_equal(terms_found.values(), table.largest(own.ravel()).values())
        np.testing.assert_array_equal(found.kept, kept[: level + 1])
        np.testing.assert_array_equal(found.ends, ends[:, : level + 1])


def test_more_tiles_than_one_pass_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = np.random.default_rng(2).integers(-127, 128, (5, 2, 2, 16))
    whole = encoded(tiles, [3, 9])
    monkeypatch.setattr(coded, "CHUNK", 9)
    parts = encoded(tiles, [3, 9])
    np.testing.assert_array_equal(parts[1], whole[1])
    np.testing.assert_array_equal(parts[2], whole[2])


@given(tile_arrays, budgets)
def test_plain_and_coded_streams_decode_alike(tiles: IntArray, alphas: list[int]) -> None:
    plain, short = (streams.encode(kind, tiles, alphas) for kind in (TermFormat.PLAIN, TermFormat.CODED))
    np.testing.assert_array_equal(plain.level_alpha, short.level_alpha)
    for level, alpha in enumerate(alphas):
        for kind, encoded_tiles in ((TermFormat.PLAIN, plain), (TermFormat.CODED, short)):
            read = prefixes(encoded_tiles.data, encoded_tiles.level_bytes, level)
            sizes = encoded_tiles.level_bytes[:, level]
            found = streams.decode(kind, read, tiles.shape[:3], alphas[: level + 1], sizes)
            np.testing.assert_array_equal(found.table.values(), terms.truncate_groups(tiles, alpha))


@given(tile_arrays, budgets, st.data())
def test_a_mutated_stream_decodes_to_terms_in_order_or_a_typed_error(
    tiles: IntArray, alphas: list[int], draw: st.DataObject
) -> None:
    _, stream, ends = encoded(tiles, alphas, draw.draw(kept_terms(tiles, alphas)))
    at = draw.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= 1 << draw.draw(st.integers(0, 7))
    try:
        found = coded.decode(stream, ends[:, -1], tiles.shape[1] * tiles.shape[2], alphas, "tiles")
    except MalformedError:
        return
    for codes, count in zip(found.codes, found.kept[-1].ravel(), strict=True):
        places = [(7 - (code >> 5)) * 16 + (code & 15) for code in codes[:count].tolist()]
        assert places == sorted(set(places))
    assert (found.kept <= np.reshape(alphas, (-1, 1, 1))).all()


ONE = [0, 0x7F]
"""A section of one number, 0."""


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ([], "ends too early"),
        ([2, *ONE], "ends too early"),
        ([65, *ONE, 0, 0], "groups of 65 terms; at most 64"),
        ([1, 0, 0xDF], "a group of fewer than no terms"),
        ([1, *ONE, 7, 0, 0x7F], "k = 7; 0…6"),
        ([1, *ONE, 0, 0, 0x7F, 0], "1 bytes too many"),
        ([1, *ONE, 0, 0, 0xFF], "ends too early"),
        ([1, *ONE, 6, *[0] * 7, 0xDF], "beyond the last place"),
        ([1, *ONE, 0, 0, 0x3F], "zeros after the last number"),
        ([2, *ONE, 6, 0, *[0x80] * 6, 0x9F], "beyond the last place"),
        ([128], "ends too early"),
        ([128, 6, *[0x80] * 6, 0xBF], "a group of 127 terms; at most 64 at this level"),
        ([128, 7, 0x7F], "k = 7; 0…6"),
    ],
)
def test_streams_that_no_encoder_writes_are_refused(data: list[int], found: str) -> None:
    with pytest.raises(MalformedError, match=found):
        coded.decode(np.array(data, np.uint8), np.array([len(data)]), 1, [64], "a tile")


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 3, 0)])
def test_no_tiles_and_empty_tiles(shape: tuple[int, int, int]) -> None:
    count = np.zeros((shape[0], shape[1] * shape[2]), np.uint8)
    data, ends = coded.encode(np.zeros((count.size, 0), np.uint8), np.stack([count] * 2), [2, 4])
    assert data.size == 0
    assert ends.tolist() == [[0, 0]] * shape[0]
    assert coded.decode(data, ends[:, -1], count.shape[1], [2, 4], "tiles").kept[-1].shape == count.shape


def test_about_half_of_the_plain_bytes() -> None:
    """Gaussian weights at the paper's levels: facts of term quantization, not of one network."""
    weights = np.random.default_rng(0).normal(0, 30, (16, 36, 16, 16))
    tiles = np.clip(np.rint(weights), -127, 127).astype(np.int16)
    alphas = [level.alpha for level in PAPER_LEVELS]
    _, data, ends = encoded(tiles, alphas)
    plain = streams.encode(TermFormat.PLAIN, tiles, alphas)
    assert len(data) < 0.53 * plain.size.sum()
    assert (ends < 0.58 * plain.level_bytes).all()
    assert len(data) * 8 / (16 * 36 * 16) < 88


def test_budgets_that_fall() -> None:
    """As a directory may say that has not been checked: still only typed errors."""
    tile = np.full((1, 1, 2, 16), 85, np.int16)
    _, data, ends = encoded(tile, [9])
    with pytest.raises(MalformedError, match="budgets that fall from level to level"):
        coded.decode(data, ends[:, -1], 2, [9, 8, 2], "a tile")
