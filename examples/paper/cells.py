"""§7.1: a term cell (mMAC) against bit-serial (bMAC) and bit-parallel (pMAC) cells, alone and in whole networks."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from examples.paper import quoted
from examples.paper.networks import FIRST_PRINCIPLES, PAPER, Costs
from examples.paper.sections import Cell, Plot, Section, Table, compared
from mmac.isa.plan import GROUP_SIZE, PAPER_LEVELS
from mmac.runtime.energy import Part
from mmac.runtime.report import Report
from mmac.runtime.targets import Target

BASELINES = {"bmac": quoted.BMAC_ENERGY, "bmac_serial": None, "pmac": quoted.PMAC_ENERGY}
"""Cells to compare with, and what the paper says about them."""

GAMMAS = [level.gamma for level in PAPER_LEVELS]


def section(target: Target, networks: Sequence[Costs]) -> Section:
    """Tables, plots and verdicts of §7.1."""
    ratios = {
        constants: {cell: _ratios(target, cell, constants) for cell in BASELINES}
        for constants in (FIRST_PRINCIPLES, PAPER)
    }
    cells = {"mmac": [_group_pj(target, "mmac", gamma) for gamma in GAMMAS]} | {
        cell: [_group_pj(target, cell, gamma) for gamma in GAMMAS] for cell in BASELINES
    }
    means = {constants: {cell: fmean(values) for cell, values in each.items()} for constants, each in ratios.items()}
    variants = {
        name: {cell: _relative(target, cell, energy) for cell in BASELINES}
        for name, energy in quoted.RELATIVE_ENERGY.items()
    }
    return Section(
        "§7.1 mMAC against bMAC and pMAC",
        (
            _means_table(target, means, variants),
            _groups_table(cells, ratios),
            _networks_table(target, networks),
        ),
        (
            Plot(
                "Energy of one group dot product, first principles", "γ", "pJ",
                {cell: (GAMMAS, pj) for cell, pj in cells.items()}, log=True,
            ),
            Plot(
                "Energy over an mMAC's, mean over the eight budgets", "cell", "ratio",
                _bars(means, variants), bars=True,
            ),
        ),
        _verdicts(target, means, variants),
    )  # fmt: skip


def _group_pj(target: Target, cell: str, gamma: int, constants: str = FIRST_PRINCIPLES) -> float:
    """Energy of one group dot product."""
    table = target.energies(constants)
    return (table.arithmetic_pj_per_cycle[cell] + table.movement_pj_per_cycle[cell]) * _cycles(target, cell, gamma)


def _ratios(target: Target, cell: str, constants: str) -> list[float]:
    """Energy of a cell over an mMAC's at each budget."""
    return [_group_pj(target, cell, gamma, constants) / _group_pj(target, "mmac", gamma, constants) for gamma in GAMMAS]


def _cycles(target: Target, cell: str, gamma: int) -> int:
    """Cycles of one group dot product."""
    return target.cell(cell).group_cycles or gamma


def _relative(target: Target, cell: str, mmac: float) -> float:
    """Mean ratio by relative energies, for an mMAC of `mmac` units per cycle."""
    energy = quoted.RELATIVE_BASELINES[cell] / mmac
    return fmean(energy * _cycles(target, cell, gamma) / gamma for gamma in GAMMAS)


def _slices(target: Target, cell: str) -> float:
    """LUTs and flip-flops of a cell; an mMAC's share of the bus register included."""
    own = target.cell(cell).resources
    bus = target.components.get("data_bus") if cell == "mmac" else None
    shared = (bus.each.lut + bus.each.ff) * target.counts[bus.per] / target.cell_count if bus else 0
    return own.lut + own.ff + shared


Means = dict[str, dict[str, float]]


