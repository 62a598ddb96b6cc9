"""One cell of each kind, stepped by hand: the mechanism gives the product that integers give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmac.isa import term_table
from mmac.isa.terms import truncate_values
from mmac.runtime.engines.cell.cells import KINDS, Array, Cells, Mmac
from mmac.runtime.targets import load_target
from tests.runtime import definition

NOW = np.zeros((1, 1), np.int64)
"""Step or bank 0 of one cell."""

weight_groups = st.lists(
    st.sampled_from([-128, -127, -1, 0, 1, 85, 127]) | st.integers(-128, 127), min_size=16, max_size=16
)
data_groups = st.lists(st.sampled_from([-255, 0, 251, 255]) | st.integers(-255, 255), min_size=16, max_size=16)


def cell(mac: str, weights: list[int], data: list[int], alpha: int, beta: int) -> tuple[Cells, Array, int]:
    """A cell that holds these weights, truncated, the planes of these data, and their product."""
    tile = term_table.rank(np.array(weights, np.int16).reshape(1, 1, 16), alpha)
    values = truncate_values(np.array(data, np.int16), beta)
    one = KINDS[mac]((1, 1, 1), int(tile.count.max()), beta)
    one.store[1, 0, 0, 0, : one.words] = one.weight_words(tile)
    return one, one.encode(values), int(values.astype(int) @ tile.values()[0, 0].astype(int))


def beat(one: Cells, planes: Array) -> list[int]:
    """The sum after each cycle of a beat in which these planes enter."""
    seen = []
    for step in range(one.cycles):
        one.data[0, 0, 0] = planes[step // one.plane_cycles]
        one.work(NOW + step, NOW + 1)
        seen.append(one.sum.item())
    return seen


@pytest.mark.parametrize("mac", KINDS)
def test_a_group_dot_product(mac: str) -> None:
    @given(weight_groups, data_groups, st.sampled_from([(1, 1), (8, 2), (14, 3), (64, 5)]))
    @settings(max_examples=15 if mac == "bmac_serial" else 50)
    def test(weights: list[int], data: list[int], budgets: tuple[int, int]) -> None:
        one, planes, product = cell(mac, weights, data, *budgets)
        for _ in range(2):  # a beat begins anew
            beat(one, planes)
            assert one.sum.item() == product * (one.cycles > 0)
        for step in (-1, one.cycles, one.cycles + 7):  # between beats, and where a beat is longer than it needs
            one.work(NOW + step, NOW + 1)
            assert one.sum.item() == product

    test()


def test_term_pairs_come_in_the_order_of_ranks() -> None:
    """96 = 2^7 - 2^5 at index 3 meets 7 = 2^3 - 2^0: all weight terms meet each plane of data terms in turn."""
    weights, data = [0] * 16, [0] * 16
    weights[3], data[3] = 96, 7
    one, planes, _ = cell("mmac", weights, data, 8, 2)
    assert (planes.shape, one.data.shape[3:]) == ((2, 16), (16,))
    assert np.diff([0, *beat(one, planes)]).tolist() == [2**10, -(2**8), -(2**7), 2**5]


def test_a_serial_cell_passes_one_bit_of_the_sum_per_cycle() -> None:
    """-1 · 255: after k cycles of a product its k lowest bits are on top of the register."""
    one, planes, product = cell("bmac_serial", [-1] + [0] * 15, [255] + [0] * 15, 64, 5)
    for step, total in enumerate(beat(one, planes)[:32]):
        done = total % (1 << 32) >> (31 - step)
        assert done == product % (1 << (step + 1))


def test_data_terms_are_the_signed_digits() -> None:
    values = np.arange(-256, 257, dtype=np.int16)
    encoded = Mmac((1, 1, 1), 1, 5).encode(values).T
    for value, codes in zip(values.tolist(), encoded.tolist(), strict=True):
        found = [(abs(code) - 1, int(np.sign(code))) for code in codes if code]
        assert found == definition.naf(value)
        assert codes[len(found) :] == [0] * (5 - len(found))


def test_kinds_are_those_of_the_target() -> None:
    cells = load_target("vc707").cells
    assert {name: kind.group_cycles for name, kind in KINDS.items()} == {
        name: cell.group_cycles for name, cell in cells.items()
    }
