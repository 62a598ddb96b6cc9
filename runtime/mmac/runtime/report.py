"""What a program costs on a target: latency, energy, traffic and utilization per level and per layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmac.isa.errors import UsageError
from mmac.isa.program import Program
from mmac.runtime.energy import Part, energy_mj, latency_ms
from mmac.runtime.targets import CONSTANT_SETS, Target, load_target
from mmac.runtime.timing.analyse import Analysis, Int64, analyse
from mmac.runtime.timing.cost import Action


@dataclass(frozen=True)
class LevelReport:
    """One inference at one level.

    Attributes:
        level: name, such as ``8x2``; `alpha`, `beta` and `gamma` are its budgets.
        cycles: from the first instruction to the last; host segments take no cycles.
        latency_ms: `cycles` at the target's clock.
        energy_mj: all energy, static included; the host's is not.
        dram_bytes: bytes that cross the DRAM bus, reads and writes, in whole bursts.
        weight_bytes: bytes of the term streams that the level needs, every tile once; `dram_bytes` has them as often
            as they are read.
        utilization: cell cycles that work on real groups (group dot products × γ′) over cells × `cycles`.
        host_ms: time of the host segments in a run on this computer, 0 if none was made.
    """

    level: str
    alpha: int
    beta: int
    gamma: int
    cycles: int
    latency_ms: float
    energy_mj: float
    dram_bytes: int
    weight_bytes: int
    utilization: float
    host_ms: float = 0.0


@dataclass(frozen=True)
class LayerReport:
    """What one ONNX node contributes; lists have one number per level, with the meanings of `LevelReport`.

    `cycles` is by how much the node moved the end of the program, so that the layers' cycles add up to the program's.
    """

    name: str
    op: str
    macs: int
    cycles: list[int]
    latency_ms: list[float]
    energy_mj: list[float]
    dram_bytes: list[int]
    weight_bytes: list[int]
    utilization: list[float]


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
    if not isinstance(target, Target):
        target = load_target(program.target if target is None else target)
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
    actions = analysis.actions
    whole = _Costs.of(analysis, constants, analysis.cycles, actions, analysis.weight_bytes())
    rows = [
        LevelReport(
            str(plan[i]), plan[i].alpha, plan[i].beta, plan[i].gamma, **{k: v[i] for k, v in whole.lists.items()}
        )
        for i in chosen
    ]
    layers = []
    for share in analysis.shares:
        costs = _Costs.of(analysis, constants, share.cycles, share.actions, share.weight_bytes())
        name, op, macs = (share.entry.node, share.entry.op, share.entry.macs) if share.entry else ("", "", 0)
        layers.append(LayerReport(name, op, macs, **{k: [v[i] for i in chosen] for k, v in costs.lists.items()}))
    split = {part.value: [float(mj[i]) for i in chosen] for part, mj in whole.split.items()}
    return Report(machine.program.name, machine.target.name, machine.mac, constants, rows, layers, split)


@dataclass(frozen=True)
class _Costs:
    """The numbers that the program and each layer have in common, as lists over all levels."""

    lists: dict[str, list[Any]]
    split: dict[Part, Any]

    @classmethod
    def of(
        cls, analysis: Analysis, constants: str, cycles: Int64, actions: Mapping[Action, Int64], weight_bytes: Int64
    ) -> _Costs:
        target = analysis.machine.target
        zero = np.zeros_like(cycles)
        split = energy_mj(actions, cycles, target, analysis.machine.mac, constants)
        dram = actions.get(Action.DRAM_READ, zero) + actions.get(Action.DRAM_WRITE, zero)
        busy = actions.get(Action.CELL_CYCLE, zero) / np.maximum(1, target.cell_count * cycles)
        values = {
            "cycles": cycles,
            "latency_ms": latency_ms(cycles, target),
            "energy_mj": sum(split.values(), np.zeros(len(cycles))),
            "dram_bytes": dram,
            "weight_bytes": weight_bytes,
            "utilization": busy,
        }
        return cls({name: array.tolist() for name, array in values.items()}, split)
