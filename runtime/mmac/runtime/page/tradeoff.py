"""What a level costs: latency, energy and weight bytes against the term-pair budget γ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmac.runtime.page.figure import PLAIN, Figure, axis, basic_layout, legend_below, rounded
from mmac.runtime.page.subject import Subject
from mmac.runtime.page.text import label
from mmac.runtime.report import LevelReport

NOTE = "Each point is a level of the one program. What accuracy it has depends on the model and on data."
COLOURS = ("#1f5fa8", "#e08a00", "#3c9a5f")

MIN_WIDTH = 840
"""Of the three curves in pixels."""

MOST_TICKS = 20
"""Names of levels that have room beside each other on an axis from 0."""


def figure(subject: Subject) -> Figure:
    """Three curves side by side."""
    levels = subject.report.levels
    data = [_curve(subject, "x", "y", "latency", [level.latency_ms for level in levels], COLOURS[0], "%{y:.4~g} ms")]
    for number, (name, report) in enumerate(subject.reports.items()):
        values = [level.energy_mj for level in report.levels]
        title = f"energy by {name.replace('_', ' ')} constants"
        curve = _curve(subject, "x2", "y2", title, values, COLOURS[number % 3], "%{y:.4~g} mJ")
        # the sets may well agree, so one shows through the other
        line = curve["line"] | {"dash": "dash" if number else "solid", "width": 2 if number else 4}
        data.append(curve | {"showlegend": True, "line": line})
    data.append(
        _curve(subject, "x3", "y3", "weights", [level.weight_bytes for level in levels], COLOURS[2], "%{y:,d} bytes")
    )
    x_axis: dict[str, Any] = {"rangemode": "tozero", "tickangle": -90, "tickfont": {"size": 11}} | _ticks(levels)
    titles = {"": "latency ms", "2": "energy mJ", "3": "weight bytes"}
    drawn = basic_layout(
        370,
        hovermode="closest",
        xaxis=axis(domain=[0, 0.29], **x_axis),
        xaxis2=axis(domain=[0.355, 0.645], **x_axis),
        xaxis3=axis(domain=[0.71, 1], **x_axis),
        yaxis=axis(rangemode="tozero", **PLAIN),
        yaxis2=axis(rangemode="tozero", anchor="x2", **PLAIN),
        yaxis3=axis(rangemode="tozero", anchor="x3"),
        annotations=[
            {"text": text, "xref": f"x{number} domain", "yref": "paper", "x": 0, "y": 1.06, "yanchor": "bottom",
             "showarrow": False, "font": {"size": 13}}
            for number, text in titles.items()
        ],
        legend=legend_below(),
    )  # fmt: skip
    return Figure("tradeoff", "Levels", NOTE, data, drawn, min_width=MIN_WIDTH)


def _ticks(levels: Sequence[LevelReport]) -> dict[str, Any]:
    """Levels by name on the axis of γ, those left out that are too near to another."""
    names: dict[int, list[str]] = {}
    for level in levels:
        names.setdefault(level.gamma, []).append(level.level)
    shown: list[int] = []
    for gamma in sorted(names):
        if not shown or gamma - shown[-1] >= max(names) / MOST_TICKS:
            shown.append(gamma)
    texts = [label(f"γ {gamma}: {', '.join(names[gamma])}", 20) for gamma in shown]
    return {"tickvals": shown, "ticktext": texts}


def _curve(
    subject: Subject, x_axis: str, y_axis: str, name: str, values: list[float], colour: str, form: str
) -> dict[str, Any]:
    levels = subject.report.levels
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [level.gamma for level in levels],
        "y": rounded(values),
        "xaxis": x_axis,
        "yaxis": y_axis,
        "name": name,
        "text": [label(level.level) for level in levels],
        "cliponaxis": False,
        "line": {"color": colour},
        "marker": {"size": 7},
        "hovertemplate": f"%{{text}}, γ = %{{x}}: {form}<extra></extra>",
        "showlegend": False,
    }
