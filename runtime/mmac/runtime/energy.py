"""Energy: action counts times energy per action, plus what latency costs, split by where it goes."""

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

    TERM_PAIRS = "term_pairs"  # datapaths of cells that work on real groups; idle cells are clock-gated
    MOVEMENT = "movement"  # registers and multiplexers of those cells
    MULTIPLIERS = "multipliers"
    WEIGHT_TERMS = "weight_terms"  # decoding weights into term stores and registers
    DATA_TERMS = "data_terms"  # finding the terms of data values
    SCRATCHPADS = "scratchpads"
    BUFFER = "buffer"
    DRAM = "dram"  # by bytes moved
    REQUANTIZATION = "requantization"
    VECTOR = "vector"
    CONTROL = "control"  # sequencer, DMA and memory controller, in every cycle
    DRAM_BACKGROUND = "dram_background"  # what the memory needs all the time: refresh, termination
    STATIC = "static"


Prices = Mapping[Part, Mapping[Action, float]]
"""pJ per action, by the part that it is booked on; one action may cost in several parts."""


def prices_pj(target: Target, mac: str, constants: str = CONSTANT_SETS[0]) -> Prices:
    """Price of each action, for an array of `mac` cells.

    Raises:
        UsageError: the target has no such cell or set of constants.
    """
    table, cell = target.energies(constants), target.cell(mac).name
    return {
        Part.TERM_PAIRS: {Action.CELL_CYCLE: table.arithmetic_pj_per_cycle[cell]},
        Part.MOVEMENT: {Action.CELL_CYCLE: table.movement_pj_per_cycle[cell]},
        Part.MULTIPLIERS: {Action.MULTIPLY: table.multiply_pj},
        Part.WEIGHT_TERMS: {Action.TERM_STORE: table.term_store_pj, Action.DECODE: table.decode_pj},
        Part.DATA_TERMS: {Action.DATA_TERM: table.data_term_pj},
        Part.SCRATCHPADS: {Action.SCRATCHPAD: table.scratchpad_pj_per_byte},
        Part.BUFFER: dict.fromkeys((Action.BUFFER_READ, Action.BUFFER_WRITE), table.buffer_pj_per_byte),
        Part.DRAM: dict.fromkeys((Action.DRAM_READ, Action.DRAM_WRITE), table.dram_pj_per_byte),
        Part.REQUANTIZATION: {Action.REQUANT: table.requant_pj},
        Part.VECTOR: {Action.VECTOR: table.vector_pj},
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
    for part, prices in prices_pj(target, mac, constants).items():
        for action, price in prices.items():
            if action in actions:
                parts[part] += actions[action] * price * MJ_PER_PJ
    table, time_ms = target.energies(constants), latency_ms(cycles, target)
    parts[Part.CONTROL] += cycles * table.control_pj_per_cycle * MJ_PER_PJ
    # W × ms = mJ
    parts[Part.DRAM_BACKGROUND] += table.dram_background_w * time_ms
    parts[Part.STATIC] += table.static_w * time_ms
    return parts
