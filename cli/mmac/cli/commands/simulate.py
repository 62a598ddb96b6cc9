"""`mmac simulate`: what a program costs at each level, and what it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from mmac.cli import output
from mmac.cli.command import READS, WRITES, Command, check_level
from mmac.cli.layers import layer_table
from mmac.cli.parameters import ALL, json_option, require_plotly, target_option
from mmac.cli.programs import open_program
from mmac.cli.runs import Done, print_runs, read_inputs, run, runs_document, save
from mmac.isa.errors import UsageError

if TYPE_CHECKING:
    from mmac.isa.program import Program
    from mmac.runtime.governor import Policy
    from mmac.runtime.limits import Choice
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
    callback=check_level,
    metavar="N|AxB|full|all",
    help="Default: costs of all levels; with inputs, results of the highest.",
)
@click.option(
    "--engine", type=click.Choice(ENGINES), default=ENGINES[0], show_default=True, help="All give the same bits."
)
@click.option("--max-latency", type=float, metavar="MS", help="Choose the best level that is not slower.")
@click.option("--max-energy", type=float, metavar="MJ", help="Choose the best level that needs no more energy.")
@click.option(
    "--min-sqnr",
    type=float,
    metavar="DB",
    help="Choose a level that is as good on the calibration samples; the cheapest.",
)
@click.option(
    "--limits", type=READS, metavar="FILE.csv", help="Limits that change: one run for each line; see docs/governor.md."
)
@click.option(
    "-o",
    "--output",
    "out",
    type=WRITES,
    metavar="OUT.npz",
    help="The results: NAME or (of several levels) NAME@LEVEL; of several runs one after the other.",
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
    min_sqnr: float | None,
    limits: str | None,
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
    there are inputs. Limits choose the level; those of --limits change from run to run, and inputs may then hold
    several samples. In Python: mmac.runtime.Session, mmac.runtime.estimate and mmac.runtime.limits.
    """
    if page:
        require_plotly()
    from mmac.runtime.compiled_for import machine_for
    from mmac.runtime.governor import Governor
    from mmac.runtime.limits import choose_levels, read_limits

    policy = _check_options(inputs, level, max_latency, max_energy, min_sqnr, limits, out)
    changing = read_limits(limits) if limits else []
    loaded = open_program(program)
    every = range(len(loaded.plan.levels))
    chosen = every if level in (None, ALL) else [loaded.plan.index(str(level))]
    machine = machine_for(loaded, target)
    costs, overflow = _analyse(loaded, machine, mac)
    choices: Sequence[Choice] = ()
    if policy or changing:
        governor = Governor.of_report(costs(constants, every))
        chosen = [governor.choose(policy)] if policy else every
        choices = choose_levels(governor, changing)
    report, other = (costs(name, chosen) for name in sorted(CONSTANTS, key=lambda name: name != constants))
    done = Done()
    if inputs:
        from mmac.runtime.session import Session

        levels = chosen if level is not None or policy else every[-1:]
        session = Session(loaded, engine, target=machine, mac=mac)
        done = run(session, read_inputs(inputs), levels, choices)
        report = report.with_host_ms([done.host_ms[position] for position in chosen])
        save(done.named, out)
    elif loaded.host:
        output.warning("host segments are not timed without inputs (-i)")
    if trace:
        _trace(loaded, trace, machine, chosen[-1], mac)
    if page:
        _page(loaded, page, machine, mac, constants, chosen[-1], done.host_ms or None)
    if as_json:
        energies = {each.constants: [row.energy_mj for row in each.levels] for each in (report, other)}
        more = {"energy_mj_by_constants": energies, "overflow": overflow}
        more |= runs_document(choices, loaded.plan.levels, done.run_ms) if choices else {}
        output.print_json(_document(report, layers, done) | more)
        return
    _print(report, other, layers, done, len(loaded.host))
    if choices:
        print_runs(choices, loaded.plan.levels, done.run_ms)
    if out:
        click.echo(f"results in {out}")


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
    inputs: Sequence[str],
    level: str | None,
    max_latency: float | None,
    max_energy: float | None,
    min_sqnr: float | None,
    limits: str | None,
    out: str | None,
) -> Policy | None:
    """Refuse options that contradict each other; the limits, if there are any."""
    from mmac.runtime.governor import Policy

    given = {"--max-latency": max_latency, "--max-energy": max_energy, "--min-sqnr": min_sqnr}
    limited = [option for option, value in given.items() if value is not None]
    if max_latency is not None and max_energy is not None:
        raise UsageError("--max-latency and --max-energy", "both are given", "one of them")
    if limits and limited:
        raise UsageError(limited[0], "given together with --limits", "one limit, or a file of limits that change")
    if (limits or limited) and level is not None:
        raise UsageError("--level", "given together with a limit", "a level, or a limit that chooses one")
    if out and not inputs:
        raise UsageError("--output", "there is nothing to compute", "inputs as well (-i)")
    try:
        return Policy(max_latency, max_energy, min_sqnr) if limited else None
    except UsageError as error:
        option = "--" + error.where.rpartition("_")[0].replace("_", "-")
        raise UsageError(option, error.found, error.allowed) from None


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


def _document(report: Report, layers: bool, done: Done) -> dict[str, Any]:
    """The report as JSON types; the host has a time at the levels that ran only."""
    document = report.to_json(layers)
    for level in document["levels"]:
        if level["level"] not in done.ran:
            level["host_ms"] = None
    outputs = [
        {"level": level, "name": name, "dtype": str(array.dtype), "shape": list(array.shape)}
        for name, level, array in done.outputs
    ]
    return document | ({"outputs": outputs} if outputs else {})


def _print(report: Report, other: Report, layers: bool, done: Done, host: int) -> None:
    import numpy as np

    click.echo(f"{report.model} on {report.target}, {report.mac} cells, {report.constants} constants")
    output.level_table(report, other, done.ran)
    if host:
        click.echo(f"latency and energy leave out {host} host segment{'s' * (host > 1)}, run by onnxruntime")
    if layers:
        layer_table(report)
    for name, level, array in done.outputs:
        if level is not None:
            values = np.array2string(array.ravel(), 1000, 4, threshold=10, edgeitems=3)
            about = f"{array.dtype}[{','.join(map(str, array.shape))}]"
            click.echo(f"output {output.printable(name)} at {level}: {about} = {values}")
