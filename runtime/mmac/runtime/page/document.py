"""The HTML document around the figures: one file that needs nothing else, and may fetch nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from mmac.isa.errors import UsageError
from mmac.runtime.page import summary
from mmac.runtime.page.figure import Figure, Tables, select
from mmac.runtime.page.subject import Subject
from mmac.runtime.page.text import markup, script_json

_PACKAGE = files(__package__)


def plotly_script() -> str:
    """plotly.js, from the Python package.

    Raises:
        UsageError: the package is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        found = "reports are drawn by plotly, which is not installed"
        raise UsageError("report", found, hint="pip install plotly") from None
    return str(get_plotlyjs())


def document(subject: Subject, figures: Sequence[Figure], level: int) -> str:
    """Put the page together.

    Args:
        subject: what it is about.
        figures: its sections, from top to bottom.
        level: position of the level that it shows first.

    Raises:
        UsageError: plotly is not installed.
    """
    scripts = [plotly_script(), (_PACKAGE / "page.js").read_text("utf-8")]
    report = subject.report
    title = f"{report.model} on {report.target}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">
<meta name="viewport" content="width=device-width">
<title>{markup(title)}</title>
<link rel="icon" href="data:,">
<style>{(_PACKAGE / "page.css").read_text("utf-8")}</style>
</head>
<body>
<header>
<b>{markup(report.model)}</b>
{_controls(subject, level)}
<span id="headline"></span>
<nav>{"".join(f'<a href="#{each.name}">{each.title}</a>' for each in figures)}</nav>
</header>
<main>
<h1>{markup(title)}</h1>
<p>One inference, predicted from program and target. Choose a level above or in the table.</p>
{summary.host_note(subject)}
<noscript><p>The figures need JavaScript.</p></noscript>
{summary.tables(subject)}
{"".join(map(_section, figures))}
</main>
<script type="application/json" id="page">{script_json(_contents(subject, figures))}</script>
<script>{scripts[0]}</script>
<script>{scripts[1]}</script>
</body>
</html>
"""


def _policy(scripts: Sequence[str]) -> str:
    """A content security policy: nothing from outside, and no script but these, whatever names come to contain."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    # plotly styles its elements, and makes images of figures
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _contents(subject: Subject, figures: Sequence[Figure]) -> Mapping[str, Any]:
    tables: Tables = subject.tables() | _headlines(subject)
    for figure in figures:
        tables |= figure.tables
    drawn = [
        {"name": each.name, "data": each.data, "layout": each.layout, "bindings": each.bindings} for each in figures
    ]
    return {"tables": tables, "figures": drawn}


def _headlines(subject: Subject) -> Tables:
    return {
        f"headline/{name}/{number}": f"γ {level.gamma}: {level.latency_ms:.4g} ms, {level.energy_mj:.4g} mJ"
        for name, report in subject.reports.items()
        for number, level in enumerate(report.levels)
    }


def _controls(subject: Subject, level: int) -> str:
    levels = {str(number): row.level for number, row in enumerate(subject.report.levels)}
    choices = {
        "level": levels,
        "constants": {name: name.replace("_", " ") for name in subject.reports},
    }
    return "\n".join(select(name, options, str(level)) for name, options in choices.items())


def _section(figure: Figure) -> str:
    return f"""<section>
<h2 id="{figure.name}">{figure.title}</h2>
<p>{figure.note}</p>
<div class="scroll"><div id="figure-{figure.name}" style="min-width: {figure.min_width}px"></div></div>
</section>
"""
