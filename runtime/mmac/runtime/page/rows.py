"""Figures with one row per layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmac.runtime.page.figure import TOOLBAR_PIXELS, axis
from mmac.runtime.page.text import label

ROW_PIXELS, FEWEST_ROWS = 18, 12
TITLE_PIXELS = 55
"""Of the axes, which are on top."""

LEGEND_PIXELS = 60
"""Three lines."""

MARGIN = {"l": 40, "r": 20, "t": TOOLBAR_PIXELS + LEGEND_PIXELS + TITLE_PIXELS, "b": 20}
MIN_WIDTH = 960
"""Of the figure in pixels, for the names of layers and the axes beside each other."""


def row_height(rows: int) -> int:
    """Height of the whole figure in pixels."""
    return MARGIN["t"] + MARGIN["b"] + ROW_PIXELS * max(FEWEST_ROWS, rows)


def layer_axis(names: Sequence[str]) -> dict[str, Any]:
    """The rows, first layer on top. By number, so that layers of the same name stay apart."""
    return axis(
        tickvals=list(range(len(names))),
        ticktext=[label(name, 42) for name in names],
        tickfont={"size": 11},
        range=[len(names) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )


def legend_above(height: int) -> dict[str, Any]:
    """A legend over the titles of the axes."""
    inner = height - MARGIN["t"] - MARGIN["b"]
    above = {"x": 0, "xanchor": "left", "y": 1 + TITLE_PIXELS / inner, "yanchor": "bottom"}
    return {"orientation": "h", "traceorder": "normal", "font": {"size": 11}, **above}
