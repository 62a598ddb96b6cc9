"""A report as one HTML page: what a program costs at each level, and where; see `docs/reports.md`.

Needs the extra ``report`` (plotly). Each figure has a module, which gives its traces; `page.js` draws them and follows
what the reader chooses.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from mmac.isa.files import write_file
from mmac.isa.program import Program
from mmac.runtime.page import graph, layers, occupancy, roofline, tradeoff
from mmac.runtime.page.document import document
from mmac.runtime.page.subject import Subject
from mmac.runtime.targets import CONSTANT_SETS, Target

__all__ = ["render_page", "write_page"]


def write_page(
    program: Program,
    path: str | os.PathLike[str],
    target: Target | str | None = None,
    mac: str | None = None,
    constants: str = CONSTANT_SETS[0],
    *,
    level: int | str | None = None,
    host_ms: Sequence[float] | None = None,
) -> None:
    """Write the report of a program to an HTML file of about 5 MB that can be opened without a network.

    The same arguments give the same bytes. Whatever was at `path` stays there if anything goes wrong.

    Args:
        program: a verified program.
        path: the file.
        target: the hardware, or its name or file; default: the target that the program was compiled for.
        mac: kind of cell; default: the target's own.
        constants: set of energy constants to show first; the page has both.
        level: position or name (``8x2``) of the level to show first; default: the highest.
        host_ms: measured time of the host segments, one per level of the program.

    Raises:
        UsageError: plotly is not installed; a target, cell, level or set of constants that does not exist; a file that
            cannot be written.
        ResourceError: the disk is full, or the program is too large to be analysed.
    """
    write_file(path, render_page(program, target, mac, constants, level=level, host_ms=host_ms))


def render_page(
    program: Program,
    target: Target | str | None = None,
    mac: str | None = None,
    constants: str = CONSTANT_SETS[0],
    *,
    level: int | str | None = None,
    host_ms: Sequence[float] | None = None,
) -> str:
    """The HTML of `write_page`, with its arguments and errors."""
    first = len(program.plan.levels) - 1 if level is None else program.plan.index(str(level))
    subject = Subject.of(program, target, mac, constants, host_ms)
    sections = (tradeoff, roofline, layers, occupancy, graph)
    return document(subject, [section.figure(subject) for section in sections], first)
