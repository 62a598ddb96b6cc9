"""Coded streams against a bit-by-bit definition, and what they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmac.isa import coded, streams, terms
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


def by_definition(tile: IntArray, alphas: list[int]) -> tuple[list[int], list[int]]:
    """The stream of a tile, and where each level's prefix ends."""
    groups = [naive.ranked(group)[: alphas[-1]] for group in tile.reshape(-1, 16).tolist()]
    most = max(map(len, groups))
    stream = [most, *as_bytes([len(group) == most for group in groups])]
    stream += [len(group) for group in groups if len(group) < most]
    ends = []
    for low, high in pairwise([0, *alphas]):
        gaps: list[int] = []
        signs: list[int] = []
        for group in groups:
            places = [-1] + [16 * (7 - exponent) + index for exponent, index, _ in group]
            gaps += [b - a - 1 for a, b in pairwise(places[low : high + 1])]
            signs += [sign < 0 for _, _, sign in group[low:high]]
        sections: list[list[int]] = []
        for k in range(7):
            planes: list[list[int]] = [signs, *([gap >> bit & 1 for gap in gaps] for bit in range(k))]
            unary: list[int] = [bit for gap in gaps for bit in [1] * (gap >> k) + [0]]
            unary += [1] * (-len(unary) % 8)
            sections.append([k, *(byte for plane in planes for byte in as_bytes(plane)), *as_bytes(unary)])
        if gaps:
            stream += min((len(section), section) for section in sections)[1]
        ends.append(len(stream))
    return stream, ends


def as_bytes(bits: Sequence[int]) -> list[int]:
    padded = [*bits, *([0] * (-len(bits) % 8))]
    return [sum(bit << 7 - i for i, bit in enumerate(padded[at : at + 8])) for at in range(0, len(padded), 8)]


def encoded(tiles: IntArray, alphas: Sequence[int]) -> tuple[streams.TermTable, coded.Bytes, coded.Ints]:
    """Ranked terms, the streams of all tiles, and where each level's prefix ends."""
    table = streams.rank(tiles, alphas[-1])
    return table, *coded.encode(table.codes, table.count.reshape(len(tiles), -1), alphas)


def prefixes(data: coded.Bytes, ends: coded.Ints, level: int) -> coded.Bytes:
    start = np.cumsum(ends[:, -1]) - ends[:, -1]
    return np.concatenate([data[s : s + size] for s, size in zip(start, ends[:, level], strict=True)])


@given(tile_arrays, budgets)
def test_streams_are_as_defined(tiles: IntArray, alphas: list[int]) -> None:
    _, data, ends = encoded(tiles, alphas)
    start = 0
    for tile, own in zip(tiles, ends, strict=True):
        stream = data[start : start + own[-1]].tolist()
        assert (stream, own.tolist()) == by_definition(tile, alphas)
        start += own[-1]
    assert start == len(data)


@given(tile_arrays, budgets)
def test_every_level_reads_its_prefix(tiles: IntArray, alphas: list[int]) -> None:
    _, data, ends = encoded(tiles, alphas)
    for level, alpha in enumerate(alphas):
        own = prefixes(data, ends, level)
        found = coded.decode(own, ends[:, level], tiles.shape[1] * tiles.shape[2], alphas[: level + 1], "tiles")
        table = streams.TermTable(found.codes, found.count.ravel(), tiles.shape[:3])
        np.testing.assert_array_equal(table.values(), terms.truncate_groups(tiles, alpha))
        np.testing.assert_array_equal(found.ends, ends[:, : level + 1])


@given(tile_arrays, budgets, st.data())
def test_a_mutated_stream_decodes_to_terms_in_order_or_a_typed_error(
    tiles: IntArray, alphas: list[int], data: Any
) -> None:
    _, stream, ends = encoded(tiles, alphas)
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = coded.decode(stream, ends[:, -1], tiles.shape[1] * tiles.shape[2], alphas, "tiles")
    except MalformedError:
        return
    for codes, count in zip(found.codes, found.count.ravel(), strict=True):
        places = [(7 - (code >> 5)) * 16 + (code & 15) for code in codes[:count].tolist()]
        assert places == sorted(set(places))
        assert count <= alphas[-1]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ([], "ends too early"),
        ([2, 0x80], "ends too early"),
        ([65, 0x80, 0, 0, 0], "65 are the most"),
        ([1, 0xC0, 0, 0, 0x7F], "flags of groups that are not there"),
        ([1, 0x00, 1, 0, 0, 0x7F], "groups of 1 terms where 1 are the most"),
        ([1, 0x80, 7, 0, 0x7F], "k = 7; 0…6"),
        ([1, 0x80, 0, 0, 0x7F, 0], "1 bytes too many"),
        ([1, 0x80, 0, 0, 0xFF], "ends too early"),
        ([1, 0x80, 6, *[0] * 7, 0xDF], "beyond the last place"),
    ],
)
def test_streams_that_no_encoder_writes_are_refused(data: list[int], found: str) -> None:
    with pytest.raises(MalformedError, match=found):
        coded.decode(np.array(data, np.uint8), np.array([len(data)]), 1, [64], "a tile")


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 3, 0)])
def test_no_tiles_and_empty_tiles(shape: tuple[int, int, int]) -> None:
    count = np.zeros((shape[0], shape[1] * shape[2]), np.uint8)
    data, ends = coded.encode(np.zeros((count.size, 0), np.uint8), count, [2, 4])
    assert data.size == 0
    assert ends.tolist() == [[0, 0]] * shape[0]
    assert coded.decode(data, ends[:, -1], count.shape[1], [2, 4], "tiles").count.shape == count.shape


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
