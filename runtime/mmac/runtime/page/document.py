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
    """The page about what a program costs.

    Args:
        subject: what it is about.
        figures: its sections, from top to bottom.
        level: position of the level that it shows first.

    Raises:
        UsageError: plotly is not installed.
    """
    report = subject.report
    levels = {str(number): row.level for number, row in enumerate(report.levels)}
    return page(
        report.model,
        f"{report.model} on {report.target}",
        f"""<p>One inference, predicted from program and target. Choose a level above or in the table.</p>
{summary.host_note(subject)}""",
        summary.tables(subject),
        [
            select("level", levels, str(level)),
            select("constants", {name: name.replace("_", " ") for name in subject.reports}),
        ],
        figures,
        subject.tables() | _headlines(subject),
        "headline/{constants}/{level}",
    )


def page(
    name: str,
    title: str,
    intro: str,
    tables: str,
    choices: Sequence[str],
    figures: Sequence[Figure],
    values: Tables,
    headline: str,
) -> str:
    """Put a page together.

    Args:
        name: of the model; untrusted text, as is the title.
        title: heading.
        intro: HTML below it.
        tables: HTML above the figures.
        choices: HTML of what the reader can choose, see `mmac.runtime.page.figure.select`.
        figures: sections, from top to bottom.
        values: what bindings refer to, beside what the figures bring.
        headline: binding of the text beside the choices.

    Raises:
        UsageError: plotly is not installed.
    """
    scripts = [plotly_script(), (_PACKAGE / "page.js").read_text("utf-8")]
    for each in figures:
        values = values | each.tables
    controls = "\n".join(choices)
    contents = {"headline": headline, "tables": values, "figures": list(map(_drawn, figures))}
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
<b>{markup(name)}</b>
{controls}
<span id="headline"></span>
<nav>{"".join(f'<a href="#{each.name}">{each.title}</a>' for each in figures)}</nav>
</header>
<main>
<h1>{markup(title)}</h1>
{intro}
<noscript><p>The figures need JavaScript.</p></noscript>
{tables}
{"".join(map(_section, figures))}
</main>
<script type="application/json" id="page">{script_json(contents)}</script>
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


def _drawn(figure: Figure) -> Mapping[str, Any]:
    return {"name": figure.name, "data": figure.data, "layout": figure.layout, "bindings": figure.bindings}


def _headlines(subject: Subject) -> Tables:
    return {
        f"headline/{name}/{number}": f"γ {level.gamma}: {level.latency_ms:.4g} ms, {level.energy_mj:.4g} mJ"
        for name, report in subject.reports.items()
        for number, level in enumerate(report.levels)
    }


def _section(figure: Figure) -> str:
    return f"""<section>
<h2 id="{figure.name}">{figure.title}</h2>
<p>{figure.note}</p>
<div class="scroll"><div id="figure-{figure.name}" style="min-width: {figure.min_width}px"></div></div>
</section>
"""
