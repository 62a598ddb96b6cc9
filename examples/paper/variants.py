"""The sensitivity study of §7.2: one thing changed at a time, and some together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isqrt

from examples.paper import quoted
from examples.paper.networks import Costs, Network, Rule, all_terms, anything, depthwise, depthwise_or_all_terms
from mmac.runtime.energy import Part
from mmac.runtime.report import Report
from mmac.runtime.targets import Target

Change = Callable[[Target], Target]

AMPLE = 1 << 16
"""Bytes per cycle of a memory that never limits."""

ON_CHIP_BYTES = 1 << 28
"""A global buffer that holds the image of any network here."""


def constant(gamma: int) -> float:
    """The energy of a cell's cycle does not depend on γ: what the model says."""
    return 1.0


def measured_slope(gamma: int) -> float:
    """Energy of a cell's cycle at γ over the one that the model has: a line through the two measured ones.

    They are of the cell with its own bus register; the one with a shared register is taken to fall alike.
    """
    (low, first), (high, last) = quoted.RELATIVE_BY_GAMMA.items()
    return (first + (last - first) * (gamma - low) / (high - low)) / quoted.RELATIVE_ENERGY["own bus register"]


@dataclass(frozen=True)
class Variant:
    """A set of assumptions: a changed target, what may run on the multipliers, and layers that are not counted.

    `omitted` are positions of array layers, in program order; `cell_energy` is a factor on the energy of the cells by
    the level's γ.
    """

    name: str
    change: Change = lambda target: target
    rule: Rule = anything
    omitted: tuple[int, ...] = ()
    cell_energy: Callable[[int], float] = constant


def unlimited_dram(target: Target) -> Target:
    """DRAM that never limits the bandwidth."""
    dram = replace(target.dram, read_bytes_per_cycle=AMPLE, write_bytes_per_cycle=AMPLE)
    return replace(target, dram=dram)


def resident_weights(target: Target) -> Target:
    """A global buffer that holds the program image as well: weights are fetched from it."""
    return replace(target, buffer=replace(target.buffer, size_bytes=ON_CHIP_BYTES))


def no_multipliers(target: Target) -> Target:
    """The array does everything."""
    return replace(target, multipliers=None)


