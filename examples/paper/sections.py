"""What a section of the page consists of: tables, plots, and sentences that follow from the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Cell = str | float | int | None


@dataclass(frozen=True)
class Table:
    """Rows under named columns; `columns` gives the format of each column's numbers (None is an empty cell).

    The first `left` columns hold words.
    """

    title: str
    columns: Mapping[str, str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    left: int = 1

    def text(self) -> list[list[str]]:
        """The rows as they are shown."""
        formats = list(self.columns.values())
        return [[_shown(cell, formats[i]) for i, cell in enumerate(row)] for row in self.rows]

    def to_json(self) -> dict[str, Any]:
        """The rows as JSON types, numbers unrounded."""
        names = list(self.columns)
        rows = [dict(zip(names, row, strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows, "notes": list(self.notes)}


def _shown(cell: Cell, form: str) -> str:
    if cell is None:
        return "–"
    return cell if isinstance(cell, str) else format(cell, form)


@dataclass(frozen=True)
class Plot:
    """Named series of points (x, y), or bars if `bars`. `labels` stand beside the points of a series, and
    `names` are what hovering over them shows instead; `boxes` are rectangles (x0, y0, x1, y1) that stand for what is
    accepted.
    """

    title: str
    x: str
    y: str
    series: Mapping[str, tuple[Sequence[Any], Sequence[float]]]
    bars: bool = False
    lines: bool = True
    log: bool = False
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    boxes: Sequence[tuple[float, float, float, float]] = ()


@dataclass(frozen=True)
class Section:
    """A section of the paper: what it claims and what the model says about it."""

    title: str
    tables: Sequence[Table]
    plots: Sequence[Plot]
    verdicts: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Everything but the plots, as JSON types."""
        return {
            "title": self.title,
            "tables": [table.to_json() for table in self.tables],
            "verdicts": list(self.verdicts),
        }


def compared(value: float, quoted: float, source: str) -> str:
    """How a ratio stands to a quoted one: ``2.72× is 12 % below the quoted 3.1× (…)``."""
    percent = (value / quoted - 1) * 100
    distance = "equals" if abs(percent) < 0.5 else f"is {abs(percent):.0f} % {'above' if percent > 0 else 'below'}"
    return f"{value:.2f}× {distance} the quoted {quoted:g}× ({source})"
