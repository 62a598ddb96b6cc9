"""`mmac simulate`: what a program costs at each level, and what it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from mmac.cli import output
from mmac.cli.command import READS, WRITES, Command
from mmac.cli.layers import layer_table
from mmac.cli.parameters import ALL, json_option, require_plotly, target_option
from mmac.cli.programs import open_program
from mmac.isa.errors import UsageError

if TYPE_CHECKING:
    from mmac.isa.program import Program
    from mmac.runtime.arrays import Arrays
    from mmac.runtime.report import Report
    from mmac.runtime.targets import Target

CONSTANTS = ("first_principles", "paper")
ENGINES = ("fast", "reference", "cell")
"""`mmac.runtime.targets.CONSTANT_SETS` and `mmac.runtime.engines.ENGINES`, again: the help must not import numpy."""


@click.command(name="simulate", cls=Command, short_help="Report latency and energy of a program, and run it.")
@click.argument("program", type=READS, metavar="PROGRAM.mmac")
@click.option(
    "-i",
    "--input",
    "inputs",
    type=READS,
    metavar="[NAME=]FILE",
    multiple=True,
    help="NAME=FILE.npy or NAME=FILE.npz for one input, or FILE.npz with all of them; may be repeated.",
)
@click.option(
    "--level",
    metavar="N|AxB|full|all",
    help="Default: costs of all levels; with inputs, results of the highest.",
)
@click.option(
    "--engine", type=click.Choice(ENGINES), default=ENGINES[0], show_default=True, help="All give the same bits."
)
@click.option("--max-latency", type=float, metavar="MS", help="Choose the best level that is not slower.")
@click.option("--max-energy", type=float, metavar="MJ", help="Choose the best level that needs no more energy.")
@click.option(
    "-o", "--output", "out", type=WRITES, metavar="OUT.npz", help="The results: NAME or (of several levels) NAME@LEVEL."
)
@click.option(
    "--trace", type=WRITES, metavar="FILE.json", help="What happens when, for ui.perfetto.dev; see docs/traces.md."
)
@click.option(
    "--report",
    "page",
    type=WRITES,
    metavar="FILE.html",
    help="All this and the layers as a page with figures; see docs/reports.md.",
)
@click.option(
    "--mac", metavar="mmac|bmac|bmac_serial|pmac", help="Kind of cell, of those in the target; default: its own."
)
@click.option(
    "--constants",
    type=click.Choice(CONSTANTS),
    default=CONSTANTS[0],
    show_default=True,
    help="Energy constants; what differs by the other set is shown beside.",
)
@target_option
@click.option("--layers", is_flag=True, help="Costs of each layer too.")
@json_option
def command(
    program: str,
    inputs: Sequence[str],
    level: str | None,
    engine: str,
    max_latency: float | None,
    max_energy: float | None,
    out: str | None,
    trace: str | None,
    page: str | None,
    mac: str | None,
    constants: str,
    target: str | None,
    layers: bool,
    as_json: bool,
) -> None:
    """Report latency and energy of PROGRAM.mmac, and run it if there are inputs.

    Latency and energy are the hardware's and do not depend on data. Host segments are timed apart, on this computer, if
    there are inputs. In Python: mmac.runtime.Session and mmac.runtime.estimate.
    """
    if page:
        require_plotly()
    from mmac.runtime.compiled_for import machine_for
    from mmac.runtime.governor import best_level

    limited = _check_options(inputs, level, max_latency, max_energy, out)
    loaded = open_program(program)
    every = range(len(loaded.plan.levels))
    chosen = every if level in (None, ALL) else [loaded.plan.index(str(level))]
    machine = machine_for(loaded, target)
    costs, overflow = _analyse(loaded, machine, mac)
    if limited:
        best = best_level(costs(constants, every), max_latency, max_energy)
        chosen = [loaded.plan.index(best.level)]
    report, other = (costs(name, chosen) for name in sorted(CONSTANTS, key=lambda name: name != constants))
    ran = chosen if level is not None or limited else every[-1:]
    results: dict[str, Arrays] = {}
    host_ms: list[float] | None = None
    if inputs:
        results, host_ms = _run(loaded, inputs, ran, engine, machine, mac)
        report = report.with_host_ms([host_ms[position] for position in chosen])
        _save(results, out)
    elif loaded.host:
        output.warning("host segments are not timed without inputs (-i)")
    if trace:
        _trace(loaded, trace, machine, chosen[-1], mac)
    if page:
        _page(loaded, page, machine, mac, constants, chosen[-1], host_ms)
    if as_json:
        energies = {each.constants: [row.energy_mj for row in each.levels] for each in (report, other)}
        more = {"energy_mj_by_constants": energies, "overflow": overflow}
        output.print_json(_document(report, layers, results) | more)
    else:
        _print(report, other, layers, results, len(loaded.host), out)


def _analyse(
    program: Program, machine: Target, mac: str | None
) -> tuple[Callable[[str, Sequence[int]], Report], dict[str, tuple[int, int]]]:
    """A function from a set of constants and levels to their costs, and what does not fit on the target's part.

    The analysis is made once for all sets of constants, unlike by `mmac.runtime.estimate`.
    """
    from mmac.runtime.report import summarize
    from mmac.runtime.timing.analyse import analyse

    analysis = analyse(program, machine, mac)
    overflow = machine.overflow(mac)
    for name, (needed, available) in overflow.items():
        output.warning(
            f"an array of {mac} cells does not fit on the {machine.part.name}: it needs {needed:,} of {name}, "
            f"there are {available:,}"
        )
    return partial(summarize, analysis), overflow


def _check_options(
    inputs: Sequence[str], level: str | None, max_latency: float | None, max_energy: float | None, out: str | None
) -> bool:
    """Refuse options that contradict each other; whether there is a limit."""
    limited = max_latency is not None or max_energy is not None
    if max_latency is not None and max_energy is not None:
        raise UsageError("--max-latency and --max-energy", "both are given", "one of them")
    if limited and level is not None:
        raise UsageError("--level", "given together with a limit", "a level, or a limit that chooses one")
    if out and not inputs:
        raise UsageError("--output", "there is nothing to compute", "inputs as well (-i)")
    return limited


def _run(
    program: Program, inputs: Sequence[str], levels: Sequence[int], engine: str, machine: Target, mac: str | None
) -> tuple[dict[str, Arrays], list[float]]:
    """Outputs by name of the level, and milliseconds of the host segments for each level of the program."""
    from mmac.runtime.session import Session

    session = Session(program, engine, target=machine, mac=mac)
    arrays = _read_inputs(inputs)
    names = [port.name for port in session.get_outputs()]
    results: dict[str, Arrays] = {}
    with output.progress("simulate") as step:
        for number, level in enumerate(levels):
            name = str(program.plan.levels[level])
            step(name, number, len(levels))
            results[name] = dict(zip(names, session.run(names, arrays, level), strict=True))
    return results, session.host_ms


def _read_inputs(texts: Sequence[str]) -> Arrays:
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


def _trace(program: Program, path: str, machine: Target, level: int, mac: str | None) -> None:
    from mmac.runtime.trace import write_trace

    write_trace(program, path, machine, level, mac)
    output.note(f"{path} is the trace of level {program.plan.levels[level]}; ui.perfetto.dev opens it")


def _page(
    program: Program,
    path: str,
    machine: Target,
    mac: str | None,
    constants: str,
    level: int,
    host_ms: Sequence[float] | None,
) -> None:
    from mmac.runtime.page import write_page

    write_page(program, path, machine, mac, constants, level=level, host_ms=host_ms)
    output.note(f"{path} is the report; any browser opens it")


def _document(report: Report, layers: bool, results: Mapping[str, Arrays]) -> dict[str, Any]:
    """The report as JSON types; the host has a time at the levels that ran only."""
    document = report.to_json(layers)
    for level in document["levels"]:
        if level["level"] not in results:
            level["host_ms"] = None
    return document | ({"outputs": _describe(results)} if results else {})


def _describe(results: Mapping[str, Arrays]) -> list[dict[str, Any]]:
    return [
        {"level": level, "name": name, "dtype": str(array.dtype), "shape": list(array.shape)}
        for level, arrays in results.items()
        for name, array in arrays.items()
    ]


def _save(results: Mapping[str, Arrays], path: str | None) -> None:
    """Write results as NPZ: under their names, with the level added if there are several."""
    if path is None:
        return
    from mmac.isa.files import write_file
    from mmac.runtime.arrays import to_npz

    several = len(results) > 1
    named = {
        f"{name}@{level}" if several else name: array
        for level, arrays in results.items()
        for name, array in arrays.items()
    }
    write_file(path, to_npz(named))


def _print(
    report: Report, other: Report, layers: bool, results: Mapping[str, Arrays], host: int, out: str | None
) -> None:
    import numpy as np

    click.echo(f"{report.model} on {report.target}, {report.mac} cells, {report.constants} constants")
    output.level_table(report, other, results)
    if host:
        click.echo(f"latency and energy leave out {host} host segment{'s' * (host > 1)}, run by onnxruntime")
    if layers:
        layer_table(report)
    for level, arrays in results.items():
        for name, array in arrays.items():
            values = np.array2string(array.ravel(), 1000, 4, threshold=10, edgeitems=3)
            about = f"{array.dtype}[{','.join(map(str, array.shape))}]"
            click.echo(f"output {output.printable(name)} at {level}: {about} = {values}")
    if out:
        click.echo(f"results in {out}")