def half_multipliers(target: Target) -> Target:
    """Half as many multiplier units."""
    if target.multipliers is None:
        return target
    return replace(target, multipliers=replace(target.multipliers, units=max(1, target.multipliers.units // 2)))


def no_background(target: Target) -> Target:
    """DRAM without refresh and termination: only bytes cost."""
    constants = {name: replace(table, dram_background_w=0.0) for name, table in target.constants.items()}
    return replace(target, constants=constants)


def longer_products(target: Target) -> Target:
    """A fixed cost of 500 cycles more for every tile product, on the array and on the multipliers."""
    array = target.array
    return replace(target, array=replace(array, pipeline_cycles=array.pipeline_cycles + 500))


def blocks(rows: int, columns: int) -> Change:
    """Blocks of another shape, as many cells, and encoders in proportion to the rows."""

    def change(target: Target) -> Target:
        array = target.array
        count = max(1, target.cell_count // (rows * columns))
        encoders = max(1, array.encoders * rows // array.rows)
        return replace(target, array=replace(array, blocks=count, rows=rows, columns=columns, encoders=encoders))

    return change


def one_block(target: Target) -> Target:
    """All cells in one block, as square as their number allows: 64 × 64 on vc707, 16 × 32 on zedboard."""
    cells = target.cell_count
    rows = max(n for n in range(1, isqrt(cells) + 1) if cells % n == 0)
    return blocks(rows, cells // rows)(target)


def larger(target: Target) -> Target:
    """Half as many blocks again: 6,144 cells on vc707."""
    return replace(target, array=replace(target.array, blocks=target.array.blocks * 3 // 2))


def both(first: Change, second: Change) -> Change:
    """Two changes together."""
    return lambda target: second(first(target))


DEFAULT = Variant("default target")
ONE_ARRAY = Variant("no multipliers: the array does everything", no_multipliers)
FULL = Variant(
    "multipliers only for depthwise and full-term layers, weights on chip", resident_weights, depthwise_or_all_terms
)

SLOPE = Variant("a cell's energy falls with γ, as measured", cell_energy=measured_slope)
SLOPE_ONE_ARRAY = Variant("no multipliers, a cell's energy falls with γ", no_multipliers, cell_energy=measured_slope)

VARIANTS: tuple[Variant, ...] = (
    DEFAULT,
    # what runs where
    ONE_ARRAY,
    Variant("multipliers only for depthwise and full-term layers", rule=depthwise_or_all_terms),
    Variant("multipliers only for depthwise layers", rule=depthwise),
    Variant("multipliers only for full-term layers (first, last)", rule=all_terms),
    Variant("half as many multipliers", half_multipliers),
    # memory
    Variant("DRAM never limits", unlimited_dram),
    Variant("weights on chip", resident_weights),
    Variant("DRAM without background power", no_background),
    # what is counted
    Variant("last layer not counted", omitted=(-1,)),
    Variant("first and last layer not counted", omitted=(0, -1)),
    # the array
    Variant("half as many cells again", larger),
    Variant("blocks of 1 × 16", blocks(1, 16)),
    Variant("blocks of 4 × 16", blocks(4, 16)),
    Variant("blocks of 8 × 8", blocks(8, 8)),
    Variant("all cells in one square block, no multipliers", both(no_multipliers, one_block)),
    Variant("500 cycles more for every tile product", longer_products),
    # the cells
    SLOPE,
    SLOPE_ONE_ARRAY,
    # together
    FULL,
    Variant("multipliers only for depthwise and full-term layers, last not counted", lambda target: target,
            depthwise_or_all_terms, (-1,)),
    Variant("no multipliers, weights on chip", both(no_multipliers, resident_weights)),
    Variant("no multipliers, half as many cells again", both(no_multipliers, larger)),
    Variant("depthwise on multipliers, half as many cells again", larger, depthwise),
    Variant("no multipliers, first and last layer not counted", no_multipliers, omitted=(0, -1)),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a variant costs at each level: ms and mJ. `exceeded` are resources of which the part has too few."""

    variant: Variant
    latency_ms: Sequence[float]
    energy_mj: Sequence[float]
    exceeded: Sequence[str]

    @property
    def latency_ratio(self) -> float:
        """Highest level over lowest."""
        return self.latency_ms[-1] / self.latency_ms[0]

    @property
    def energy_ratio(self) -> float:
        """Highest level over lowest."""
        return self.energy_mj[-1] / self.energy_mj[0]


def outcome(network: Network, target: Target, variant: Variant) -> Outcome:
    """Map a network under a set of assumptions and cost it."""
    changed = variant.change(target)
    report = Costs(network.name, network.program(changed, variant.rule), changed).report
    latency, energy = without(report, variant.omitted)
    for i, level in enumerate(report.levels):
        cells = sum(report.energy_split_mj[part][i] for part in (Part.TERM_PAIRS, Part.MOVEMENT))
        energy[i] += (variant.cell_energy(level.gamma) - 1) * cells
    return Outcome(variant, latency, energy, sorted(changed.overflow()))


def without(report: Report, omitted: Sequence[int]) -> tuple[list[float], list[float]]:
    """Latency and energy per level without some array layers; each once, and only those that there are."""
    layers = [layer for layer in report.layers if layer.op == "arraylayer"]
    left_out = [layers[i] for i in {position % len(layers) for position in omitted if layers}]
    latency = [row.latency_ms - sum(layer.latency_ms[i] for layer in left_out) for i, row in enumerate(report.levels)]
    energy = [row.energy_mj - sum(layer.energy_mj[i] for layer in left_out) for i, row in enumerate(report.levels)]
    return latency, energy
