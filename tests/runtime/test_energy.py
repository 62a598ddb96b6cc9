from __future__ import annotations

import numpy as np
import pytest

from mmac.isa.errors import UsageError
from mmac.isa.plan import PAPER_LEVELS
from mmac.runtime.energy import Part, energy_mj, prices_pj
from mmac.runtime.targets import load_target
from mmac.runtime.timing.cost import Action

TARGET = load_target("vc707")


def mean_ratio(cell: str, constants: str) -> float:
    """Energy of a group dot product on `cell` over that on an mMAC, mean over the paper's budgets."""
    price = {
        c: sum(prices.get(Action.CELL_CYCLE, 0) for prices in prices_pj(TARGET, c, constants).values())
        for c in TARGET.cells
    }
    cycles = TARGET.cell(cell).group_cycles or 0
    return float(np.mean([cycles * price[cell] / (level.gamma * price["mmac"]) for level in PAPER_LEVELS]))


@pytest.mark.parametrize(
    ("cell", "constants", "ratio"),
    [
        ("bmac", "paper", 3.1),  # ASPLOS'21 §7.1
        ("pmac", "paper", 5.6),
        ("bmac_serial", "paper", 3.1),
        ("bmac", "first_principles", 2.72),  # synthesis and switching, shared bus register
        ("pmac", "first_principles", 1.33),
    ],
)
def test_ratios_between_cells(cell: str, constants: str, ratio: float) -> None:
    assert mean_ratio(cell, constants) == pytest.approx(ratio, rel=0.01)


def test_every_action_has_a_price_and_a_part() -> None:
    prices = prices_pj(TARGET, "mmac")
    assert {action for priced in prices.values() for action in priced} == set(Action) - {Action.WEIGHTS_FROM_DRAM}
    assert {*prices, Part.CONTROL, Part.DRAM_BACKGROUND, Part.STATIC} == set(Part)


def test_parts() -> None:
    actions = {Action.CELL_CYCLE: np.array([1000, 2000]), Action.DRAM_READ: np.array([64, 0])}
    actions[Action.DRAM_WRITE] = np.array([0, 128])
    cycles = np.array([170_000, 340_000])
    parts = energy_mj(actions, cycles, TARGET, "mmac")
    assert parts[Part.TERM_PAIRS].tolist() == pytest.approx([2.98e-6, 5.96e-6])
    assert parts[Part.MOVEMENT].tolist() == pytest.approx([3.66e-6, 7.32e-6])
    assert parts[Part.DRAM].tolist() == pytest.approx([64 * 490e-9, 128 * 490e-9])
    assert parts[Part.DRAM_BACKGROUND].tolist() == pytest.approx([0.9, 1.8])  # 0.9 W for 1 and 2 ms
    assert parts[Part.CONTROL].tolist() == pytest.approx([0.3774, 0.7548])  # 37,000 LUT and FF × 60 fJ × 170 MHz
    assert parts[Part.STATIC].tolist() == pytest.approx([0.25, 0.5])  # 0.25 W for 1 and 2 ms
    assert parts[Part.VECTOR].tolist() == [0, 0]


def test_unknown_constants() -> None:
    with pytest.raises(UsageError):
        energy_mj({}, np.array([1]), TARGET, "mmac", "optimistic")
