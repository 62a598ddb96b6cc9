"""Energy: action counts times energy per action, plus static power times latency, split by where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from mmac.runtime.targets import CONSTANT_SETS, Target
from mmac.runtime.timing.cost import Action

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

MJ_PER_PJ = 1e-9


class Part(StrEnum):
    """Where energy goes."""

    ARRAY = "array"  # term pairs: cell cycles that carry real groups; idle cells are clock-gated
    WEIGHTS = "weights"  # decoding weights into the cells' term stores
    SCRATCHPADS = "scratchpads"
    DRAM = "dram"
    REQUANTIZATION = "requantization"
    VECTOR = "vector"
    STATIC = "static"


PART_OF = {
    Action.CELL_CYCLE: Part.ARRAY,
    Action.TERM_STORE: Part.WEIGHTS,
    Action.SCRATCHPAD: Part.SCRATCHPADS,
    Action.DRAM_READ: Part.DRAM,
    Action.DRAM_WRITE: Part.DRAM,
    Action.REQUANT: Part.REQUANTIZATION,
    Action.VECTOR: Part.VECTOR,
}


def action_energies_pj(target: Target, mac: str, constants: str = CONSTANT_SETS[0]) -> dict[Action, float]:
    """Price of each action in pJ, for an array of `mac` cells.

    Raises:
        UsageError: the target has no such cell or set of constants.
    """
    table = target.energies(constants)
    return {
        Action.CELL_CYCLE: table.cell_pj_per_cycle[target.cell(mac).name],
        Action.TERM_STORE: table.term_store_pj,
        Action.SCRATCHPAD: table.scratchpad_pj_per_byte,
        Action.DRAM_READ: table.dram_pj_per_byte,
        Action.DRAM_WRITE: table.dram_pj_per_byte,
        Action.REQUANT: table.requant_pj,
        Action.VECTOR: table.vector_pj,
    }


def latency_ms(cycles: Int64, target: Target) -> Float64:
    """Cycles of the target's clock as milliseconds, [levels]."""
    return np.asarray(cycles / (target.clock.mhz * 1e3))


def energy_mj(
    actions: Mapping[Action, Int64], cycles: Int64, target: Target, mac: str, constants: str = CONSTANT_SETS[0]
) -> dict[Part, Float64]:
    """Energy in mJ per part, [levels].

    Args:
        actions: action counts, int64 [levels]; missing ones are 0.
        cycles: latency, int64 [levels].
        target: the hardware.
        mac: kind of cell.
        constants: ``first_principles``, or ``paper`` (calibrated to the paper's ratios between cells).
    """
    parts = {part: np.zeros(len(cycles)) for part in Part}
    for action, price in action_energies_pj(target, mac, constants).items():
        if action in actions:
            parts[PART_OF[action]] += actions[action] * price * MJ_PER_PJ
    # W × ms = mJ
    parts[Part.STATIC] += target.energies(constants).static_w * latency_ms(cycles, target)
    return parts
