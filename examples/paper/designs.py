"""§7.3: ResNet-18 against published FPGA accelerators."""

from __future__ import annotations

from statistics import geometric_mean

from examples.paper import quoted
from examples.paper.networks import Costs
from examples.paper.sections import Cell, Plot, Section, Table, compared

OWN, *OTHERS = quoted.DESIGNS
CLAIMS = (quoted.DESIGN_LATENCY, quoted.DESIGN_EFFICIENCY)


def section(costs: Costs) -> Section:
    """Tables, plot and verdicts of §7.3 for a ResNet-18."""
    return Section(
        "§7.3 other FPGA designs",
        (_table(costs), _against(costs)),
        (_plot(costs),),
        _verdicts(costs),
    )


def _table(costs: Costs) -> Table:
    columns = {"design": "", "latency ms": ".2f", "frames/J": ".2f", "source": ""}
    rows: list[list[Cell]] = [[d.name, d.latency_ms, d.frames_per_j, f"quoted: {d.source}"] for d in quoted.DESIGNS]
    for row in costs.report.levels:
        name = f"mmac, {costs.name} at {row.level} (γ = {row.gamma})"
        rows.append([name, row.latency_ms, 1e3 / row.energy_mj, f"modelled: {costs.target.name}"])
    return Table(
        "ResNet-18-class networks, one image at a time",
        columns,
        rows,
        (
            "modelled includes: every layer of the network from the input in DRAM to the output in DRAM, transfers and "
            "background power of the DRAM, sequencer, DMA and memory controller, static power of the part",
            "modelled leaves out: the host and its link, regulators and fans of the board, clock tree and routing "
            "beyond what 60 fJ per LUT and FF hold; nothing has been measured on a board",
            "the paper constants give the same: they rescale the baselines' cells only",
            "the published designs are systems of other precision, clock and part; accuracy is not compared here",
        ),
    )


def _ratios(costs: Costs, level: int) -> list[tuple[str, float, float]]:
    """Of each other design: its latency over ours, our frames per joule over its."""
    row = costs.report.levels[level]
    return [(d.name, d.latency_ms / row.latency_ms, 1e3 / row.energy_mj / d.frames_per_j) for d in (OWN, *OTHERS)]


def _against(costs: Costs) -> Table:
    low, high = costs.report.levels[0].level, costs.report.levels[-1].level
    columns = {"against": ""} | {
        f"{what} at {level}": ".2f" for level in (high, low) for what in ("latency", "frames/J")
    }
    pairs = zip(_ratios(costs, -1), _ratios(costs, 0), strict=True)
    rows: list[list[Cell]] = [[name, *at_high, *at_low] for (name, *at_high), (_, *at_low) in pairs]
    rows.append(["quoted for mMAC", CLAIMS[0].value, CLAIMS[1].value, None, None])
    return Table(
        "Advantage of the modelled system: latency and frames per joule, as ratios",
        columns,
        rows,
        (f"quoted: {CLAIMS[0].source}, at a fixed resolution; which designs it averages over is not said",),
    )


def _plot(costs: Costs) -> Plot:
    levels = costs.report.levels
    ours = ([row.latency_ms for row in levels], [1e3 / row.energy_mj for row in levels])
    series = {f"mmac, {costs.name}": ours} | {d.name: ([d.latency_ms], [d.frames_per_j]) for d in quoted.DESIGNS}
    labels = {f"mmac, {costs.name}": [row.level for row in levels]}
    return Plot("Frames per joule and latency", "latency ms", "frames/J", series, lines=False, log=True, labels=labels)


def _verdicts(costs: Costs) -> list[str]:
    verdicts = []
    for position in (-1, 0):
        row = costs.report.levels[position]
        others = _ratios(costs, position)[1:]
        faster = sum(latency > 1 for _, latency, _ in others)
        thriftier = sum(frames > 1 for _, _, frames in others)
        means = [geometric_mean(latency for _, latency, _ in others), geometric_mean(frames for *_, frames in others)]
        verdicts.append(
            f"At {row.level} the modelled system ({row.latency_ms:.2f} ms, {1e3 / row.energy_mj:.2f} frames/J) is "
            f"faster than {faster} and needs less energy than {thriftier} of the {len(others)} other designs; "
            f"geometric means {means[0]:.2f}× and {means[1]:.2f}×."
        )
    levels = costs.report.levels
    pairs = [(row.level, *ratio) for i, row in enumerate(levels) for ratio in _ratios(costs, i)[1:]]
    level, name, latency, frames = min(pairs, key=lambda pair: _distance(*pair[2:]))
    verdicts.append(
        f"Of the {len(pairs)} pairs of a level and another design, {name} at {level} is nearest to the quoted ratios: "
        f"latency {compared(latency, CLAIMS[0].value, CLAIMS[0].source)}, frames/J "
        f"{compared(frames, CLAIMS[1].value, CLAIMS[1].source)}."
    )
    nearest = min(range(len(levels)), key=lambda i: abs(levels[i].latency_ms - OWN.latency_ms))
    _, latency, frames = _ratios(costs, nearest)[0]
    verdicts.append(
        f"The level that is about as fast as the authors' tMAC system ({OWN.source}) is {levels[nearest].level}: "
        f"{latency:.2f}× in latency, {frames:.2f}× in frames/J."
    )
    return verdicts


def _distance(latency: float, frames: float) -> float:
    """The larger of the factors by which two ratios miss the quoted ones."""
    pairs = zip((latency, frames), CLAIMS, strict=True)
    return max(max(value / claim.value, claim.value / value) for value, claim in pairs)
