"""What is in use of each on-chip memory while each layer runs, and of DRAM."""

from __future__ import annotations

from typing import Any

from mmac.runtime.page.figure import Figure, axis, basic_layout
from mmac.runtime.page.rows import MARGIN, MIN_WIDTH, layer_axis, legend_above, row_height
from mmac.runtime.page.subject import Subject

NOTE = (
    "Left and middle: bytes that a layer finds or leaves in the on-chip buffer and in DRAM and that it or a later "
    "layer uses; the program's image (term streams, constants) is not counted in DRAM. Right: how much of each "
    "scratchpad the layer's code takes, both slots of double buffers at the highest level."
)
SHADES = [[0, "#f5f6f8"], [1, "#1f5fa8"]]


def figure(subject: Subject) -> Figure:
    """Bars and a heat map, a row per layer; the same at all levels."""
    rows = list(range(len(subject.layers)))
    base, window = subject.program.buffer
    resident = max(0, min(subject.program.image.size, base + window) - base)
    live = {memory: [int(values[part]) for part in subject.shown] for memory, values in subject.flow.live.items()}
    data = [
        _bars(rows, "x", [resident] * len(rows) if resident else [], "image in the buffer", "#b9c4d0"),
        _bars(rows, "x", live["buffer"] if window else [], "activations in the buffer", "#1f5fa8"),
        _bars(rows, "x2", live["dram"], "activations in DRAM", "#e08a00"),
        _heat(subject),
    ]
    height = row_height(len(rows))
    top: dict[str, Any] = {"side": "top", "rangemode": "tozero", "nticks": 4, "tickangle": 0}
    size = subject.target.buffer.size_bytes
    drawn = basic_layout(
        height,
        margin=MARGIN,
        barmode="stack",
        bargap=0.25,
        hovermode="closest",
        yaxis=layer_axis(subject.names),
        xaxis=axis("on-chip buffer, bytes", domain=[0, 0.32], **top),
        xaxis2=axis("DRAM, bytes", domain=[0.36, 0.56], **top),
        xaxis3=axis(domain=[0.6, 1], side="top", showgrid=False, type="category", tickangle=0),
        showlegend=True,
        legend=legend_above(height),
        shapes=[_mark(size)] if size else [],
    )
    return Figure("occupancy", "Memory", NOTE, data, drawn, min_width=MIN_WIDTH)


def _mark(size: int) -> dict[str, Any]:
    """A line at the size of the target's buffer."""
    return {
        "type": "line",
        "x0": size,
        "x1": size,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": "#b23a48", "dash": "dot", "width": 1.5},
        "name": f"size of the buffer: {size:,} bytes",
        "showlegend": True,
    }


def _bars(rows: list[int], x_axis: str, values: list[int], name: str, colour: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "x": values,
        "y": rows,
        "xaxis": x_axis,
        "name": name,
        "marker": {"color": colour},
        "hovertemplate": f"%{{y}} {name} %{{x:,d}} bytes<extra></extra>",
        "visible": bool(values),
    }


def _heat(subject: Subject) -> dict[str, Any]:
    sizes = subject.program.scratchpads
    names = [name for name in subject.pads if sizes[name]]
    used = [[int(subject.pads[name][part]) for name in names] for part in subject.shown]
    return {
        "type": "heatmap",
        "xaxis": "x3",
        "x": [f"{name.upper()}<br>{sizes[name] / 1024:,.0f} KiB" for name in names],
        "y": list(range(len(used))),
        "z": [[round(100 * size / sizes[name], 2) for name, size in zip(names, row, strict=True)] for row in used],
        "customdata": used,
        "zmin": 0,
        "zmax": 100,
        "colorscale": SHADES,
        "xgap": 2,
        "ygap": 1,
        "colorbar": {"thickness": 12, "len": 200, "lenmode": "pixels", "y": 1, "yanchor": "top", "ticksuffix": " %"},
        "hovertemplate": "%{y}<br>%{x}: %{customdata:,d} bytes, %{z:.1f} %<extra></extra>",
    }
