"""What the commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from mmac.runtime.report import Report

Step = Callable[[str, int, int], None]
"""Called with what is being done now, its number, and how many there are."""

WIDTH = 100
"""Characters of a line where nothing else is known."""

NAME_WIDTH = 24
"""Names get at least so many characters; longer ones are shortened in the middle."""

LONG_NAME_WIDTH = 40
"""The same where shortening them is not enough."""

SENTENCE_WIDTH = 34
"""The same of sentences, which are not shortened but wrapped."""

PATIENCE_S = 1.0
"""What takes less has no progress bar."""


def print_json(document: Mapping[str, Any]) -> None:
    """Print the one JSON object of ``--json``."""
    write_json(document, None)


def write_json(document: Mapping[str, Any], path: str | None) -> None:
    """Write a result as one JSON object, to stdout if there is no path."""
    write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", path)


def printable(text: str) -> str:
    """`text` on one line: newlines, tabs and what else would steer a terminal are written as `repr` writes them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shortened(name: str, width: int) -> str:
    """`name` in so many characters, without its middle if it is longer."""
    if len(name) <= width:
        return name
    end = width // 2
    return f"{name[: width - end - 1]}…{name[-end:]}"


def room() -> int:
    """Characters in a line: of the terminal, or as the variable COLUMNS says; 100 if there is neither."""
    return shutil.get_terminal_size((WIDTH, 24)).columns


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: int = 1,
    total: Sequence[str] | None = None,
    wrapped: bool = False,
) -> None:
    """Print a table that fits into `room`: framed on a terminal that is wide enough, plainly aligned otherwise.

    If it is too wide, words are shortened in the middle; if that is not enough, the columns of numbers follow each
    other in several tables.

    Args:
        columns: headings; empty ones for a list of names and numbers.
        rows: cells.
        left: so many columns from the left hold words, the others numbers, which are aligned to the right.
        total: a last row that sums up the others.
        wrapped: the last column holds sentences, which take several lines if they are long.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    lines = [list(columns)] * any(columns) + [*rows, *([list(total)] if total else ())]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    if sys.stdout.isatty() and sum(widths) + 3 * len(widths) < room():
        _framed(columns, rows, left, total)
        return
    widths = _fitted(widths, left, wrapped)
    for block in _blocks(widths, left):
        for line in lines:
            for part in _parts(line, widths, left, wrapped):
                cells = [part[i].ljust(widths[i]) if i < left else part[i].rjust(widths[i]) for i in block]
                click.echo("  ".join(cells).rstrip())


def _fitted(widths: list[int], left: int, wrapped: bool) -> list[int]:
    """Widths of which those of words, sentences and then the longest first, are less if the table is too wide."""
    widths = list(widths)
    excess = sum(widths) + 2 * (len(widths) - 1) - room()
    least = [min(width, NAME_WIDTH) for width in widths[:left]]
    if wrapped:
        least[-1] = min(widths[left - 1], SENTENCE_WIDTH)
    if excess > sum(widths[:left]) - sum(least):  # there will be several tables, so there is room for names
        least = [min(width, LONG_NAME_WIDTH) for width in widths[:left]]
    order = sorted(range(left), key=lambda column: (not (wrapped and column == left - 1), -widths[column]))
    for column in order:
        less = max(0, min(excess, widths[column] - least[column]))
        widths[column], excess = widths[column] - less, excess - less
    return widths


def _blocks(widths: Sequence[int], left: int) -> Iterator[list[int]]:
    """Positions of the columns that are printed side by side; those of words are always among them."""
    words = list(range(left))
    block = list(words)
    for column in range(left, len(widths)):
        if len(block) > left and sum(widths[i] + 2 for i in block) + widths[column] > room():
            yield block
            block = list(words)
        block.append(column)
    yield block


def _parts(line: Sequence[str], widths: Sequence[int], left: int, wrapped: bool) -> Iterator[list[str]]:
    """The lines that a row takes, their words shortened."""
    cells = [
        shortened(cell, width) if i < left else cell for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    if not wrapped:
        yield cells
        return
    first, *others = textwrap.wrap(line[-1], widths[-1], break_on_hyphens=False) or [""]
    yield [*cells[:-1], first]
    for other in others:
        yield [*[""] * (len(cells) - 1), other]


def _framed(
    columns: Sequence[str], rows: Sequence[Sequence[str]], left: int, total: Sequence[str] | None = None
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    framed = Table(show_header=any(columns))
    for position, column in enumerate(columns):
        framed.add_column(column, justify="left" if position < left else "right", no_wrap=True)
    for row in rows:
        framed.add_row(*(Text(cell) for cell in row))
    if total:
        framed.add_section()
        framed.add_row(*(Text(cell) for cell in total))
    Console(file=sys.stdout).print(framed)


@contextlib.contextmanager
def progress(title: str) -> Iterator[Step]:
    """A progress bar on stderr if the context lasts longer than a moment and stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    # without markup: file names may have brackets
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(title, total=None)
    start = threading.Timer(PATIENCE_S, bar.start)
    start.start()
    try:
        yield lambda what, number, count: bar.update(
            task, description=f"{title}: {what}", completed=number, total=count
        )
    finally:
        start.cancel()
        start.join()
        bar.stop()


