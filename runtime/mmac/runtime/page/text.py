"""Names come from model files, which anyone can have written: here they are made safe for what shows them.

Everything that a page says about a program goes through one of these functions, so that it is read as text and never
as markup, by the browser or by plotly.
"""

from __future__ import annotations

import html
import json
from typing import Any


def printable(text: str) -> str:
    """Text with everything that is not printed (control characters, text direction, halves of pairs) as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, limit: int) -> str:
    """The end of a text that is too long, which says more than the beginning of a path does."""
    return text if len(text) <= limit else "…" + text[len(text) - limit + 1 :]


def markup(text: str) -> str:
    """Text for HTML: contents of elements and attributes in double quotes."""
    return html.escape(printable(text))


def label(text: str, limit: int = 200) -> str:
    """Text for plotly, whose labels understand some tags and entities of HTML."""
    return html.escape(shortened(printable(text), limit), quote=False)


def script_json(value: Any) -> str:
    """JSON that cannot end the script element that it stands in, the same bytes for the same value."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
