"""§7.2: what a level costs, and which assumptions give the paper's ratios between the highest and the lowest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from examples.paper import quoted
from examples.paper.networks import Costs, Network
from examples.paper.sections import Cell, Plot, Section, Table, compared
from examples.paper.variants import DEFAULT, ONE_ARRAY, SLOPE, SLOPE_ONE_ARRAY, VARIANTS, Outcome, outcome
from mmac.runtime.report import LayerReport, Report
from mmac.runtime.targets import Target

LATENCY, ENERGY = quoted.LEVEL_LATENCY, quoted.LEVEL_ENERGY

GOALS_MS = {"mobilenet_v2": (1.1, 3.0)}
"""Latency at the lowest and at the highest level that the default target is meant to stay below."""

SKIPPING = (
    "Remark: skipping empty data terms was considered and not built. Only 28–40 % of the γ slots carry a term pair "
    "[measured on Gaussian weights and half-normal data], so walking only the terms that are there would take fewer "
    "cycles; but latency would then depend on the data, and no level would have a time of its own."
)

STATED = ONE_ARRAY
"""The assumptions that are set beside the default: one change, to a system whose only compute unit is the array."""


def section(target: Target, networks: Sequence[Network], costs: Sequence[Costs]) -> Section:
    """Tables, plots and verdicts of §7.2; the first network is the one that the paper's ratios are about."""
    changed = STATED.change(target)
    stated = [Costs(network.name, network.program(changed, STATED.rule), changed) for network in networks]
    outcomes = [outcome(networks[0], target, variant) for variant in VARIANTS]
    return Section(
        "§7.2 levels",
        (
            _ratio_table(costs, stated),
            _level_table(costs),
            _where_table(costs[0].report),
            _sensitivity_table(networks[0].name, outcomes),
        ),
        (
            Plot(
                "Latency over that of the lowest level", "γ", "ratio",
                {each.name: _over_lowest(each, "latency_ms") for each in costs},
            ),
            Plot(
                "Energy over that of the lowest level", "γ", "ratio",
                {each.name: _over_lowest(each, "energy_mj") for each in costs},
            ),
            _sensitivity_plot(networks[0].name, outcomes),
        ),
        [*_verdicts(networks[0].name, outcomes), *_host(costs), SKIPPING],
    )  # fmt: skip


def _over_lowest(costs: Costs, what: str) -> tuple[list[int], list[float]]:
    """γ of each level, and a cost over that of the lowest level."""
    levels = costs.report.levels
    return [row.gamma for row in levels], [getattr(row, what) / getattr(levels[0], what) for row in levels]


def _ratio_table(costs: Sequence[Costs], stated: Sequence[Costs]) -> Table:
    columns = {"network": "", "assumptions": "", "ms, lowest": ".3f", "ms, highest": ".3f"}
    columns |= {"latency ratio": ".2f", "quoted latency": ".1f", "mJ, lowest": ".3f", "mJ, highest": ".3f"}
    columns |= {"energy ratio": ".2f", "paper constants": ".2f", "quoted energy": ".1f"}
    rows: list[list[Cell]] = []
    for i, (plain, other) in enumerate(zip(costs, stated, strict=True)):
        claims: list[Cell] = [LATENCY.value, ENERGY.value] if i == 0 else [None, None]
        for assumptions, each in ((DEFAULT.name, plain), (STATED.name, other)):
            low, high = each.report.levels[0], each.report.levels[-1]
            paper = each.with_cell(each.target.array.cell, "paper").levels
            ratios = [high.latency_ms / low.latency_ms, high.energy_mj / low.energy_mj]
            rows.append(
                [
                    *(each.name, assumptions, low.latency_ms, high.latency_ms, ratios[0], claims[0]),
                    *(low.energy_mj, high.energy_mj, ratios[1], paper[-1].energy_mj / paper[0].energy_mj, claims[1]),
                ]
            )
    return Table(
        f"Lowest and highest level on {costs[0].target.name}, by first principles",
        columns,
        rows,
        (
            f"quoted: {LATENCY.source}; agreement is {LATENCY.low:g}…{LATENCY.high:g} in latency and "
            f"{ENERGY.low:g}…{ENERGY.high:g} in energy",
            "the paper constants rescale the baselines' cells only, so they give the same ratios between levels",
        ),
        left=2,
    )


