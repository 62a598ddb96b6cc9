"""Sections on the terminal, as JSON, and as a page."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from examples.paper.sections import Section
from mmac.cli import output
from mmac.isa.files import write_file


def show(found: Sequence[Section]) -> None:
    """Print everything but the plots."""
    for section in found:
        print(f"\n## {section.title}")
        for table in section.tables:
            print(f"\n{table.title}")
            output.table(list(table.columns), table.text(), left=table.left)
            for note in table.notes:
                print(f"  {note}")
        print()
        for verdict in section.verdicts:
            print(f"* {verdict}")


def save(found: Sequence[Section], title: str, about: str, folder: Path, name: str) -> None:
    """Write NAME.json and, if plotly is installed, the page NAME.html into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"about": about, "sections": [section.to_json() for section in found]}
    path = folder / f"{name}.json"
    write_file(path, json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    print(f"\n{path}")
    try:
        from examples.paper.page import page
    except ImportError:
        print("note: no page with plots; that needs: pip install plotly", file=sys.stderr)
        return
    write_file(folder / f"{name}.html", page(title, about, found))
    print(folder / f"{name}.html")
