"""What a program costs on a target: latency, energy, traffic and utilization per level and per layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from mmac.isa.errors import UsageError
from mmac.isa.program import Program
from mmac.runtime.energy import Float64, Part, energy_mj, latency_ms
from mmac.runtime.targets import CONSTANT_SETS, Target, target_for
from mmac.runtime.timing.analyse import Analysis, Int64, Share, analyse
from mmac.runtime.timing.cost import Action

BETWEEN = "(between layers)"
"""How code that belongs to no ONNX node is called where people read."""


@dataclass(frozen=True)
class LevelReport:
    """One inference at one level.

    Attributes:
        level: name, such as ``8x2``; `alpha`, `beta` and `gamma` are its budgets.
        cycles: from the first instruction to the last; host segments take no cycles.
        latency_ms: `cycles` at the target's clock.
        energy_mj: all energy, static included; the host's is not. It is exactly the sum of the layers' in their order.
        dram_bytes: bytes that cross the DRAM bus, reads and writes, in whole bursts.
        buffer_bytes: bytes read from and written to the on-chip global buffer.
        weight_bytes: bytes of the term streams that the level needs, every tile once; `dram_bytes` has them as often
            as they are read.
        weights_from_dram_bytes: those of `dram_bytes` that are term streams and their directories, in whole bursts;
            0 if all of them stay in the buffer.
        utilization: share of the time for which the cells (or the multipliers, in layers that run there) would be busy
            if all of them were always busy together: the sum of `array_utilization`, cell cycles that work on real
            groups (group dot products × γ′) over cells × `cycles`, and `multiplier_utilization`, products over
            multipliers × `cycles`. The two units never work at the same time.
        host_ms: time of the host segments in a run on this computer, 0 if none was made.
        sqnr_db: signal-to-noise ratio on calibration samples, out of the program (`mmac.isa.program.Prediction`); None
            if it has none.
    """

    level: str
    alpha: int
    beta: int
    gamma: int
    cycles: int
    latency_ms: float
    energy_mj: float
    dram_bytes: int
    buffer_bytes: int
    weight_bytes: int
    weights_from_dram_bytes: int
    utilization: float
    array_utilization: float
    multiplier_utilization: float
    host_ms: float = 0.0
    sqnr_db: float | None = None


@dataclass(frozen=True)
class LayerReport:
    """What one ONNX node contributes; lists have one entry per level, numbers with the meanings of `LevelReport`.

    `cycles` is by how much the node moved the end of the program, so that the layers' cycles add up to the program's.
    `unit` is what does its work: ``array``, ``multipliers``, ``vector``, ``move`` or ``host``.
    """

    name: str
    op: str
    unit: list[str]
    macs: int
    cycles: list[int]
    latency_ms: list[float]
    energy_mj: list[float]
    dram_bytes: list[int]
    buffer_bytes: list[int]
    weight_bytes: list[int]
    weights_from_dram_bytes: list[int]
    utilization: list[float]
    array_utilization: list[float]
    multiplier_utilization: list[float]
    energy_split_mj: dict[str, list[float]]


@dataclass(frozen=True)
class Report:
    """Costs of one program on one target with one kind of cell.

    `energy_split_mj` gives, per part, one number per level.
    """

    model: str
    target: str
    mac: str
    constants: str
    levels: list[LevelReport]
    layers: list[LayerReport]
    energy_split_mj: dict[str, list[float]]

    def to_json(self, layers: bool = False) -> dict[str, Any]:
        """The report as JSON types; layers on request."""
        document = dataclasses.asdict(self)
        if not layers:
            del document["layers"]
        return document

    def with_host_ms(self, host_ms: Sequence[float]) -> Report:
        """The same with measured times of the host segments, one per level."""
        pairs = zip(self.levels, host_ms, strict=True)
        return dataclasses.replace(self, levels=[dataclasses.replace(level, host_ms=ms) for level, ms in pairs])


def estimate(
    program: Program,
    target: Target | str | None = None,
    levels: Sequence[int] | None = None,
    mac: str | None = None,
    constants: str = CONSTANT_SETS[0],
) -> Report:
    """Predict latency, energy and traffic; they do not depend on data.

    Args:
        program: a verified program.
        target: the hardware, or its name or file; default: the target that the program was compiled for.
        levels: positions of the levels to report; default: all.
        mac: kind of cell; ``bmac`` and ``pmac`` are baselines that run the same program. Default: the target's own.
        constants: set of energy constants, ``first_principles`` or ``paper``.

    Raises:
        UsageError: a target, level, cell or set of constants that does not exist.
    """
    target = target_for(program, target)
    count = len(program.plan.levels)
    chosen = list(range(count)) if levels is None else list(levels)
    if bad := [level for level in chosen if not 0 <= level < count]:
        raise UsageError(f"level {bad[0]}", "not in this program", f"0…{count - 1}")
    return summarize(analyse(program, target, mac), constants, chosen)


def summarize(analysis: Analysis, constants: str = CONSTANT_SETS[0], levels: Sequence[int] | None = None) -> Report:
    """Turn a timing analysis into a report; cheap, so that one analysis can be priced by several sets of constants."""
    machine = analysis.machine
    plan = machine.program.plan.levels
    chosen = list(range(len(plan)) if levels is None else levels)
    layers, costs = [], []
    for share in analysis.shares:
        split = energy_mj(share.actions, share.cycles, machine.target, machine.mac, constants)
        own = _Costs.of(analysis, share.cycles, share.actions, share.weight_bytes(), split, _sum(split.values()))
        costs.append(own)
        name, op, macs = (share.entry.node, share.entry.op, share.entry.macs) if share.entry else ("", "", 0)
        lists = {k: [v[i] for i in chosen] for k, v in own.lists.items()}
        units = [unit_of(share, level) for level in chosen]
        layers.append(LayerReport(name, op, units, macs, **lists, energy_split_mj=own.split_of(chosen)))
    # added up, not priced again, so that the layers' energies agree with the program's exactly
    split = {part: _sum(own.split[part] for own in costs) for part in Part}
    energy = _sum(own.energy_mj for own in costs)
    whole = _Costs.of(analysis, analysis.cycles, analysis.actions, analysis.weight_bytes(), split, energy)
    stored = machine.program.predictions
    quality = [prediction.sqnr_db for prediction in stored] if stored else [None] * len(plan)
    rows = [
        LevelReport(
            str(plan[i]),
            plan[i].alpha,
            plan[i].beta,
            plan[i].gamma,
            **{k: v[i] for k, v in whole.lists.items()},
            sqnr_db=quality[i],
        )
        for i in chosen
    ]
    target = machine.target.name
    return Report(machine.program.name, target, machine.mac, constants, rows, layers, whole.split_of(chosen))


def _sum(terms: Iterable[Float64]) -> Float64:
    """Their sum, in their order."""
    return reduce(np.add, terms)


def unit_of(share: Share, level: int) -> str:
    """What does the work of a share at a level."""
    units = {Action.CELL_CYCLE: "array", Action.MULTIPLY: "multipliers", Action.VECTOR: "vector"}
    present = [action for action in units if action in share.actions]
    if not present:
        return "move" if share.actions else "host"
    return units[max(present, key=lambda action: bool(share.actions[action][level]))]


@dataclass(frozen=True)
class _Costs:
    """The numbers that the program and each layer have in common, as lists over all levels."""

    lists: dict[str, list[Any]]
    energy_mj: Float64
    split: dict[Part, Float64]

    @classmethod
    def of(
        cls,
        analysis: Analysis,
        cycles: Int64,
        actions: Mapping[Action, Int64],
        weight_bytes: Int64,
        split: dict[Part, Float64],
        energy: Float64,
    ) -> _Costs:
        """Count what happens; `split` and `energy` are its price."""
        target = analysis.machine.target
        zero = np.zeros_like(cycles)

        def count(*names: Action) -> Int64:
            return sum((actions.get(name, zero) for name in names), zero)

        multipliers = target.multipliers.units * target.multipliers.taps if target.multipliers else 1
        array = count(Action.CELL_CYCLE) / np.maximum(1, target.cell_count * cycles)
        products = count(Action.MULTIPLY) / np.maximum(1, multipliers * cycles)
        values = {
            "cycles": cycles,
            "latency_ms": latency_ms(cycles, target),
            "energy_mj": energy,
            "dram_bytes": count(Action.DRAM_READ, Action.DRAM_WRITE),
            "buffer_bytes": count(Action.BUFFER_READ, Action.BUFFER_WRITE),
            "weight_bytes": weight_bytes,
            "weights_from_dram_bytes": count(Action.WEIGHTS_FROM_DRAM),
            "utilization": array + products,
            "array_utilization": array,
            "multiplier_utilization": products,
        }
        return cls({name: value.tolist() for name, value in values.items()}, energy, split)

    def split_of(self, levels: Sequence[int]) -> dict[str, list[float]]:
        """Energy per part at some levels."""
        return {part.value: [float(mj[i]) for i in levels] for part, mj in self.split.items()}