def _means_table(target: Target, means: Means, variants: Means) -> Table:
    columns = {"cell": "", "quoted": ".1f", "paper constants": ".2f", "first principles": ".2f"}
    columns |= {name: ".2f" for name in variants if name != "shared bus register"}
    columns |= {"LUT": "d", "FF": "d", "area × time": ".2f"}
    rows: list[list[Cell]] = []
    for cell, claim in BASELINES.items():
        area = _slices(target, cell) / _slices(target, "mmac")
        resources = target.cell(cell).resources
        rows.append(
            [cell, claim.value if claim else None, means[PAPER][cell], means[FIRST_PRINCIPLES][cell]]
            + [each[cell] for name, each in variants.items() if name != "shared bus register"]
            + [resources.lut, resources.ff, fmean(area * _cycles(target, cell, gamma) / gamma for gamma in GAMMAS)]
        )
    dsp = fmean(quoted.DSP_PMAC_PJ * GROUP_SIZE / _group_pj(target, "mmac", gamma) for gamma in GAMMAS)
    rows.append(["pmac on a DSP48E1", None, None, dsp, *[None] * (len(variants) - 1), 8, 25, None])
    mmac = target.cell("mmac").resources
    rows.append(["mmac", 1.0, 1.0, 1.0, *[None] * (len(variants) - 1), mmac.lut, mmac.ff, 1.0])
    return Table(
        "Energy of a group dot product over an mMAC's, mean over the eight budgets",
        columns,
        rows,
        (
            f"quoted: {quoted.BMAC_ENERGY.source}",
            "paper constants are calibrated to the quoted ratios; they show what would have to be true",
            "first principles: synthesis and gate-level switching of cells of 16 values and equal interface, an mMAC "
            "with a data-bus register shared by two cells; 'own bus register' and 'bare datapath' (no term store, "
            "multiplexer or register) are the same measurement of other boundaries",
            "area × time: (LUT + FF) × cycles over an mMAC's with its share of the bus register; data encoders and "
            "weight decoders, which an array of mMACs needs besides, are left out",
        ),
    )


def _groups_table(cells: dict[str, list[float]], ratios: dict[str, dict[str, list[float]]]) -> Table:
    columns = {"level": "", "γ": "d"} | {f"{cell} pJ": ".0f" for cell in cells}
    columns |= {f"{cell}/mmac {constants}": ".2f" for constants in ratios for cell in ("bmac", "pmac")}
    rows: list[list[Cell]] = []
    for i, level in enumerate(PAPER_LEVELS):
        found = [each[cell][i] for each in ratios.values() for cell in ("bmac", "pmac")]
        rows.append([str(level), level.gamma, *(pj[i] for pj in cells.values()), *found])
    means = [fmean(each[cell]) for each in ratios.values() for cell in ("bmac", "pmac")]
    rows.append(["mean", None, *(fmean(pj) for pj in cells.values()), *means])
    return Table("One group dot product (16 values), pJ by first principles", columns, rows)


def _networks_table(target: Target, networks: Sequence[Costs]) -> Table:
    """Whole programs with other cells in the same array, each ratio the mean over the levels."""
    sets = (FIRST_PRINCIPLES, PAPER)
    rows: list[list[Cell]] = []
    for costs in networks:
        own = [costs.with_cell("mmac", constants) for constants in sets]
        for cell in BASELINES:
            other = [costs.with_cell(cell, constants) for constants in sets]
            ratios = [_mean(of(a), of(b)) for of in (_cells_mj, _mj) for a, b in zip(other, own, strict=True)]
            exceeded = ", ".join(f"{n:,} of {m:,} {kind}" for kind, (n, m) in target.overflow(cell).items())
            rows.append([costs.name, cell, *ratios, _mean(_ms(other[0]), _ms(own[0])), exceeded or "yes"])
    columns = {"network": "", "cell": "", "cells only": ".2f", "cells only (paper)": ".2f"}
    columns |= {"whole": ".2f", "whole (paper)": ".2f", "latency": ".2f", "fits the part": ""}
    return Table(
        f"Whole networks on {target.name}: energy over that of an array of mMACs, mean over the levels",
        columns,
        rows,
        (
            "the same program and model, only the cells differ; layers on the multipliers, memories, DRAM, control and "
            "static power are in 'whole' and dilute the ratio",
            "'(paper)': by the paper constants",
        ),
        left=2,
    )


