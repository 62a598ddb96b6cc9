"""What the engine refuses, and its estimate of what there is to step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from mmac.isa import structure, table
from mmac.isa.errors import ResourceError, UnsupportedError, UsageError
from mmac.isa.plan import PAPER_LEVELS
from mmac.runtime.engines.cell.hardware import LIMIT, OVERHEAD, Hardware, check_steps
from mmac.runtime.engines.cell.layout import Work
from mmac.runtime.targets import Cell, Multipliers, Resources
from tests.runtime.definition import Window
from tests.runtime.engines.cell.machines import Case, array_cycles, cases, load_cycles, target
from tests.runtime.engines.cell.programs import one_layer, with_fields


def test_unknown_cell() -> None:
    with pytest.raises(UsageError, match="cell 'tmac': not in target vc707"):
        Hardware(target(), "tmac")


def test_a_cell_without_registers() -> None:
    machine = target()
    other = replace(machine, cells={**machine.cells, "tmac": Cell("tmac", 20, Resources(1, 1, 0, 0))})
    with pytest.raises(
        UnsupportedError, match="cell 'tmac': not a cell that can be stepped; mmac, pmac, bmac, bmac_ser"
    ):
        Hardware(other, "tmac")


@pytest.mark.parametrize(
    ("mac", "cycles", "text"),
    [
        ("mmac", 16, 'cycles_per_group = 16; it takes "gamma"'),
        ("bmac", None, 'cycles_per_group = "gamma"; it takes 128'),
    ],
)
def test_a_cell_that_takes_another_time(mac: str, cycles: int | None, text: str) -> None:
    machine = target()
    other = replace(machine, cells={**machine.cells, mac: replace(machine.cells[mac], group_cycles=cycles)})
    with pytest.raises(UnsupportedError, match=text):
        Hardware(other, mac)


def test_a_pipeline_without_room() -> None:
    Hardware(target(pipeline_cycles=3), "mmac")
    with pytest.raises(UnsupportedError, match="pipeline_cycles: 2; 3 or more; a first register"):
        Hardware(target(pipeline_cycles=2), "mmac")


def test_multipliers_that_are_not_there() -> None:
    program = one_layer(np.ones((4, 1, 1, 4), int), (1, 2, 2), PAPER_LEVELS, window=Window())
    nodes = structure.parse(with_fields(program, multipliers=1).code)[:-1]
    Hardware(target(multipliers=Multipliers(1, 1, 16)), "mmac").check(nodes, program.plan.layers, 0)
    with pytest.raises(ResourceError, match=r"target vc707: it has no multipliers; .*; compile it for this target"):
        Hardware(target(), "mmac").check(nodes, program.plan.layers, 0)


def test_the_limit() -> None:
    check_steps(LIMIT)
    with pytest.raises(ResourceError, match=r"about 2.1e\+09 register steps; at most 2.1e\+09; use engine fast"):
        check_steps(LIMIT + 1)


@given(cases("mmac", 10**6))
def test_the_estimate_lacks_no_more_than_what_comes_before_and_after_the_passes(case: Case) -> None:
    array = case.target.array
    steps = Hardware(case.target, "mmac").steps(table.Unit.ARRAY, case.work, case.alpha, case.beta)
    cycles = steps / (case.target.cell_count + OVERHEAD)
    true = array_cycles(case, "mmac", case.alpha)
    load = load_cycles(case, "mmac", case.alpha)
    around = array.pipeline_cycles + load + 16 * array.rows * case.beta + array.rows + array.columns + 3
    assert -load <= true - cycles <= around


def test_nothing_is_no_step() -> None:
    assert Hardware(target(), "mmac").steps(table.Unit.ARRAY, Work(0, (0, 1), 1, 1), 8, 2) == 0
