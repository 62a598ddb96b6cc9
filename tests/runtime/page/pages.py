"""Takes pages apart again, and names that a page must show as they are."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>document.title=2</script>",
    '<img src=x onerror="document.title=3">',
    "<b>x<a href='javascript:alert(4)'>y</a>",
    "<!--<script>",
    "&lt;i&gt; &amp; &",
    "a<br>b<sub>c</sub>",
    "%{customdata[1]} %{y:.2f} {level} $x^2$",
    "'\"`\\",
)


class Outline(HTMLParser):
    """Elements and texts of a document, scripts apart."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts.append(data)
        else:
            self.texts.append(data)


def contents(html: str) -> dict[str, Any]:
    """What the page's script gets: tables and figures."""
    found = re.findall(r'<script type="application/json" id="page">(.*?)</script>', html, re.DOTALL)
    assert len(found) == 1
    document: dict[str, Any] = json.loads(found[0])
    return document


def choices(html: str) -> Iterator[dict[str, str]]:
    """Every combination of what the reader can choose."""
    options = {
        name: re.findall(r'<option value="([^"]*)"', text)
        for name, text in re.findall(r'<select name="(\w+)"[^>]*>(.*?)</select>', html)
    }
    for values in itertools.product(*options.values()):
        yield dict(zip(options, values, strict=True))


def bound(page: dict[str, Any], figure: dict[str, Any], choice: dict[str, str]) -> dict[str, Any]:
    """A figure as the page's script draws it."""
    drawn: dict[str, Any] = json.loads(json.dumps({"data": figure["data"], "layout": figure["layout"]}))
    for path, binding in figure["bindings"].items():
        templates = [binding] if isinstance(binding, str) else binding
        columns = [page["tables"][template.format_map(choice)] for template in templates]
        *keys, last = path.split(".")
        place: Any = drawn
        for key in keys:
            place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
        place[last] = columns[0] if isinstance(binding, str) else [list(row) for row in zip(*columns, strict=True)]
    return drawn
