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
from mmac.runtime.timing import formulas
from tests.runtime.engines.cell.machines import Case, sums, target, works


def check(unit: Multipliers, work: Work, pipeline_cycles: int, seed: int = 0, alpha: int = 8, beta: int = 2) -> int:
    machine = target(pipeline_cycles=pipeline_cycles, multipliers=unit)
    case = Case(machine, work, alpha, beta, seed)
    operands = case.operands()
    acc = np.random.default_rng(seed).integers(-1000, 1000, (operands.tile.shape[1], work.pixels)).astype(np.int32)
    expected = sums(work, operands, acc)
    cycles = Hardware(machine, "mmac").multiply(table.Unit.MULTIPLIERS, work, operands, acc)
    np.testing.assert_array_equal(acc, expected)
    assert cycles == formulas.multiply_cycles(machine, unit, case.formula_work)
    return cycles


@given(
    works(), st.integers(1, 40), st.integers(1, 40), st.integers(3, 9), st.integers(0, 64), st.integers(1, 5), st.data()
)
def test_sums_and_cycles(
    work: Work, units: int, taps: int, pipeline: int, alpha: int, beta: int, data: st.DataObject
) -> None:
    cycles = check(Multipliers(units, taps), work, pipeline, data.draw(st.integers(0, 2**32 - 1)), alpha, beta)
    channels = work.width * work.conv_groups
    outputs = ceil(work.pixels * channels / units) * ceil(work.depth / taps)
    assert cycles == pipeline + ceil(channels * work.depth / units) + outputs


@pytest.mark.parametrize(
    ("unit", "work", "cycles"),
    [
        (Multipliers(1, 1), Work(1, (0, 1), 1, 1), 5 + 1 + 1),
        (Multipliers(1, 9), Work(3, (0, 1), 1, 9), 5 + 9 + 3),
        (Multipliers(4, 9), Work(3, (0, 3), 1, 9), 5 + 7 + 3),
        (Multipliers(4, 9), Work(3, (0, 3), 3, 10), 5 + 8 + 3 * 2),
    ],
)
def test_cycles_of_small_layers(unit: Multipliers, work: Work, cycles: int) -> None:
    assert check(unit, work, 5) == cycles


def test_budgets_do_not_matter() -> None:
    unit, work = Multipliers(2, 3), Work(2, (0, 2), 2, 20)
    assert len({check(unit, work, 5, alpha=alpha, beta=beta) for alpha, beta in ((1, 1), (64, 5))}) == 1


def test_a_target_without_multipliers() -> None:
    case = Case(target(), Work(1, (0, 1), 1, 1), 1, 1, seed=0)
    with pytest.raises(ResourceError, match="it has no multipliers"):
        Hardware(replace(case.target, multipliers=None), "mmac").multiply(
            table.Unit.MULTIPLIERS, case.work, case.operands(), np.zeros((1, 1), np.int32)
        )
