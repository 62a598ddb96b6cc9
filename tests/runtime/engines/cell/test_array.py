"""The stepped array: sums by numpy, cycles by the formulas."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings

from mmac.isa import table
from mmac.runtime.engines.cell import array
from mmac.runtime.engines.cell.array import SystolicArray
from mmac.runtime.engines.cell.cells import KINDS, Pmac
from mmac.runtime.engines.cell.control import Timing
from mmac.runtime.engines.cell.hardware import Hardware
from mmac.runtime.engines.cell.layout import Layout, Work
from mmac.runtime.timing.cost import ACC_BYTES, Action
from tests.runtime.engines.cell.machines import (
    Case,
    array_cycles,
    cases,
    sums,
    target,
)

EXAMPLES = {"mmac": (60, 500), "pmac": (40, 400), "bmac": (40, 800), "bmac_serial": (40, 1100)}
"""Examples, and the cycles of each."""


def check(case: Case, mac: str) -> int:
    """Hold an `mmac` to the sums and cycles that it should have; returns the cycles."""
    operands = case.operands()
    rng = np.random.default_rng(case.seed)
    acc = rng.integers(-1000, 1000, (operands.tile.shape[1], case.work.pixels)).astype(np.int32)
    expected = sums(case.work, operands, acc)
    cycles, counts = Hardware(case.target, mac).multiply(table.Unit.ARRAY, case.work, operands, acc)
    np.testing.assert_array_equal(acc, expected)
    assert cycles == array_cycles(case, mac, operands.alpha)
    same_cycles, actions = case.formula(table.Unit.ARRAY, mac, operands.alpha)
    assert cycles == same_cycles
    assert counts.words == actions[Action.TERM_STORE]
    assert 16 * counts.planes * (mac == "mmac") == actions[Action.DATA_TERM]
    assert counts.products == 0
    # blocks that split the pixels share the words that are read, and those that split the channels the data
    split_m, split_n, _ = case.work.splits
    copies = len(range(0, case.work.pixels, ceil(case.work.pixels / split_m)))
    planes = case.beta if mac == "mmac" else 1
    data = 16 * counts.planes / planes / (split_n // min(split_n, case.work.conv_groups))
    assert counts.words / copies + data + 2 * ACC_BYTES * counts.sums == actions[Action.SCRATCHPAD]
    return cycles


@pytest.mark.parametrize("mac", KINDS)
def test_sums_and_cycles(mac: str) -> None:
    examples, most_cycles = EXAMPLES[mac]

    @given(cases(mac, most_cycles))
    @settings(max_examples=examples)
    def test(case: Case) -> None:
        check(case, mac)

    test()


# one pixel or a few on a few cells: what each term of the formula is for
POINT = Work(pixels=1, channels=(0, 1), per_group=1, depth=16)
LAYERS = {
    "one cell, one beat": (target(), POINT, 5 + 8 + 16),
    "a pixel more takes a beat more": (target(), Work(2, (0, 1), 1, 16), 5 + 8 + 2 * 16),
    "hops to the last cell": (target(1, 3, 4), POINT, 5 + 3 * 8 + 16 + 2 + 3),
    "a beat drains every column": (target(1, 1, 40, encoders=400), Work(3, (0, 1), 1, 16), 5 + 8 + 3 * 40 + 39),
    "weights of the next pass move during a long one": (target(), Work(3, (0, 2), 2, 16), 5 + 8 + 2 * 3 * 16),
    "a short pass waits for them": (target(1, 4, 1, encoders=400), Work(1, (0, 2), 2, 16), 5 + 32 + 32 + 16 + 3),
    "parts on two blocks add up in a tree": (target(2), Work(1, (0, 1), 1, 32, (1, 1, 2)), 5 + 8 + 16 + 1),
    "of five parts, three levels": (target(5), Work(1, (0, 1), 1, 80, (1, 1, 5)), 5 + 8 + 16 + 3),
    "they take turns on one block": (target(1), Work(1, (0, 1), 1, 32, (1, 1, 2)), 5 + 8 + 16 + 16 + 1),
    "and add up over rounds": (target(2), Work(1, (0, 1), 1, 48, (1, 1, 3)), 5 + 8 + 16 + 16 + 2),
    "depthwise channels on the diagonal": (target(1, 3, 3), Work(2, (0, 3), 1, 9), 5 + 24 + 2 * 16 + 2 + 2),
    "as many as fit both ways": (target(1, 4, 2), Work(1, (0, 4), 1, 9), 5 + 32 + 32 + 16 + 3 + 1),
    "the first beat waits for its data terms": (target(encoders=2), POINT, 5 + 16 + 16),
    "weights that are integers are ranked": (target(rankers=1), replace(POINT, raw=True), 5 + 16 + 16),
    "as many at a time as there are rankers": (target(rankers=16), replace(POINT, raw=True), 5 + 8 + 16),
    "a pass waits for them": (target(rankers=1), Work(1, (0, 2), 2, 16, raw=True), 5 + 16 + 16 + 16),
    "parts of pixels share them": (target(2, rankers=1), Work(2, (0, 1), 1, 16, (2, 1, 1), raw=True), 5 + 16 + 16),
    "others do not": (target(2, rankers=1), Work(1, (0, 2), 2, 16, (1, 2, 1), raw=True), 5 + 32 + 16),
    "and so does every other": (target(encoders=1), Work(3, (0, 1), 1, 16), 5 + 32 + 3 * 32),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_cycles_of_small_layers(layer: str) -> None:
    """α = 8, β = 2, five cycles of pipeline."""
    machine, work, cycles = LAYERS[layer]
    assert check(Case(machine, work, 8, 2, seed=1), "mmac") == cycles


def test_groups_without_terms_take_the_time_of_the_encoders() -> None:
    assert check(Case(target(encoders=8), POINT, alpha=0, beta=2, seed=0), "mmac") == 5 + 4 + 4


@pytest.mark.parametrize("work", [Work(0, (0, 3), 3, 16), Work(2, (3, 3), 3, 16), Work(2, (0, 0), 3, 16)])
def test_nothing_to_multiply_takes_a_cycle(work: Work) -> None:
    acc = np.full((3, work.pixels), 7, np.int32)
    operands = Case(target(), POINT, 1, 1, seed=0).operands()
    assert Hardware(target(), "mmac").multiply(table.Unit.ARRAY, work, operands, acc) == (1, array.Counts())
    assert (acc == 7).all()


def test_a_block_has_one_adder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A beat shorter than the number of columns, which `timing_of` does not give, cannot be drained."""
    timing = Timing(passes=1, beats=2, beat_cycles=16, load_cycles=16, encode_cycles=0)
    monkeypatch.setattr(array, "timing_of", lambda *_: timing)
    case = Case(target(columns=17), Work(2, (0, 17), 17, 16), 8, 2, seed=0)
    machine = SystolicArray(Layout(case.work, case.target.array), Pmac, case.operands(), np.zeros((17, 2), np.int32))
    with pytest.raises(RuntimeError, match="2 columns drain into the one adder of a block"):
        machine.run()