def _level_table(costs: Sequence[Costs]) -> Table:
    columns = {"network": "", "level": "", "γ": "d", "latency ms": ".3f", "energy mJ": ".3f", "utilization": ".1%"}
    columns |= {"DRAM bytes": ",d", "weight bytes": ",d"}
    rows: list[list[Cell]] = []
    for each in costs:
        for row in each.report.levels:
            costly = (row.latency_ms, row.energy_mj, row.utilization, row.dram_bytes, row.weight_bytes)
            rows.append([each.name, row.level, row.gamma, *costly])
    return Table(f"All levels on {costs[0].target.name}", columns, rows, left=2)


def _where_table(report: Report) -> Table:
    """The lowest and highest level by kind of layer; a single array layer is the last one."""
    on_array = [layer for layer in report.layers if layer.op == "arraylayer"]
    first, last = (on_array[0], on_array[-1]) if on_array else (None, None)
    kinds: dict[str, list[LayerReport]] = {}
    for layer in report.layers:
        others = f"others: {' or '.join(dict.fromkeys(layer.unit))}"
        kind = "last layer" if layer is last else "first layer" if layer is first else others
        kinds.setdefault(kind, []).append(layer)
    low = report.levels[0]
    rows: list[list[Cell]] = []
    for kind, layers in kinds.items():
        ms = [sum(layer.latency_ms[i] for layer in layers) for i in (0, -1)]
        mj = [sum(layer.energy_mj[i] for layer in layers) for i in (0, -1)]
        shares = [ms[0] / low.latency_ms, mj[0] / low.energy_mj]
        ratios = [high / lowest if lowest else None for lowest, high in (ms, mj)]
        rows.append([kind, len(layers), *ms, ratios[0], shares[0], *mj, ratios[1], shares[1]])
    columns = {"layers": "", "count": "d", "ms, lowest": ".3f", "ms, highest": ".3f", "latency ratio": ".2f"}
    columns |= {"share of lowest ms": ".1%", "mJ, lowest": ".3f", "mJ, highest": ".3f", "energy ratio": ".2f"}
    columns |= {"share of lowest mJ": ".1%"}
    notes = ("what does not depend on γ is what keeps the ratio below that of γ",)
    return Table(f"Where {report.model} spends it, default target", columns, rows, notes)


def _fixed(ratio: float, low: int, high: int) -> float | None:
    """The constant c for which (high + c) / (low + c) is `ratio`: the part that does not depend on γ, in units of γ.

    None if nothing depends on γ.
    """
    return (high - ratio * low) / (ratio - 1) if ratio > 1 else None


def _sensitivity_table(name: str, outcomes: Sequence[Outcome]) -> Table:
    columns = {"#": "d", "assumptions": "", "ms, lowest": ".3f", "ms, highest": ".3f", "latency ratio": ".2f"}
    columns |= {"fixed, γ": ".1f"}
    columns |= {"mJ, lowest": ".3f", "mJ, highest": ".3f", "energy ratio": ".2f", "fixed, γ (energy)": ".1f"}
    columns |= {"agrees with the paper in": "", "exceeds the part in": ""}
    fixed = [_fixed(claim.value, 16, 60) for claim in (LATENCY, ENERGY)]
    rows: list[list[Cell]] = [
        [None, "paper", None, None, LATENCY.value, fixed[0], None, None, ENERGY.value, fixed[1], "", ""]
    ]
    for number, each in enumerate(outcomes, 1):
        latency, energy = each.latency_ratio, each.energy_ratio
        rows.append(
            [
                *(number, each.variant.name, each.latency_ms[0], each.latency_ms[-1], latency, _fixed(latency, 16, 60)),
                *(each.energy_mj[0], each.energy_mj[-1], energy, _fixed(energy, 16, 60)),
                *(_agreement(each), ", ".join(each.exceeded)),
            ]
        )
    return Table(
        f"Sensitivity of {name}: assumptions changed one at a time, then together",
        columns,
        rows,
        (
            "fixed: cost that does not depend on γ, in units of γ, if all else were proportional to it",
            "weights on chip: an imagined global buffer that holds the program too",
            f"a cell's energy falls with γ: the line through {_by_gamma()} (measured per cycle, own bus "
            "register); everywhere else it is the same at all γ",
        ),
        left=2,
    )


def _by_gamma() -> str:
    return " and ".join(f"{units} units at γ = {gamma}" for gamma, units in quoted.RELATIVE_BY_GAMMA.items())


def _agreement(each: Outcome) -> str:
    hits = [("latency", LATENCY.holds(each.latency_ratio)), ("energy", ENERGY.holds(each.energy_ratio))]
    return " and ".join(name for name, hit in hits if hit) or "neither"


