"""Roofline: how fast layers multiply, against what their DRAM traffic and their unit allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmac.isa.plan import GROUP_SIZE
from mmac.runtime.page.figure import COLOURS, Binding, Figure, Tables, axis, basic_layout, legend_below, rounded
from mmac.runtime.page.subject import Subject
from mmac.runtime.page.text import label
from mmac.runtime.report import LayerReport
from mmac.runtime.timing.formulas import beat_cycles

NOTE = (
    "One point per layer that multiplies; its area is its share of the latency. Flat roofs are the peaks of the array "
    "at the level's γ and of the multipliers; layers whose budget differs from the level's, and tiles that have fewer "
    "terms than it allows, have a peak of their own. Slopes are the bandwidth of DRAM. Layers without any DRAM traffic "
    "are at the right edge."
)
UNITS = ("array", "multipliers")
HOVER = (
    "<b>%{customdata[0]}</b><br>%{customdata[1]:,d} MACs, %{customdata[2]:,d} bytes of DRAM traffic"
    "<br>%{y:.3~s}MAC/s, latency %{customdata[3]:.4~g} ms<extra></extra>"
)
LARGEST, SMALLEST = 34.0, 5.0
"""Diameters of points in pixels."""

LEAST_RANGE = 200.0
"""Of an axis from end to end, so that there are some powers of ten on it."""


@dataclass(frozen=True)
class Window:
    """What the axes show: MACs per byte, and MAC/s."""

    left: float
    right: float
    bottom: float
    top: float

    @property
    def edge(self) -> float:
        """Where layers without DRAM traffic are."""
        return self.right / 1.3


def figure(subject: Subject) -> Figure:
    """Draw roofs and points."""
    levels = range(len(subject.report.levels))
    clock = subject.target.clock.mhz * 1e6
    layers = [layer for layer in subject.layers if layer.macs and set(layer.unit) & set(UNITS)]
    peaks = [array_peak(subject, level) for level in levels]
    flat = {"array": peaks, "multipliers": [multiplier_peak(subject)] * len(levels)}
    window = _window(layers, len(levels), [peak for unit in flat for peak in flat[unit] if peak])
    tables: Tables = {}
    data: list[dict[str, Any]] = []
    bindings: dict[str, Binding] = {}
    dram = subject.target.dram
    reads, both = dram.read_bytes_per_cycle, dram.read_bytes_per_cycle + dram.write_bytes_per_cycle
    for name, rate, dash in (("reads and writes", both, "solid"), ("reads", reads, "dot")):
        data.append(_slope(window, f"DRAM {name}: {rate * clock / 1e9:.1f} GB/s", rate * clock, dash))
    for unit in UNITS:
        if not flat[unit][0]:
            continue
        for level, peak in enumerate(flat[unit]):
            tables[f"roof/{unit}/{level}"] = rounded([peak, peak])
            tables[f"roof_name/{unit}/{level}"] = f"{unit}: {peak / 1e9:,.0f} GMAC/s"
        bindings[f"data.{len(data)}.y"] = f"roof/{unit}/{{level}}"
        bindings[f"data.{len(data)}.name"] = f"roof_name/{unit}/{{level}}"
        data.append(_line([window.left, window.right], COLOURS[unit], "solid"))
    for unit in UNITS:
        for level in levels:
            mine = [layer for layer in layers if layer.unit[level] == unit]
            tables |= _points(mine, unit, level, subject.report.levels[level].latency_ms, window)
        if any(unit in layer.unit for layer in layers):
            for attribute in ("x", "y", "customdata", "marker.size"):
                bindings[f"data.{len(data)}.{attribute}"] = f"points/{unit}/{attribute}/{{level}}"
            data.append(_markers(unit))
    return Figure("roofline", "Roofline", NOTE, data, _layout(window), tables, bindings)


def array_peak(subject: Subject, level: int) -> float:
    """MAC/s of the whole array at a level: 16 of each cell every beat."""
    target, row = subject.target, subject.report.levels[level]
    beat = int(beat_cycles(target.array, target.cell(subject.report.mac), row.alpha, row.beta))
    return target.cell_count * GROUP_SIZE / beat * target.clock.mhz * 1e6


def multiplier_peak(subject: Subject) -> float:
    """MAC/s of the multipliers, 0 if there are none."""
    unit = subject.target.multipliers
    return unit.units * unit.taps * subject.target.clock.mhz * 1e6 if unit else 0.0


def intensity(layer: LayerReport, level: int) -> float:
    """MACs per byte of DRAM traffic."""
    return layer.macs / layer.dram_bytes[level] if layer.dram_bytes[level] else math.inf


def speed(layer: LayerReport, level: int) -> float:
    """MAC/s; infinite for a layer that is wholly hidden behind others."""
    return layer.macs / layer.latency_ms[level] * 1e3 if layer.latency_ms[level] > 0 else math.inf


def _window(layers: Sequence[LayerReport], levels: int, peaks: Sequence[float]) -> Window:
    both = [(intensity(layer, level), speed(layer, level)) for layer in layers for level in range(levels)]
    x = [value for value, _ in both if math.isfinite(value)] or [1.0, 100.0]
    y = [value for _, value in both if math.isfinite(value)] + list(peaks)
    left, bottom = min(x) / 2, min(y) / 2
    return Window(left, max(max(x) * 4, left * LEAST_RANGE), bottom, max(max(y) * 2, bottom * LEAST_RANGE))


def _points(layers: Sequence[LayerReport], unit: str, level: int, whole_ms: float, window: Window) -> Tables:
    x = [min(intensity(layer, level), window.edge) for layer in layers]
    y = [min(speed(layer, level), window.top / 1.1) for layer in layers]
    shares = [layer.latency_ms[level] / whole_ms if whole_ms else 0 for layer in layers]
    about = [
        [label(layer.name), layer.macs, layer.dram_bytes[level], *rounded([layer.latency_ms[level]])]
        for layer in layers
    ]
    sizes = [round(SMALLEST + (LARGEST - SMALLEST) * math.sqrt(share), 1) for share in shares]
    values: dict[str, list[Any]] = {"x": rounded(x), "y": rounded(y), "customdata": about, "marker.size": sizes}
    return {f"points/{unit}/{attribute}/{level}": found for attribute, found in values.items()}


def _line(x: list[float], colour: str, dash: str, **more: Any) -> dict[str, Any]:
    style = {"color": colour, "dash": dash, "width": 2}
    return {"type": "scatter", "mode": "lines", "x": rounded(x), "line": style, "hoverinfo": "name", **more}


def _slope(window: Window, name: str, bytes_per_s: float, dash: str) -> dict[str, Any]:
    # straight on logarithmic axes
    x = [window.left, window.top / bytes_per_s]
    return _line(x, "#666", dash, y=rounded([value * bytes_per_s for value in x]), name=name)


def _markers(unit: str) -> dict[str, Any]:
    marker = {"color": COLOURS[unit], "opacity": 0.65, "line": {"width": 1, "color": "#fff"}}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"layers on the {unit}",
        "marker": marker,
        "hovertemplate": HOVER,
    }


def _layout(window: Window) -> dict[str, Any]:
    def logarithmic(title: str, low: float, high: float, **more: Any) -> dict[str, Any]:
        return axis(title, type="log", range=[math.log10(low), math.log10(high)], exponentformat="SI", **more)

    return basic_layout(
        520,
        hovermode="closest",
        xaxis=logarithmic("MACs per byte of DRAM traffic", window.left, window.right, dtick=1),
        yaxis=logarithmic("MAC/s", window.bottom, window.top, dtick=1),
        legend=legend_below(),
    )
