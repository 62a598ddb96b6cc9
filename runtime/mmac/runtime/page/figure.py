"""What the sections of a page are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmac.runtime.page.text import markup

Tables = dict[str, Any]
"""Lists and texts by key, such as ``latency_ms/3``; the reader's choices (level, constants …) select among them."""

Binding = str | tuple[str, ...]
"""Template of a key, ``latency_ms/{level}``; several are the columns of rows."""

FONT = {"family": "system-ui, sans-serif", "size": 12, "color": "#222"}
GRID = "#e6e6e6"
COLOURS = {
    "array": "#1f5fa8",
    "multipliers": "#e08a00",
    "vector": "#3c9a5f",
    "move": "#8a63b3",
    "host": "#888888",
}
"""Of the units that do the work of layers."""

OTHER = "#6b7d92"

TOOLBAR_PIXELS = 32
"""At the top of a figure, where plotly shows its buttons while the mouse is over it."""

PLAIN: dict[str, Any] = {"exponentformat": "none", "separatethousands": True}
"""Numbers of an axis or colour bar in full: the prefixes of SI do not go with a title such as "latency ms"."""


@dataclass(frozen=True)
class Figure:
    """A section with a plotly figure in it.

    Attributes:
        name: identifier, unique on the page.
        title: heading.
        note: HTML that says how to read it.
        data: plotly traces.
        layout: plotly layout.
        tables: values that only this figure needs.
        bindings: what depends on the reader's choices: path from ``{"data", "layout"}`` (``data.0.x``) to its values.
        min_width: pixels; on a narrower page the figure scrolls sideways.
    """

    name: str
    title: str
    note: str
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    tables: Tables = field(default_factory=dict)
    bindings: Mapping[str, Binding] = field(default_factory=dict)
    min_width: int = 0


def rounded(values: Sequence[float]) -> list[float]:
    """Six digits are more than anybody can see."""
    return [value if isinstance(value, int) else float(f"{value:.6g}") for value in values]


def basic_layout(height: int, **more: Any) -> dict[str, Any]:
    """What all figures have in common."""
    shared: dict[str, Any] = {
        "height": height,
        "font": FONT,
        "margin": {"l": 60, "r": 20, "t": TOOLBAR_PIXELS + 8, "b": 50},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "hoverlabel": {"align": "left", "font": FONT, "bgcolor": "#fff", "bordercolor": "#999"},
        "uirevision": "keep",  # zoom stays when the level changes
    }
    return shared | more


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """An axis with a light grid."""
    shared: dict[str, Any] = {
        "title": {"text": title},
        "gridcolor": GRID,
        "zerolinecolor": GRID,
        "linecolor": "#999",
        "automargin": True,
    }
    return shared | more


def legend_below() -> dict[str, Any]:
    """A legend at the bottom of a figure, under the titles of the axes."""
    return {"orientation": "h", "x": 0, "xanchor": "left", "yref": "container", "y": 0, "yanchor": "bottom"}


def swatches(colours: Mapping[str, str]) -> str:
    """HTML of a legend."""
    return " ".join(
        f'<span class="swatch" style="background:{colour}"></span>{markup(name)}' for name, colour in colours.items()
    )


def select(name: str, options: Mapping[str, str], chosen: str | None = None) -> str:
    """HTML of a choice, by value and text, whose value bindings refer to as ``{name}``."""
    texts = "".join(
        f'<option value="{markup(value)}"{" selected" * (value == chosen)}>{markup(text)}</option>'
        for value, text in options.items()
    )
    return f'<label>{name} <select name="{name}" autocomplete="off">{texts}</select></label>'
