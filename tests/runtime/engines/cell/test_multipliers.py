"""The stepped multipliers: sums by numpy, cycles by the formulas."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.isa import table
from mmac.isa.errors import ResourceError
from mmac.runtime.engines.cell.hardware import Hardware
from mmac.runtime.engines.cell.layout import Work
from mmac.runtime.targets import Multipliers
from mmac.runtime.timing.cost import ACC_BYTES, Action
from tests.runtime.engines.cell.machines import Case, sums, target, works


def check(unit: Multipliers, work: Work, pipeline_cycles: int, seed: int = 0, alpha: int = 8, beta: int = 2) -> int:
    machine = target(pipeline_cycles=pipeline_cycles, multipliers=unit)
    case = Case(machine, work, alpha, beta, seed)
    operands = case.operands()
    acc = np.random.default_rng(seed).integers(-1000, 1000, (operands.tile.shape[1], work.pixels)).astype(np.int32)
    expected = sums(work, operands, acc)
    cycles, counts = Hardware(machine, "mmac").multiply(table.Unit.MULTIPLIERS, work, operands, acc)
    np.testing.assert_array_equal(acc, expected)
    same_cycles, actions = case.formula(table.Unit.MULTIPLIERS, "mmac", operands.alpha)
    assert cycles == same_cycles
    assert counts.words == actions[Action.TERM_STORE]
    assert counts.products == actions[Action.MULTIPLY]
    values = work.depth * work.pixels * ceil(work.channels[1] / work.per_group) * ceil(work.width / unit.units)
    assert values + 2 * ACC_BYTES * counts.sums == actions[Action.SCRATCHPAD]
    return cycles


def words(unit: Multipliers, work: Work) -> int:
    """Words that the busiest unit needs, output by output."""
    channels = work.channels[1] - work.channels[0]
    outputs = range(work.pixels * channels)
    different = [{output % channels for output in outputs[first :: unit.units]} for first in range(unit.units)]
    return max(map(len, different)) * ceil(work.depth / unit.taps)


@given(
    works(), st.integers(1, 40), st.integers(1, 40), st.integers(3, 9), st.integers(0, 64), st.integers(1, 5), st.data()
)
def test_sums_and_cycles(
    work: Work, units: int, taps: int, pipeline: int, alpha: int, beta: int, data: st.DataObject
) -> None:
    unit = Multipliers(units, taps, 1)
    unit = replace(unit, words=words(unit, work) + data.draw(st.integers(0, 1)))
    cycles = check(unit, work, pipeline, data.draw(st.integers(0, 2**32 - 1)), alpha, beta)
    channels = work.channels[1] - work.channels[0]
    outputs = ceil(work.pixels * channels / units) * ceil(work.depth / taps)
    assert cycles == pipeline + ceil(channels * work.depth / units) + outputs


@pytest.mark.parametrize(
    ("unit", "work", "cycles"),
    [
        (Multipliers(1, 1, 1), Work(1, (0, 1), 1, 1), 5 + 1 + 1),
        (Multipliers(1, 9, 1), Work(3, (0, 1), 1, 9), 5 + 9 + 3),
        (Multipliers(4, 9, 3), Work(3, (0, 3), 1, 9), 5 + 7 + 3),
        (Multipliers(4, 9, 6), Work(3, (0, 3), 3, 10), 5 + 8 + 3 * 2),
        (Multipliers(2, 9, 1), Work(3, (2, 4), 3, 9), 5 + 9 + 3),  # the last of one and the first of another
    ],
)
def test_cycles_of_small_layers(unit: Multipliers, work: Work, cycles: int) -> None:
    assert check(unit, work, 5) == cycles


def test_budgets_do_not_matter() -> None:
    unit, work = Multipliers(2, 3, 7), Work(2, (0, 2), 2, 20)
    assert len({check(unit, work, 5, alpha=alpha, beta=beta) for alpha, beta in ((1, 1), (64, 5))}) == 1


def test_a_target_without_multipliers() -> None:
    case = Case(target(), Work(1, (0, 1), 1, 1), 1, 1, seed=0)
    with pytest.raises(ResourceError, match="it has no multipliers"):
        Hardware(replace(case.target, multipliers=None), "mmac").multiply(
            table.Unit.MULTIPLIERS, case.work, case.operands(), np.zeros((1, 1), np.int32)
        )


@given(works(), st.integers(1, 12), st.integers(1, 12))
def test_more_weights_than_there_is_room_for(work: Work, units: int, taps: int) -> None:
    unit = Multipliers(units, taps, 1)
    needed = words(unit, work)
    unit = replace(unit, words=max(1, needed - 1))
    if needed == 1:
        check(unit, work, 5)
        return
    case = Case(target(multipliers=unit), work, 1, 1, seed=0)
    said = f"a unit of the multipliers needs {needed} words of weights; .* {unit.words}; compile it for this target"
    acc = np.zeros((case.operands().tile.shape[1], work.pixels), np.int32)
    with pytest.raises(ResourceError, match=said):
        Hardware(case.target, "mmac").multiply(table.Unit.MULTIPLIERS, work, case.operands(), acc)
    with pytest.raises(ResourceError, match=said):
        case.formula(table.Unit.MULTIPLIERS, "mmac", 1)
