"""Which level a governor chooses, against trying all of them; and what it chooses by."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.isa.errors import UsageError
from mmac.isa.plan import PAPER_LEVELS, Level
from mmac.isa.program import Prediction, Program
from mmac.runtime import Policy, estimate
from mmac.runtime.compiled_for import NOTE, digest
from mmac.runtime.governor import Governor
from mmac.runtime.targets import Target, load_target
from tests.runtime.timing.builders import LEVELS, Network

NUMBERS = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
LIMITS = st.none() | NUMBERS


def governor(*rows: tuple[float, float, float | None]) -> Governor:
    return Governor(PAPER_LEVELS[: len(rows)], tuple(Prediction(*row) for row in rows))


RISING = governor((1, 10, 4.5), (2, 20, 9.25), (4, 40, 12))


# ----------------------------------------------------------------------------------------------------------- the choice


@given(rows=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=6), limits=st.tuples(*[LIMITS] * 3))
def test_the_best_level_that_fits(rows: list[Any], limits: tuple[float | None, ...]) -> None:
    slow, dear, good = limits
    fitting = [
        number
        for number, (latency, energy, quality) in enumerate(rows)
        if not (slow is not None and latency > slow)
        and not (dear is not None and energy > dear)
        and not (good is not None and quality < good)
    ]
    chooses, policy = governor(*rows), Policy(*limits)
    if not fitting:
        with pytest.raises(UsageError, match="no level of the program keeps to it; the closest is "):
            chooses.choose(policy)
        return
    level = chooses.choose(policy)
    latency, energy, quality = rows[level]
    assert level in fitting
    for other in fitting:
        if good is not None and slow is None and dear is None:
            assert (energy, latency) <= rows[other][1::-1]
        else:
            assert (-quality, energy, latency) <= (-rows[other][2], *rows[other][1::-1])


@pytest.mark.parametrize(
    ("policy", "level"),
    [
        (Policy(), 2),
        (Policy(max_latency_ms=4), 2),
        (Policy(max_latency_ms=3.999), 1),
        (Policy(max_energy_mj=10), 0),
        (Policy(max_latency_ms=np.float32(2)), 1),  # type: ignore[arg-type]
        (Policy(max_latency_ms=4, max_energy_mj=39), 1),
        (Policy(min_sqnr_db=9.25), 1),
        (Policy(min_sqnr_db=-20), 0),
        (Policy(max_latency_ms=9, min_sqnr_db=9.25), 2),
    ],
)
def test_choices(policy: Policy, level: int) -> None:
    assert RISING.choose(policy) == level


def test_without_calibration_data_a_higher_level_is_better() -> None:
    unknown = governor((1, 10, None), (2, 20, None), (2, 20, None))
    assert unknown.choose(Policy(max_latency_ms=2)) == 2
    assert unknown.choose(Policy(max_energy_mj=19)) == 0
    with pytest.raises(UsageError) as info:
        unknown.choose(Policy(min_sqnr_db=3))
    assert str(info.value) == (
        "limit of at least 3 dB: the program does not know the SQNR of its levels; limits on latency and energy; "
        "compile it with --calibration"
    )


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (
            Policy(max_latency_ms=0.25),
            "limit of 0.25 ms: no level of the program keeps to it; the closest is 8x2 with 1 ms and 10 mJ, "
            "at 4.50 dB; allow that much, or compile with lower --levels",
        ),
        (Policy(max_energy_mj=0), "limit of 0 mJ: no level of the program keeps to it; the closest is 8x2 with"),
        (
            Policy(min_sqnr_db=12.5),
            "limit of at least 12.5 dB: no level of the program keeps to it; the closest is 12x2 with 4 ms and 40 mJ, "
            "at 12.00 dB; allow that much",
        ),
        # 10x2 misses both by a factor of 1.33 (1.25 dB), the others one of them by 2.67 or 4.25 dB
        (Policy(max_latency_ms=1.5, min_sqnr_db=10.5), "limit of 1.5 ms and at least 10.5 dB: no level of the program "
         "keeps to it; the closest is 10x2 with 2 ms"),
        (Policy(0.5, 1, 1), "limit of 0.5 ms and 1 mJ and at least 1 dB: no level"),
    ],
)  # fmt: skip
def test_an_impossible_limit(policy: Policy, said: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(said)}"):
        RISING.choose(policy)


def test_an_impossible_limit_without_calibration_data() -> None:
    with pytest.raises(UsageError, match="closest is 8x2 with 1 ms and 10 mJ; allow"):
        governor((1, 10, None), (2, 20, None)).choose(Policy(max_energy_mj=1))


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_latency_ms": -1}, "max_latency_ms: -1; a finite number, 0 or more"),
        ({"max_latency_ms": float("nan")}, "max_latency_ms: nan; a finite number, 0 or more"),
        ({"max_energy_mj": -0.5}, "max_energy_mj: -0.5; a finite number, 0 or more"),
        ({"max_energy_mj": float("inf")}, "max_energy_mj: inf; a finite number, 0 or more"),
        ({"min_sqnr_db": float("nan")}, "min_sqnr_db: nan; a finite number"),
        ({"min_sqnr_db": float("-inf")}, "min_sqnr_db: -inf; a finite number"),
        ({"max_latency_ms": "3"}, "max_latency_ms: '3'; a finite number, 0 or more"),
        ({"max_latency_ms": True}, "max_latency_ms: True; a finite number, 0 or more"),
    ],
)
def test_bad_policies(limits: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as info:
        Policy(**limits)
    assert str(info.value) == said


# --------------------------------------------------------------------------------------------------- what it chooses by


@pytest.fixture(scope="module")
def program() -> Program:
    """A program whose predictions are no estimates, so that one can tell which of the two was taken."""
    layers = Network((*LEVELS, Level(20, 3)))
    layers.conv((14, 14), (32, 64), 3, (7, 14, 32))
    built = layers.build()
    predictions = tuple(Prediction(7.5 + n, 1.5 + n, 3.0 * n) for n in range(len(built.plan.levels)))
    return dataclasses.replace(built, predictions=predictions, notes={NOTE: digest(load_target("vc707"))})


def estimated(program: Program, target: Target, mac: str | None = None) -> Governor:
    rows = estimate(program, target, mac=mac).levels
    predictions = zip(rows, program.predictions, strict=True)
    return Governor(
        program.plan.levels, tuple(Prediction(row.latency_ms, row.energy_mj, own.sqnr_db) for row, own in predictions)
    )


@pytest.mark.parametrize("target", [None, "vc707"])
def test_stored_predictions(program: Program, target: str | None) -> None:
    assert Governor.of_program(program, target) == Governor(program.plan.levels, program.predictions)


def test_a_target_of_ones_own_need_not_be_there(program: Program) -> None:
    mine = dataclasses.replace(program, target="mine")
    assert Governor.of_program(mine).predictions == program.predictions
    with pytest.raises(
        UsageError, match="target 'mine': the program test was compiled for it, and it is not a packaged"
    ):
        Governor.of_program(dataclasses.replace(mine, predictions=()))


def test_another_target_or_cell_is_estimated(program: Program) -> None:
    target = load_target("vc707")
    faster = dataclasses.replace(target, clock=dataclasses.replace(target.clock, mhz=200.0))
    assert Governor.of_program(program, faster) == estimated(program, faster)
    assert Governor.of_program(program, faster).predictions[1].sqnr_db == 3
    assert Governor.of_program(program, None, "bmac") == estimated(program, target, "bmac")
    assert Governor.of_program(program, target, "mmac") == estimated(program, target)


def test_a_program_that_no_compiler_has_made_is_estimated(program: Program) -> None:
    bare = dataclasses.replace(program, predictions=())
    rows = estimate(bare).levels
    found = Governor.of_program(bare)
    assert found.levels == program.plan.levels
    assert found.predictions == tuple(Prediction(row.latency_ms, row.energy_mj, None) for row in rows)
    assert not found.knows_sqnr