def _sensitivity_plot(name: str, outcomes: Sequence[Outcome]) -> Plot:
    numbered = "assumptions, by their numbers in the table"
    ratios = ([each.latency_ratio for each in outcomes], [each.energy_ratio for each in outcomes])
    series = {numbered: ratios, "paper": ([LATENCY.value], [ENERGY.value])}
    names = [f"{number}: {each.variant.name}" for number, each in enumerate(outcomes, 1)]
    return Plot(
        f"{name}: γ 60 over γ 16 under different assumptions", "latency ratio", "energy ratio", series,
        lines=False, labels={numbered: [str(number) for number in range(1, len(outcomes) + 1)]},
        names={numbered: names}, boxes=((LATENCY.low, ENERGY.low, LATENCY.high, ENERGY.high),),
    )  # fmt: skip


def _verdicts(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    by_name = {each.variant.name: each for each in outcomes}
    verdicts = []
    for variant in (DEFAULT, STATED):
        each = by_name[variant.name]
        verdicts.append(
            f"{name}, {variant.name}: latency {compared(each.latency_ratio, LATENCY.value, LATENCY.source)}, energy "
            f"{compared(each.energy_ratio, ENERGY.value, ENERGY.source)}; agrees in {_agreement(each)}."
        )
    default = by_name[DEFAULT.name]
    if slower := [each for each in outcomes if each.variant is STATED and each.latency_ms[0] > default.latency_ms[0]]:
        factors = [slower[0].latency_ms[i] / default.latency_ms[i] for i in (0, -1)]
        verdicts.append(
            f"The multipliers are what separates the two: without them {name} takes {factors[0]:.1f} times as long at "
            f"the lowest level and {factors[1]:.1f} times at the highest."
        )
    verdicts += _goals(name, default, by_name[STATED.name]) if name in GOALS_MS else []
    verdicts.append(_slope(name, [(by_name[a.name], by_name[b.name]) for a, b in SLOPES]))
    both = [each for each in outcomes if _agreement(each) == "latency and energy"]
    feasible = [each.variant.name for each in both if not each.exceeded]
    verdicts.append(
        f"{len(both)} of {len(outcomes)} sets of assumptions give both ratios of the paper; those that fit the part: "
        f"{'; '.join(feasible) or 'none'}."
    )
    return verdicts


SLOPES = ((DEFAULT, SLOPE), (STATED, SLOPE_ONE_ARRAY))
"""Assumptions without and with the measured slope of a cell's energy."""


def _slope(name: str, pairs: Sequence[tuple[Outcome, Outcome]]) -> str:
    """What it does to the energy ratio that a cell's energy falls with γ."""
    found = [
        f"{flat.energy_ratio:.2f}× to {sloped.energy_ratio:.2f}× ({flat.variant.name}; agrees in {_agreement(flat)} "
        f"before, in {_agreement(sloped)} after)"
        for flat, sloped in pairs
    ]
    return (
        f"The energy of a cycle of an mMAC cell was measured as {_by_gamma()}; the model takes one number for all γ. "
        f"The slope would move the energy ratio of {name} from {' and from '.join(found)}."
    )


def _goals(name: str, default: Outcome, stated: Outcome) -> list[str]:
    """Whether one design keeps both to the latency that is wanted and to the paper's ratio."""

    low, high = GOALS_MS[name]

    def said(each: Outcome) -> str:
        first, last = each.latency_ms[0], each.latency_ms[-1]
        met = "meet" if first <= low and last <= high else "miss"
        ratio = "inside" if LATENCY.holds(each.latency_ratio) else "outside"
        return (
            f"{first:.2f} and {last:.2f} ms {met} it, and the ratio of {each.latency_ratio:.2f}× is {ratio} "
            f"{LATENCY.low:g}…{LATENCY.high:g}"
        )

    return [
        f"Wanted are at most {low:g} ms at the lowest and {high:g} ms at the highest level. With the multipliers "
        f"{said(default)}; without them {said(stated)}."
    ]


def _host(costs: Sequence[Costs]) -> list[str]:
    """What the figures leave out because the host does it, and layers that do not depend on the level."""
    notes = []
    for each in costs:
        if each.on_host:
            kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(each.on_host).items())
            notes.append(f"{each.name}: on the host, and in none of the figures: {kinds}.")
        low, high = each.report.levels[0], each.report.levels[-1]
        if low.cycles == high.cycles:
            notes.append(
                f"{each.name}: its layers on the hardware are first and last at once and keep all their terms, so no "
                f"level is cheaper than another; a budget file can say otherwise."
            )
    return notes
