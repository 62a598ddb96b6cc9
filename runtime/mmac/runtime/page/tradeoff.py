"""What a level costs: latency, energy and weight bytes against the term-pair budget γ."""

from __future__ import annotations

from typing import Any

from mmac.runtime.page.figure import Figure, axis, basic_layout, rounded
from mmac.runtime.page.subject import Subject
from mmac.runtime.page.text import label

NOTE = "Each point is a level of the one program. What accuracy it has depends on the model and on data."
COLOURS = ("#1f5fa8", "#e08a00", "#3c9a5f")


def figure(subject: Subject) -> Figure:
    """Three curves side by side."""
    levels = subject.report.levels
    data = [_curve(subject, "x", "y", "latency", [level.latency_ms for level in levels], COLOURS[0], "%{y:.4~g} ms")]
    for number, (name, report) in enumerate(subject.reports.items()):
        values = [level.energy_mj for level in report.levels]
        curve = _curve(subject, "x2", "y2", f"{name} constants", values, COLOURS[number % 3], "%{y:.4~g} mJ")
        # the sets may well agree, so one shows through the other
        line = curve["line"] | {"dash": "dash" if number else "solid", "width": 2 if number else 4}
        data.append(curve | {"showlegend": True, "line": line})
    data.append(
        _curve(subject, "x3", "y3", "weights", [level.weight_bytes for level in levels], COLOURS[2], "%{y:,d} bytes")
    )
    titles = {"": "latency ms", "2": "energy mJ", "3": "weight bytes"}
    drawn = basic_layout(
        340,
        hovermode="closest",
        xaxis=axis("γ", domain=[0, 0.29], rangemode="tozero"),
        xaxis2=axis("γ", domain=[0.355, 0.645], rangemode="tozero"),
        xaxis3=axis("γ", domain=[0.71, 1], rangemode="tozero"),
        yaxis=axis(rangemode="tozero"),
        yaxis2=axis(rangemode="tozero", anchor="x2"),
        yaxis3=axis(rangemode="tozero", anchor="x3"),
        annotations=[
            {"text": text, "xref": f"x{number} domain", "yref": "paper", "x": 0, "y": 1.06, "yanchor": "bottom",
             "showarrow": False, "font": {"size": 13}}
            for number, text in titles.items()
        ],
        legend={"x": 0.64, "xanchor": "right", "y": 0.03, "yanchor": "bottom"},
    )  # fmt: skip
    return Figure("tradeoff", "Levels", NOTE, data, drawn)


def _curve(
    subject: Subject, x_axis: str, y_axis: str, name: str, values: list[float], colour: str, form: str
) -> dict[str, Any]:
    levels = subject.report.levels
    return {
        "type": "scatter",
        "mode": "lines+markers+text",
        "x": [level.gamma for level in levels],
        "y": rounded(values),
        "xaxis": x_axis,
        "yaxis": y_axis,
        "name": name,
        "text": [label(level.level) for level in levels],
        "textposition": "top center",
        "textfont": {"size": 10, "color": "#555"},
        "cliponaxis": False,
        "line": {"color": colour},
        "marker": {"size": 7},
        "hovertemplate": f"%{{text}}, γ = %{{x}}: {form}<extra></extra>",
        "showlegend": False,
    }
