"""Limits that change from run to run: their file, and the levels that a governor chooses under them.

The file is CSV. Its first line names the columns, some of ``max_latency_ms``, ``max_energy_mj`` and ``min_sqnr_db``
(the fields of `Policy`); every other line holds the limits of one run, an empty cell is none. Empty lines and lines
that begin with ``#`` do not count.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from mmac.isa.errors import MalformedError, ResourceError, UsageError
from mmac.isa.program import Port, Prediction
from mmac.runtime.governor import Governor, Policy
from mmac.runtime.memory import Array
from mmac.runtime.ports import check_inputs

COLUMNS = tuple(field.name for field in fields(Policy))
"""What limits can be about."""

_ALLOWED = f"CSV with a first line of {', '.join(COLUMNS)} or some of them"
_SHOWN = 60
"""Characters of a wrong cell in an error."""


@dataclass(frozen=True)
class Limits:
    """What one run has to keep to, and where that is written."""

    where: str
    policy: Policy


@dataclass(frozen=True)
class Choice:
    """What a governor chose for one run; `switched` tells whether the run before was at another level."""

    policy: Policy
    level: int
    prediction: Prediction
    switched: bool


def read_limits(path: str | os.PathLike[str]) -> list[Limits]:
    """Read a file of limits, one entry per run.

    Raises:
        UsageError: the file cannot be read.
        MalformedError: it is not of that form, or has no runs; names the line.
        ResourceError: it does not fit in memory.
    """
    where = str(path)
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(where, f"cannot be read ({error.strerror})", _ALLOWED) from None
    except UnicodeDecodeError:
        raise MalformedError(where, "not text in UTF-8", _ALLOWED) from None
    except MemoryError:
        raise ResourceError(where, "does not fit in memory", hint="give fewer lines") from None
    rows = _rows(text, where)
    place, names = next(rows, (where, []))
    _check_header(place, names)
    limits = [Limits(place, _policy(place, names, cells)) for place, cells in rows]
    if not limits:
        raise MalformedError(where, "no runs", "at least one line of limits after the first")
    return limits


def choose_levels(governor: Governor, limits: Sequence[Limits]) -> list[Choice]:
    """The level of each run.

    Raises:
        UsageError: limits that no level keeps to; says where they are written, and what the closest level costs.
    """
    choices: list[Choice] = []
    for entry in limits:
        try:
            level = governor.choose(entry.policy)
        except UsageError as error:
            raise UsageError(f"{entry.where}: {error.where}", error.found, error.allowed, error.hint) from None
        switched = bool(choices) and choices[-1].level != level
        choices.append(Choice(entry.policy, level, governor.predictions[level], switched))
    return choices


def samples_of(ports: Sequence[Port], arrays: Mapping[str, Array]) -> list[dict[str, Array]]:
    """Cut arrays that hold several inputs one after the other (along axis 0) into the inputs of single runs.

    Raises:
        UsageError: a name that is not an input.
        MalformedError: an array of another shape or type, or different numbers of inputs.
    """
    pieces = {name: array[None] for name, array in arrays.items()}
    for port in ports:
        array = arrays.get(port.name)
        if array is not None and port.shape and array.shape[1:] == port.shape[1:] and array.ndim:
            runs, rest = divmod(len(array), port.shape[0]) if port.shape[0] else (0, 1)
            if runs and not rest:
                pieces[port.name] = array.reshape(runs, *port.shape)
    counts = {name: len(array) for name, array in pieces.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        raise MalformedError("inputs", f"different numbers of them: {found}", "as many of each input")
    samples = [{name: array[i, ...] for name, array in pieces.items()} for i in range(max(counts.values(), default=1))]
    check_inputs(ports, samples[0])
    return samples


def _rows(text: str, where: str) -> Iterator[tuple[str, list[str]]]:
    """Lines that count, cut into cells, each with its place."""
    lines = (line if not line.lstrip().startswith("#") else "\n" for line in text.splitlines(keepends=True))
    reader = csv.reader(lines, strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise MalformedError(f"{where}:{reader.line_num}", f"not CSV ({error})", _ALLOWED) from None
        cells = [cell.strip() for cell in cells]
        if cells and cells != [""]:
            yield f"{where}:{reader.line_num}", cells


def _check_header(place: str, names: Sequence[str]) -> None:
    if not names:
        raise MalformedError(place, "empty", _ALLOWED)
    for number, name in enumerate(names):
        if name not in COLUMNS:
            raise MalformedError(place, f"no column can be called {_short(name)}", _ALLOWED)
        if name in names[:number]:
            raise MalformedError(place, f"column {name} is there twice", "each column once")


def _policy(place: str, names: Sequence[str], cells: Sequence[str]) -> Policy:
    if len(cells) != len(names):
        raise MalformedError(place, f"{len(cells)} cells", f"{len(names)}, as the first line has; an empty one is none")
    values = {name: _number(place, name, cell) for name, cell in zip(names, cells, strict=True) if cell}
    try:
        return Policy(**values)
    except UsageError as error:
        raise MalformedError(f"{place}: {error.where}", error.found, error.allowed) from None


def _number(place: str, name: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise MalformedError(f"{place}: {name}", _short(cell), "a number, or nothing for no limit") from None


def _short(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN else repr(text[: _SHOWN - 1]) + "…"