def note(text: str) -> None:
    """Say something on stderr that is good to know."""
    click.echo(f"note: {printable(text)}", err=True)


def warning(text: str) -> None:
    """Say something on stderr that the user should know."""
    click.echo(f"warning: {printable(text)}", err=True)


def error(text: str) -> None:
    """Say on stderr what went wrong."""
    click.echo(f"error: {printable(text)}", err=True)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Stands in for `warnings.showwarning`."""
    warning(" ".join(str(message).split()))


def tolerate_narrow_encodings() -> None:
    """Let characters that the terminal's encoding lacks (α, ×) become question marks instead of errors."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def forget_stdout() -> None:
    """Throw away what stdout still holds, so that the interpreter does not fail again when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def write_text(text: str, path: str | None) -> None:
    """Write a result to a file, or to stdout if there is no path."""
    if path is None:
        click.echo(text, nl=False)
        return
    from mmac.isa.files import write_file

    write_file(path, text)


@contextlib.contextmanager
def into(path: str | None) -> Iterator[None]:
    """Let what is printed in the context go to a file, or to stdout if there is no path."""
    if path is None:
        yield
        return
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        yield
    write_text(text.getvalue(), path)


def print_program(about: Mapping[str, Any]) -> None:
    """Print what `mmac.compiler.pipeline.describe` says about a program."""
    low, high = about["weight_bytes"][0], about["weight_bytes"][-1]
    rows = [
        ("instructions", f"{about['instructions']:,}"),
        ("code bytes", f"{about['code_bytes']:,}"),
        ("weight bytes", f"{low:,} … {high:,}"),
        ("DRAM bytes", f"{about['dram_bytes']:,}"),
        ("multiply-accumulates", f"{about['macs']:,}"),
        ("array layers", str(about["array_layers"])),
        ("vector operations", str(about["vector_ops"])),
        ("moves", str(about["moves"])),
        ("host segments", str(len(about["host_segments"]))),
    ]
    table(("", ""), rows)
    for number, nodes in enumerate(about["host_segments"]):
        for name, reason in nodes:
            click.echo(printable(f"host segment {number}: {name}: {reason}"))


def level_table(report: Report, other: Report, ran: Collection[str] = ()) -> None:
    """Print what one inference costs at each level.

    The SQNR on calibration samples is shown if the program knows it. `other` is the same report with the other set of
    energy constants; its energy is shown where it differs, and the host's time where there is any, of the levels that
    `ran`.
    """
    columns = {
        "level": [level.level for level in report.levels],
        "α": [str(level.alpha) for level in report.levels],
        "β": [str(level.beta) for level in report.levels],
        "γ": [str(level.gamma) for level in report.levels],
        "cycles": [f"{level.cycles:,}" for level in report.levels],
        "latency ms": [f"{level.latency_ms:.4f}" for level in report.levels],
        "energy mJ": [f"{level.energy_mj:.4f}" for level in report.levels],
        f"{other.constants} mJ": [f"{level.energy_mj:.4f}" for level in other.levels],
        "DRAM bytes": [f"{level.dram_bytes:,}" for level in report.levels],
        "weight bytes": [f"{level.weight_bytes:,}" for level in report.levels],
        "util.": [f"{level.utilization:.1%}" for level in report.levels],
        "SQNR dB": ["" if level.sqnr_db is None else f"{level.sqnr_db:.2f}" for level in report.levels],
        "host ms": [f"{level.host_ms:.3f}" if level.level in ran else "–" for level in report.levels],
    }
    if columns[f"{other.constants} mJ"] == columns["energy mJ"]:
        del columns[f"{other.constants} mJ"]
    if not any(columns["SQNR dB"]):
        del columns["SQNR dB"]
    if not any(level.host_ms for level in report.levels):
        del columns["host ms"]
    table(list(columns), list(zip(*columns.values(), strict=True)))
    low, high = (f"{report.levels[i].weights_from_dram_bytes:,}" for i in (0, -1))
    click.echo(
        f"weights from DRAM in every inference: {low if low == high else f'{low} … {high}'} bytes; "
        "what stays on chip is fetched once"
    )
