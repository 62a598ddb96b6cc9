"""The result of a search as an HTML page: quality against cost, searched levels beside uniform ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from mmac.compiler.search.result import Found, LevelFound
from mmac.isa.files import write_file
from mmac.runtime.page.document import page
from mmac.runtime.page.figure import PLAIN, Figure, axis, basic_layout, legend_below, rounded, select
from mmac.runtime.page.text import label, markup

COLOURS = {"searched": "#1f5fa8", "uniform": "#e08a00"}
COSTS = {"latency_ms": "latency ms", "energy_mj": "energy mJ"}

NOTE = "Each point is a level of a program; up and to the left is better. Hovering shows its budgets."
INTRO = (
    "Signal-to-noise ratio (SQNR) at the outputs against the float model, on samples that nothing was fitted to. A "
    "uniform level has the same budgets in all layers but the first and last ones; a searched one has each layer's own."
)


def write_page(found: Found, path: str | os.PathLike[str]) -> None:
    """Write what a search found to an HTML file of about 5 MB that can be opened without a network.

    Raises:
        UsageError: plotly is not installed, or the file cannot be written.
        ResourceError: the disk is full.
    """
    write_file(path, render_page(found))


def render_page(found: Found) -> str:
    """The HTML of `write_page`, with its errors."""
    rows = {"searched": found.levels, "uniform": found.uniform}
    return page(
        found.model,
        f"{found.model} on {found.target}: chosen budgets",
        f"<p>{INTRO} Without dropping anything the 8-bit model has {found.whole_db:.1f} dB.</p>",
        _levels_table(rows) + _plans_table(found),
        [select("cost", COSTS)],
        [_front(rows)],
        {f"headline/{name}": "" for name in COSTS}
        | {
            f"{cost}/{kind}": rounded([getattr(row, cost) for row in levels])
            for cost in COSTS
            for kind, levels in rows.items()
        },
        "headline/{cost}",
    )


def sqnr_db(row: LevelFound) -> float:
    """As simulated, or as expected if it was not."""
    return row.predicted_db if row.sqnr_db is None else row.sqnr_db


def _front(rows: dict[str, list[LevelFound]]) -> Figure:
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": kind,
            "y": rounded([sqnr_db(row) for row in levels]),
            "text": [label(str(row.level)) for row in levels],
            "line": {"color": COLOURS[kind]},
            "marker": {"size": 8},
            "hovertemplate": "%{text}: %{x:.4~g}, %{y:.2f} dB",
        }
        for kind, levels in rows.items()
    ]
    drawn = basic_layout(
        420, hovermode="closest", xaxis=axis("cost", **PLAIN), yaxis=axis("SQNR dB"), legend=legend_below()
    )
    bindings = {f"data.{number}.x": f"{{cost}}/{kind}" for number, kind in enumerate(rows)}
    return Figure("front", "Quality against cost", NOTE, data, drawn, bindings=bindings)


def _levels_table(rows: dict[str, list[LevelFound]]) -> str:
    cells = [
        [_kind(kind, row), str(row.level), f"{row.latency_ms:.4f}", f"{row.energy_mj:.4f}", f"{sqnr_db(row):.2f}"]
        for kind, levels in rows.items()
        for row in levels
    ]
    return _table(["plans", "level", "latency ms", "energy mJ", "SQNR dB"], cells)


def _kind(kind: str, row: LevelFound) -> str:
    return kind if row.held_to is None else f"{kind}: held to {row.plan}"


def _plans_table(found: Found) -> str:
    names = [str(row.level) for row in found.levels]
    cells = [
        [name, *("all" if level == found.full[name] else str(level) for level in plan)]
        for name, plan in found.plans.items()
    ]
    return "<h3>α and β of each layer (all: drops nothing)</h3>" + _table(["layer", *names], cells)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "\n".join(f"<tr>{_cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table class="numbers"><tr>{_cells("th", head)}</tr>\n{body}</table></div>'


def _cells(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{markup(text)}</{tag}>" for text in texts)
