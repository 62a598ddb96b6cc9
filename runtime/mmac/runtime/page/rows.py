"""Figures with one row per layer."""

from __future__ import annotations

from typing import Any

from mmac.runtime.page.figure import axis
from mmac.runtime.page.subject import Subject
from mmac.runtime.page.text import label

ROW_PIXELS, FEWEST_ROWS = 18, 12
MARGIN = {"l": 40, "r": 20, "t": 110, "b": 20}


def row_height(rows: int) -> int:
    """Height of the whole figure in pixels."""
    return MARGIN["t"] + MARGIN["b"] + ROW_PIXELS * max(FEWEST_ROWS, rows)


def layer_axis(subject: Subject) -> dict[str, Any]:
    """The rows, first layer on top. By number, so that layers of the same name stay apart."""
    names = subject.names
    return axis(
        tickvals=list(range(len(names))),
        ticktext=[label(name, 42) for name in names],
        tickfont={"size": 11},
        range=[len(names) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )


def legend_above(height: int) -> dict[str, Any]:
    """A legend over the titles of the axes, which are on top."""
    inner = height - MARGIN["t"] - MARGIN["b"]
    above = {"x": 0, "xanchor": "left", "y": 1 + 55 / inner, "yanchor": "bottom"}
    return {"orientation": "h", "traceorder": "normal", "font": {"size": 11}, **above}
