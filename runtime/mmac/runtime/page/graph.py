"""The network as a graph: layers, and who reads what others have written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmac.runtime.dataflow import INPUTS
from mmac.runtime.page.figure import PLAIN, TOOLBAR_PIXELS, Binding, Figure, Tables, basic_layout, select
from mmac.runtime.page.layout import Layout, Point, layered
from mmac.runtime.page.subject import Subject
from mmac.runtime.page.text import label

COLOURINGS = {
    "latency_ms": "latency ms",
    "energy_mj": "energy mJ",
    "utilization_percent": "utilization %",
    "dram_bytes": "DRAM traffic bytes",
}
SCALE = [[0, "#f5f6f8"], [0.15, "#fbd9a0"], [0.5, "#ee7b3a"], [1, "#8a1538"]]

MAX_NODES = 2000
"""More of them nobody could read."""

ROW_PIXELS, COLUMN_PIXELS, WIDTH_PIXELS, CHARACTER_PIXELS = 30, 110, 1100, 6.5
FEWEST_COLUMNS, FEWEST_ROWS = 4, 11

HOVER = "<br>".join(
    (
        "<b>%{customdata[0]}</b>",
        "%{customdata[1]} (%{customdata[2]}), %{customdata[3]:,d} MACs",
        "latency %{customdata[4]:.4~g} ms",
        "energy %{customdata[5]:.4~g} mJ",
        "utilization %{customdata[6]:.1f} %",
        "DRAM traffic %{customdata[7]:,d} bytes",
        "buffer traffic %{customdata[8]:,d} bytes",
        "weights %{customdata[9]:,d} bytes",
    )
)
COLUMNS = (
    "layer",
    "operation",
    "unit/{level}",
    "macs",
    "latency_ms/{level}",
    "energy_mj/{constants}/{level}",
    "utilization_percent/{level}",
    "dram_bytes/{level}",
    "buffer_bytes/{level}",
    "weight_bytes/{level}",
)
"""What `HOVER` shows, by the keys of `Subject.tables`."""

NOTE = (
    "Who reads what others have written, byte by byte, as the program says; each layer lies below all that it reads. "
    f"The colours have the same scale at all levels. {select('colour', COLOURINGS)}"
)


def figure(subject: Subject) -> Figure:
    """Draw it, coloured by what the reader chooses."""
    ends = {INPUTS: "input", len(subject.flow.parts): "output"}
    nodes = sorted({*subject.shown, *(number for edge in subject.flow.edges for number in edge)})
    if len(nodes) > MAX_NODES:
        return Figure("network", "Network", f"{len(nodes)} layers are too many to be drawn.", [], basic_layout(10))
    place = {node: position for position, node in enumerate(nodes)}
    layout = layered(len(nodes), [(place[start], place[stop]) for start, stop in subject.flow.edges])
    left, right = _extent(layout)
    columns = max(FEWEST_COLUMNS, right - left + 1)
    limit = max(8, int((WIDTH_PIXELS / columns - 24) / CHARACTER_PIXELS))
    names = [label(name, limit) for name in subject.names]
    layers = _markers([layout.points[place[node]] for node in subject.shown], names)
    outside = [node for node in nodes if node in ends]
    others = _markers([layout.points[place[node]] for node in outside], [ends[node] for node in outside])
    diamond = {"symbol": "diamond", "size": 12, "color": "#fff", "line": {"width": 1.5, "color": "#444"}}
    data = [
        _lines(layout),
        layers | {"marker": _colouring(), "hovertemplate": HOVER + "<extra></extra>"},
        others | {"marker": diamond, "hoverinfo": "skip"},
    ]
    bindings: dict[str, Binding] = {
        "data.1.marker.color": "colour/{colour}/{constants}/{level}",
        "data.1.marker.cmax": "colour_maximum/{colour}/{constants}",
        "data.1.marker.colorbar.title.text": "colour_title/{colour}",
        "data.1.customdata": COLUMNS,
    }
    width = min(WIDTH_PIXELS, int(columns * COLUMN_PIXELS))
    rows = max([FEWEST_ROWS, *(row + 1 for _, row in layout.points)])
    return Figure("network", "Network", NOTE, data, _layout(left, columns, rows), _tables(subject), bindings, width)


def _layout(left: float, columns: float, rows: float) -> dict[str, Any]:
    return basic_layout(
        int(rows * ROW_PIXELS) + 90,
        margin={"l": 10, "r": 10, "t": TOOLBAR_PIXELS + 8, "b": 10},
        xaxis={"visible": False, "range": [left - 0.1, left + columns]},
        yaxis={"visible": False, "range": [rows - 0.4, -0.6]},
        showlegend=False,
        hovermode="closest",
        dragmode="pan",
    )


def _extent(layout: Layout) -> tuple[float, float]:
    """Leftmost and rightmost of all nodes and edges."""
    places = [x for x, _ in (*layout.points, *(point for route in layout.routes for point in route))]
    return min(places, default=0), max(places, default=0)


def _lines(layout: Layout) -> dict[str, Any]:
    """All edges as one line with gaps."""
    x: list[float | None] = []
    y: list[float | None] = []
    for route in layout.routes:
        x += [*(round(point[0], 3) for point in route), None]
        y += [*(point[1] for point in route), None]
    line = {"color": "#9aa3ad", "width": 1.5, "shape": "spline", "smoothing": 0.6}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, "hoverinfo": "skip"}


def _markers(points: Sequence[Point], texts: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [round(x, 3) for x, _ in points],
        "y": [row for _, row in points],
        "text": texts,
        "textposition": "middle right",
        "textfont": {"size": 11},
        "cliponaxis": False,
    }


def _colouring() -> dict[str, Any]:
    place = {"thickness": 12, "len": 300, "lenmode": "pixels", "y": 1, "yanchor": "top"}
    bar = place | PLAIN | {"title": {"side": "right"}}
    border = {"width": 1, "color": "#555"}
    return {"size": 16, "symbol": "circle", "colorscale": SCALE, "cmin": 0, "colorbar": bar, "line": border}


def _tables(subject: Subject) -> Tables:
    """Colours by what is chosen, all of which has a key with constants here."""
    tables: Tables = {f"colour_title/{name}": title for name, title in COLOURINGS.items()}
    tables |= {
        "layer": [label(name) for name in subject.names],
        "operation": [label(layer.op) for layer in subject.layers],
        "macs": [layer.macs for layer in subject.layers],
    }
    known = subject.tables()
    levels = range(len(subject.report.levels))
    tables |= {f"unit/{level}": [layer.unit[level] for layer in subject.layers] for level in levels}
    for name in COLOURINGS:
        for constants in subject.reports:
            by_level = [
                known[f"{name}/{constants}/{level}" if name == "energy_mj" else f"{name}/{level}"] for level in levels
            ]
            for level, values in enumerate(by_level):
                tables[f"colour/{name}/{constants}/{level}"] = values
            tables[f"colour_maximum/{name}/{constants}"] = max((max(v, default=0) for v in by_level), default=0) or 1
    return tables
