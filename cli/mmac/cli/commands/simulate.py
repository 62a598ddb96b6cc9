"""`mmac simulate`: what a program costs at each level, and what it computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mmac.cli import output
from mmac.cli.parameters import json_option, target_option
from mmac.cli.programs import open_program
from mmac.isa.errors import UsageError

if TYPE_CHECKING:
    from mmac.compiler.files import Arrays
    from mmac.isa.program import Program
    from mmac.runtime.report import Report

ALL = "all"


@click.command(name="simulate", short_help="Report latency and energy of a program, and run it.")
@click.argument("program", metavar="PROGRAM.mmac")
@click.option(
    "-i",
    "--input",
    "inputs",
    metavar="[NAME=]FILE",
    multiple=True,
    help="NAME=FILE.npy or NAME=FILE.npz for one input, or FILE.npz with all of them; may be repeated.",
)
@click.option(
    "--level",
    metavar="N|AxB|full|all",
    help="Default: costs of all levels; with inputs, results of the highest.",
)
@click.option("--engine", default="fast", show_default=True, metavar="fast|reference", help="Both give the same bits.")
@click.option("--max-latency", type=float, metavar="MS", help="Choose the best level that is not slower.")
@click.option("--max-energy", type=float, metavar="MJ", help="Choose the best level that needs no more energy.")
@click.option("-o", "--output", "out", metavar="OUT.npz", help="The results, NAME or (of several levels) NAME@LEVEL.")
@click.option("--mac", metavar="mmac|bmac|pmac", help="Kind of cell; default: the target's.")
@click.option(
    "--constants",
    type=click.Choice(("first_principles", "paper")),
    default="first_principles",
    show_default=True,
    help="Set of energy constants.",
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
    mac: str | None,
    constants: str,
    target: str | None,
    layers: bool,
    as_json: bool,
) -> None:
    """Report latency and energy of PROGRAM.mmac, and run it if there are inputs.

    Latency and energy do not depend on data. In Python: mmac.runtime.Session and mmac.runtime.estimate.
    """
    from mmac.runtime.governor import best_level
    from mmac.runtime.report import estimate

    limited = _check_options(inputs, level, max_latency, max_energy, out)
    loaded = open_program(program)
    every = range(len(loaded.plan.levels))
    chosen = every if level in (None, ALL) else [loaded.plan.index(str(level))]
    report = estimate(loaded, target, chosen, mac, constants)
    if limited:
        best = best_level(report, max_latency, max_energy)
        chosen = [loaded.plan.index(best.level)]
        report = estimate(loaded, target, chosen, mac, constants)
    document: dict[str, Any] = {}
    if inputs:
        ran = chosen if level is not None or limited else every[-1:]
        results, host_ms = _run(loaded, inputs, ran, engine)
        report = report.with_host_ms([host_ms[position] for position in chosen])
        document["outputs"] = _describe(results)
        _save(results, out)
    elif loaded.host:
        output.warning(f"{len(loaded.host)} host segments are not timed without inputs (-i)")
    document = report.to_json(layers=layers) | document
    if as_json:
        output.print_json(document)
    else:
        _print(report, document, layers, out)


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
    program: Program, inputs: Sequence[str], levels: Sequence[int], engine: str
) -> tuple[dict[str, Arrays], list[float]]:
    """Outputs by name of the level, and milliseconds of the host segments for each level of the program."""
    from mmac.runtime.session import Session

    session = Session(program, engine)
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
    from mmac.compiler.files import read_arrays

    found: Arrays = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals:
            found |= read_arrays(text)
            continue
        arrays = read_arrays(path)
        if name not in arrays and len(arrays) != 1:
            raise UsageError(f"-i {text}", f"no array {name!r} in the file", ", ".join(arrays) or "none")
        found[name] = arrays.get(name, next(iter(arrays.values())))
    return found


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
    from mmac.compiler.files import to_npz
    from mmac.isa.files import write_file

    several = len(results) > 1
    named = {
        f"{name}@{level}" if several else name: array
        for level, arrays in results.items()
        for name, array in arrays.items()
    }
    write_file(path, to_npz(named))


def _print(report: Report, document: Mapping[str, Any], layers: bool, out: str | None) -> None:
    click.echo(f"{report.model} on {report.target}, {report.mac} cells, {report.constants} constants")
    output.level_table(report)
    if layers:
        output.layer_table(report)
    for result in document.get("outputs", ()):
        shape = ",".join(map(str, result["shape"]))
        click.echo(f"output {result['name']} at {result['level']}: {result['dtype']}[{shape}]")
    if out:
        click.echo(f"results in {out}")
