"""What ``mmac simulate`` runs: one input at some levels, or one after the other while limits switch the level."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from mmac.cli import output
from mmac.isa.errors import UsageError

if TYPE_CHECKING:
    from mmac.isa.plan import Level
    from mmac.runtime.arrays import Arrays
    from mmac.runtime.limits import Choice
    from mmac.runtime.session import Session

_LIMITS = {"max_latency_ms": "at most ms", "max_energy_mj": "at most mJ", "min_sqnr_db": "at least dB"}


@dataclass(frozen=True)
class Done:
    """What was run.

    Attributes:
        named: outputs as they go into a file: by name, with the level added if there are several.
        outputs: of each its name, the name of the level (None if it has several runs, one after the other), the array.
        ran: names of the levels that ran.
        host_ms: milliseconds of the host segments for each level of the program.
        run_ms: the same for each run, if levels were chosen for several.
    """

    named: Arrays = field(default_factory=dict)
    outputs: Sequence[tuple[str, str | None, Any]] = ()
    ran: frozenset[str] = frozenset()
    host_ms: Sequence[float] = ()
    run_ms: Sequence[float] | None = None


def run(session: Session, arrays: Arrays, levels: Sequence[int], choices: Sequence[Choice]) -> Done:
    """Run one input at some levels, or, if there are choices, inputs one after the other at the levels chosen."""
    known = [str(level) for level in session.program.plan.levels]
    results: list[tuple[str, str | None, Any]] = []
    if choices:
        named, run_ms = _run_choices(session, arrays, choices)
        results += [(name, None, array) for name, array in named.items()]
        return Done(named, results, frozenset(known[each.level] for each in choices), session.host_ms, run_ms)
    names = [port.name for port in session.get_outputs()]
    with output.progress("simulate") as step:
        for number, level in enumerate(levels):
            step(known[level], number, len(levels))
            outputs = session.run(names, arrays, level)
            results += [(name, known[level], array) for name, array in zip(names, outputs, strict=True)]
    named = {f"{name}@{level}" if len(levels) > 1 else name: array for name, level, array in results}
    return Done(named, results, frozenset(known[level] for level in levels), session.host_ms)


def read_inputs(texts: Sequence[str]) -> Arrays:
    """Arrays by input name out of ``NAME=FILE`` and ``FILE.npz`` texts."""
    from mmac.runtime.arrays import read_arrays

    found: Arrays = {}
    for text in texts:
        name, equals, path = text.partition("=")
        arrays = read_arrays(path if equals else text)
        if equals:
            if name not in arrays and len(arrays) != 1:
                raise UsageError(f"-i {text}", f"no array {name!r} in the file", ", ".join(arrays) or "none")
            arrays = {name: arrays.get(name, next(iter(arrays.values())))}
        if twice := found.keys() & arrays.keys():
            raise UsageError(f"-i {text}", f"input {min(twice)!r} is given twice", "each input once")
        found |= arrays
    return found


def _run_choices(session: Session, arrays: Arrays, choices: Sequence[Choice]) -> tuple[Arrays, list[float]]:
    """Run as many inferences as there are choices, on one input after the other, again from the first on if need be.

    Returns:
        The outputs of all runs, one after the other along axis 0, and the milliseconds of the host in each run.

    Raises:
        MmacError: as `mmac.runtime.limits.samples_of` and `mmac.runtime.Session.run`.
    """
    import numpy as np

    from mmac.runtime.limits import samples_of

    names = [port.name for port in session.get_outputs()]
    samples = samples_of(session.program.inputs, arrays)
    found: dict[str, list[Any]] = {name: [] for name in names}
    host_ms: list[float] = []
    with output.progress("simulate") as step:
        for number, choice in enumerate(choices):
            step(f"run {number + 1}", number, len(choices))
            results = session.run(names, samples[number % len(samples)], choice.level)
            for name, array in zip(names, results, strict=True):
                found[name].append(np.atleast_1d(array))
            host_ms.append(session.host_ms[choice.level])
    return {name: np.concatenate(runs) for name, runs in found.items()}, host_ms


def save(named: Arrays, path: str | None) -> None:
    """Write arrays as NPZ."""
    if path is None:
        return
    from mmac.isa.files import write_file
    from mmac.runtime.arrays import to_npz

    write_file(path, to_npz(named))


def runs_document(
    choices: Sequence[Choice], levels: Sequence[Level], host_ms: Sequence[float] | None
) -> dict[str, Any]:
    """The runs and their sums as JSON types; `host_ms` is None if nothing was run."""
    return {
        "runs": [
            {
                "run": number + 1,
                **dataclasses.asdict(choice.policy),
                "level": str(levels[choice.level]),
                **dataclasses.asdict(choice.prediction),
                "host_ms": None if host_ms is None else host_ms[number],
                "switched": choice.switched,
            }
            for number, choice in enumerate(choices)
        ],
        "switches": sum(choice.switched for choice in choices),
        "total_latency_ms": sum(choice.prediction.latency_ms for choice in choices),
        "total_energy_mj": sum(choice.prediction.energy_mj for choice in choices),
    }


def print_runs(choices: Sequence[Choice], levels: Sequence[Level], host_ms: Sequence[float] | None) -> None:
    """Print a table of the runs: their limits, the level chosen, and what it costs."""
    predictions = [choice.prediction for choice in choices]
    columns = {"run": [str(number + 1) for number in range(len(choices))]}
    for name, title in _LIMITS.items():
        given = [getattr(choice.policy, name) for choice in choices]
        if any(value is not None for value in given):
            columns[title] = ["" if value is None else f"{value:g}" for value in given]
    columns |= {
        "level": [str(levels[choice.level]) for choice in choices],
        "switch": ["yes" if choice.switched else "" for choice in choices],
        "latency ms": [f"{each.latency_ms:.4f}" for each in predictions],
        "energy mJ": [f"{each.energy_mj:.4f}" for each in predictions],
    }
    if predictions[0].sqnr_db is not None:
        columns["SQNR dB"] = [f"{each.sqnr_db:.2f}" for each in predictions]
    if host_ms is not None and any(host_ms):
        columns["host ms"] = [f"{ms:.3f}" for ms in host_ms]
    sums = {
        "run": "total",
        "switch": str(sum(choice.switched for choice in choices)),
        "latency ms": f"{sum(each.latency_ms for each in predictions):.4f}",
        "energy mJ": f"{sum(each.energy_mj for each in predictions):.4f}",
        "host ms": f"{sum(host_ms or ()):.3f}",
    }
    click.echo("runs, in their order:")
    rows = list(zip(*columns.values(), strict=True))
    output.table(list(columns), rows, total=[sums.get(name, "") for name in columns])
