"""The sections as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log10
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from examples.paper.labels import Point, sides
from examples.paper.sections import Plot, Section, Table

STYLE = """
body { font-family: sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 0.85rem; margin: 0.5rem 0; }
.scroll { overflow-x: auto; }
.scroll > .plot { min-width: 60rem; }
td, th { padding: 0.2rem 0.6rem; border-bottom: 1px solid #ddd; text-align: right; }
td.words, th.words { text-align: left; }
.notes { font-size: 0.8rem; color: #555; }
.verdict { border-left: 4px solid #36c; padding-left: 0.8rem; }
"""


def page(title: str, about: str, sections: Sequence[Section]) -> str:
    """The HTML text."""
    body = "\n".join(_section(section, number) for number, section in enumerate(sections))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head>\n"
        f"<body><h1>{escape(title)}</h1><p>{escape(about)}</p>\n{body}\n</body></html>\n"
    )


def _section(section: Section, number: int) -> str:
    verdicts = "".join(f'<p class="verdict">{escape(text)}</p>' for text in section.verdicts)
    plots = "\n".join(_figure(plot, f"plot-{number}-{i}") for i, plot in enumerate(section.plots))
    tables = "\n".join(_table(table) for table in section.tables)
    return f"<h2>{escape(section.title)}</h2>\n{verdicts}\n{plots}\n{tables}"


def _table(table: Table) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        words = [' class="words"' if _holds_words(table, i) else "" for i in range(len(cells))]
        return "<tr>" + "".join(f"<{tag}{w}>{escape(c)}</{tag}>" for w, c in zip(words, cells, strict=True)) + "</tr>"

    rows = "\n".join(line("td", row) for row in table.text())
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return (
        f'<h3>{escape(table.title)}</h3>\n<div class="scroll"><table>{line("th", list(table.columns))}\n'
        f"{rows}</table></div>\n"
        f'<ul class="notes">{notes}</ul>'
    )


def _holds_words(table: Table, column: int) -> bool:
    return list(table.columns.values())[column] == ""


WIDTH_PIXELS, HEIGHT_PIXELS = 850, 480
"""What a plot has at least between its axes, and its height with title and axes."""

TICKS = [step * 10.0**power for power in range(-3, 7) for step in (1, 2, 5)]
"""Of logarithmic axes."""


def _label_sides(plot: Plot, title: str) -> list[str]:
    """Where the labels of a series go."""
    points = {
        name: [(log10(x), log10(y)) if plot.log else (x, y) for x, y in zip(*both, strict=True)]
        for name, both in plot.series.items()
    }
    everything = [point for series in points.values() for point in series]
    across, up = ((min(values), max(values)) for values in zip(*everything, strict=True))

    def pixels(point: Point) -> Point:
        return (
            WIDTH_PIXELS * (point[0] - across[0]) / (across[1] - across[0] or 1),
            HEIGHT_PIXELS / 2 * (point[1] - up[0]) / (up[1] - up[0] or 1),
        )

    others = [pixels(point) for name, series in points.items() if name != title for point in series]
    return sides([pixels(point) for point in points[title]], others)


def _figure(plot: Plot, name: str) -> str:
    figure = go.Figure()
    for title, (xs, ys) in plot.series.items():
        trace: dict[str, Any] = {"name": title, "x": list(xs), "y": list(ys)}
        if plot.bars:
            figure.add_bar(**trace)
        else:
            labels = plot.labels.get(title)
            if labels:
                trace |= {"text": labels, "textposition": _label_sides(plot, title), "cliponaxis": False}
                trace |= {"hovertext": plot.names.get(title, labels)}
            mode = "lines+markers" if plot.lines else "markers+text" if labels else "markers"
            figure.add_scatter(**trace, mode=mode)
    for x0, y0, x1, y1 in plot.boxes:
        figure.add_shape(type="rect", x0=x0, y0=y0, x1=x1, y1=y1, line_width=0, fillcolor="rgba(51,102,204,0.12)")
    legend = {"orientation": "h", "x": 0, "yref": "container", "y": 0, "yanchor": "bottom"}
    figure.update_layout(title=plot.title, template="plotly_white", height=HEIGHT_PIXELS, legend=legend)
    logarithmic = {"type": "log", "tickvals": TICKS}
    figure.update_xaxes(title=plot.x, **logarithmic if plot.log and not plot.lines else {})
    figure.update_yaxes(title=plot.y, **logarithmic if plot.log else {})
    config = {"responsive": True, "displaylogo": False}
    html = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=config)
    return f'<div class="scroll"><div class="plot">{html}</div></div>'
