"""What each layer takes: latency, energy by where it goes, traffic, utilization."""

from __future__ import annotations

from typing import Any

from mmac.runtime.page.figure import COLOURS, OTHER, PLAIN, Binding, Figure, Tables, axis, basic_layout, swatches
from mmac.runtime.page.rows import MARGIN, MIN_WIDTH, layer_axis, legend_above, row_height
from mmac.runtime.page.subject import Subject

PARTS = ("#1f5fa8", "#7fb2e5", "#e08a00", "#f3c677", "#3c9a5f", "#a5d6b5", "#b23a48", "#8a63b3", "#c9b3de", "#999999",
         "#5b4636", "#d9a3bd", "#22a7a7")  # fmt: skip
"""Colours of the parts of energy."""

NOTE = (
    "In program order. The latency of a layer is by how much it moves the end of the program, so that overlap with its "
    "neighbours is not counted twice. Energy is by where it goes: click on the legend to hide a part. Drag to zoom, "
    "double-click to see all."
)


def figure(subject: Subject) -> Figure:
    """Bars, a row per layer."""
    rows = list(range(len(subject.layers)))
    units = {unit: COLOURS.get(unit, OTHER) for layer in subject.layers for unit in layer.unit}
    levels = range(len(subject.report.levels))
    tables: Tables = {
        f"unit_colour/{level}": [units[layer.unit[level]] for layer in subject.layers] for level in levels
    }
    data = [_bars(rows, "x", tables["unit_colour/0"], "latency", "%{x:.4~g} ms")]
    bindings: dict[str, Binding] = {"data.0.x": "latency_ms/{level}", "data.0.marker.color": "unit_colour/{level}"}
    split = subject.report.energy_split_mj
    for number, part in enumerate(split):
        if not any(any(report.energy_split_mj[part]) for report in subject.reports.values()):
            continue
        bindings[f"data.{len(data)}.x"] = f"energy_mj/{{constants}}/{{level}}/{part}"
        colour = PARTS[number % len(PARTS)]
        bars = _bars(rows, "x2", colour, part.replace("_", " "), "%{x:.4~g} mJ")
        data.append(bars | {"showlegend": True})
    for axis_name, template, name, form in (
        ("x3", "dram_bytes/{level}", "DRAM traffic bytes", "%{x:,d}"),
        ("x4", "utilization_percent/{level}", "utilization", "%{x:.1f} %"),
    ):
        bindings[f"data.{len(data)}.x"] = template
        data.append(_bars(rows, axis_name, OTHER, name, form))
    note = f"{NOTE} Units: {swatches(units)}"
    return Figure("layers", "Layers", note, data, _layout(subject), tables, bindings, MIN_WIDTH)


def _bars(rows: list[Any], x_axis: str, colour: Any, name: str, form: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "y": rows,
        "xaxis": x_axis,
        "yaxis": "y",
        "name": name,
        "marker": {"color": colour},
        "hovertemplate": f"{name} {form}<extra></extra>",
        "showlegend": False,
    }


def _layout(subject: Subject) -> dict[str, Any]:
    height = row_height(len(subject.layers))
    top = {"side": "top", "rangemode": "tozero", "tickangle": 0}
    return basic_layout(
        height,
        margin=MARGIN,
        barmode="stack",
        bargap=0.25,
        hovermode="y unified",
        hoversubplots="axis",
        yaxis=layer_axis(subject.names),
        xaxis=axis("latency ms", domain=[0, 0.29], nticks=5, **top | PLAIN),
        xaxis2=axis("energy mJ", domain=[0.32, 0.66], nticks=5, **top | PLAIN),
        xaxis3=axis("DRAM traffic bytes", domain=[0.69, 0.84], nticks=4, **top),
        xaxis4=axis("utilization %", domain=[0.87, 1], nticks=4, **top | {"range": [0, 100]}),
        legend=legend_above(height),
    )
