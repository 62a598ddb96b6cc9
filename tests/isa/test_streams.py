from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmac.isa import streams, terms
from mmac.isa.errors import MalformedError
from mmac.isa.table import TermFormat
from mmac.isa.terms import IntArray
from tests.isa import naive

tile_arrays = hnp.arrays(
    np.int16,
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.just(16)),
    elements=st.one_of(st.integers(-128, 128), st.just(0)),
)
budgets = st.lists(st.integers(1, 64), min_size=1, max_size=4).map(sorted)


def plain_by_definition(tile: IntArray, alphas: list[int]) -> list[int]:
    groups = [naive.ranked(group)[: alphas[-1]] for group in tile.reshape(-1, 16).tolist()]
    stream = [len(group) for group in groups]
    for low, high in zip([0, *alphas], alphas, strict=False):
        for group in groups:
            stream += [exponent << 5 | (sign < 0) << 4 | index for exponent, index, sign in group[low:high]]
    return stream


@given(tile_arrays, budgets)
def test_plain_streams_are_as_defined(tiles: IntArray, alphas: list[int]) -> None:
    encoded = streams.encode(TermFormat.PLAIN, tiles, alphas)
    for tile, start, size in zip(tiles, encoded.offset, encoded.size, strict=True):
        assert encoded.data[start : start + size].tolist() == plain_by_definition(tile, alphas)
    assert encoded.size.sum() == len(encoded.data)


@given(tile_arrays, budgets, st.sampled_from(TermFormat))
def test_every_level_reads_its_prefix(tiles: IntArray, alphas: list[int], kind: TermFormat) -> None:
    if kind == TermFormat.RAW:
        tiles = np.minimum(tiles, 127)
    encoded = streams.encode(kind, tiles, alphas)
    for level, alpha in enumerate(alphas):
        expected = terms.truncate_groups(tiles, alpha)
        for t, start in enumerate(encoded.offset):
            prefix = encoded.data[start : start + encoded.level_bytes[t, level]]
            found = streams.decode(kind, prefix, tiles.shape[1:3], alphas[: level + 1])
            table = found.table
            np.testing.assert_array_equal(table.values(), expected[t])
            assert table.count.max() == encoded.level_alpha[t, level] == table.codes.shape[1]
            np.testing.assert_array_equal(found.kept.max(axis=2)[:, 0], encoded.level_alpha[t, : level + 1])
            np.testing.assert_array_equal(found.level_bytes[0], encoded.level_bytes[t, : level + 1])
    whole = streams.decode(kind, encoded.data, tiles.shape[:3], alphas, encoded.size)
    np.testing.assert_array_equal(whole.table.values(), terms.truncate_groups(tiles, alphas[-1]))


def test_one_group_byte_by_byte() -> None:
    tile = np.zeros((1, 1, 1, 16), np.int8)
    tile[..., :3] = 27, -64, 5  # 27 = 2^5 - 2^2 - 2^0, 5 = 2^2 + 2^0
    encoded = streams.encode(TermFormat.PLAIN, tile, [2, 5])
    assert encoded.data.tolist() == [5, 0b110_1_0001, 0b101_0_0000, 0b010_1_0000, 0b010_0_0010, 0b000_1_0000]
    assert encoded.level_bytes.tolist() == [[3, 6]]
    assert encoded.level_alpha.tolist() == [[2, 5]]


@pytest.mark.parametrize("kind", TermFormat)
@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (2, 3, 0)])
def test_no_tiles_and_empty_tiles(kind: TermFormat, shape: tuple[int, ...]) -> None:
    encoded = streams.encode(kind, np.zeros((*shape, 16), np.int8), [2, 4])
    assert encoded.data.size == 0
    assert encoded.level_alpha.tolist() == [[0, 0]] * shape[0]
    assert streams.decode(kind, encoded.data, shape, [2, 4], encoded.size).table.values().shape == (*shape, 16)


def test_a_raw_stream_cannot_hold_128() -> None:
    with pytest.raises(ValueError, match="raw"):
        streams.encode(TermFormat.RAW, np.full((1, 1, 1, 16), 128, np.int16), [3])


@pytest.mark.parametrize(
    ("tiles", "alphas"), [(np.zeros((1, 16), np.int8), [1]), (np.zeros((1, 1, 1, 16), np.int8), [2, 1])]
)
def test_encode_refuses_what_is_no_tile_or_plan(tiles: IntArray, alphas: list[int]) -> None:
    with pytest.raises(ValueError, match=r"tiles|budgets"):
        streams.encode(TermFormat.PLAIN, tiles, alphas)


@pytest.mark.parametrize(
    ("data", "shape", "found"),
    [
        ([], (1, 1), "0 bytes"),
        ([1], (1, 1), "1 bytes"),
        ([1, 0, 0], (1, 1), "3 bytes"),
        ([65], (1, 1), "65 terms"),
        ([2, 0x20, 0x40], (1, 1), "signed digits"),  # exponents rise
        ([2, 0x21, 0x20], (1, 1), "signed digits"),  # indices fall
        ([2, 0x20, 0x20], (1, 1), "signed digits"),  # twice the same
        ([2, 0x20, 0x30], (1, 1), "signed digits"),  # +2 and -2
        ([2, 0x20, 0x00], (1, 1), "signed digits"),  # 2 + 1: adjacent
        ([2, 0xE0, 0xA0], (1, 1), "signed digits"),  # 160
        ([0, 1, 0], (1, 1, 2), "bytes"),
    ],
)
def test_streams_that_no_encoder_writes_are_refused(data: Any, shape: tuple[int, ...], found: str) -> None:
    sizes = None if len(shape) == 2 else [2, 1]
    with pytest.raises(MalformedError, match=found):
        streams.decode(TermFormat.PLAIN, np.array(data, np.uint8), shape, [64], sizes)


def test_raw_streams_of_another_length_are_refused() -> None:
    with pytest.raises(MalformedError, match="tile 7: 15 bytes; 16 bytes"):
        streams.decode(TermFormat.RAW, np.zeros(15, np.uint8), (1, 1), [8], where="tile 7")


@given(st.binary(max_size=80), st.integers(0, 2), st.integers(0, 3), budgets)
def test_random_bytes_decode_to_weights_or_a_typed_error(
    data: Any, groups: int, channels: int, alphas: list[int]
) -> None:
    try:
        table = streams.decode(TermFormat.PLAIN, np.frombuffer(data, np.uint8), (groups, channels), alphas).table
    except MalformedError:
        return
    again = streams.encode(TermFormat.PLAIN, table.values()[None], alphas)
    assert again.level_bytes[0, -1] == len(data)