def _ms(report: Report) -> list[float]:
    return [row.latency_ms for row in report.levels]


def _mj(report: Report) -> list[float]:
    return [row.energy_mj for row in report.levels]


def _cells_mj(report: Report) -> list[float]:
    split = report.energy_split_mj
    return [a + b for a, b in zip(split[Part.TERM_PAIRS], split[Part.MOVEMENT], strict=True)]


def _mean(numbers: Sequence[float], others: Sequence[float]) -> float | None:
    """Mean ratio; None if there is nothing to compare, as with a network that leaves the array idle."""
    return fmean(a / b for a, b in zip(numbers, others, strict=True)) if all(others) else None


def _bars(means: Means, variants: Means) -> dict[str, tuple[list[str], list[float]]]:
    names = [cell for cell, claim in BASELINES.items() if claim]
    claims = {cell: claim.value for cell, claim in BASELINES.items() if claim}
    columns = {"quoted": claims, "paper constants": means[PAPER], "first principles": means[FIRST_PRINCIPLES]}
    columns |= {name: each for name, each in variants.items() if name != "shared bus register"}
    return {title: (names, [each[name] for name in names]) for title, each in columns.items()}


def _verdicts(target: Target, means: Means, variants: Means) -> list[str]:
    bmac, pmac = quoted.BMAC_ENERGY, quoted.PMAC_ENERGY
    ours, bare = means[FIRST_PRINCIPLES], variants["bare datapath"]["pmac"]
    own = variants["own bus register"]["bmac"]
    words = ["within" if bmac.holds(ratio) else "outside" for ratio in (ours["bmac"], own)]
    verdicts = [
        f"bMAC: {compared(ours['bmac'], bmac.value, bmac.source)}: {words[0]} ±20 %, by first principles, where two "
        f"mMACs share a data-bus register. Where each has its own it is {own:.2f}×: {words[1]}. Area × time leaves out "
        f"data encoders and weight decoders, which only mMACs need."
    ]
    needed = pmac.value / fmean(GROUP_SIZE / gamma for gamma in GAMMAS)
    datapath, measured = quoted.RELATIVE_ENERGY["bare datapath"], quoted.RELATIVE_BASELINES["pmac"]
    if pmac.holds(ours["pmac"]):
        verdicts.append(f"pMAC: {compared(ours['pmac'], pmac.value, pmac.source)}: within ±20 %, by first principles.")
    else:
        verdicts.append(
            f"pMAC: {compared(ours['pmac'], pmac.value, pmac.source)}: it does not follow from first principles. A "
            f"pMAC cycle would have to cost as much as {needed:.2f} mMAC cycles; measured are "
            f"{measured / quoted.RELATIVE_ENERGY['shared bus register']:.2f}, and {measured / datapath:.2f} if only "
            f"the bare datapath of the mMAC counts, without term store, multiplexer and bus register, which gives "
            f"{bare:.2f}×. The rest would need a pMAC cycle of {datapath * needed:.0f} units instead of {measured} "
            f"({datapath * needed / measured:.1f} times as much: unpipelined, and every toggle priced alike)."
        )  # fmt: skip
    dsp = fmean(quoted.DSP_PMAC_PJ * GROUP_SIZE / _group_pj(target, "mmac", gamma) for gamma in GAMMAS)
    beats = "needs less energy than" if dsp < 1 else "needs more energy than"
    verdicts.append(
        f"Remark: all cells above are built of LUTs. A pMAC on a DSP48E1 ({quoted.DSP_PMAC_PJ:.1f} pJ a product) "
        f"{beats} an mMAC: {dsp:.2f}×, mean over the budgets."
    )
    return verdicts
