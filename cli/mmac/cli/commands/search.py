"""`mmac search`: choose budgets per layer under limits on latency, energy or error."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from mmac.cli import output
from mmac.cli.command import READS, WRITES, Command
from mmac.cli.parameters import compile_options, json_option, naming, require_plotly, search_options
from mmac.isa.errors import UsageError

if TYPE_CHECKING:
    from mmac.compiler.search import Found, Goal, LevelFound

GOALS = {"max_latency": "latency_ms", "max_energy": "energy_mj", "min_sqnr": "sqnr_db"}


@click.command(name="search", cls=Command, short_help="Choose budgets per layer under limits on latency or error.")
@click.argument("model", type=READS, metavar="MODEL.onnx")
@click.option("-o", "--output", "out", type=WRITES, required=True, metavar="BUDGETS.toml", help="The budget file.")
@click.option("--max-latency", metavar="MS[,MS…]", help="Least error within these latencies, one for each level.")
@click.option("--max-energy", metavar="MJ[,MJ…]", help="Least error within these energies, one for each level.")
@click.option("--min-sqnr", metavar="DB[,DB…]", help="Least latency with at least these SQNRs, one for each level.")
@search_options
@click.option("--keep-edges", is_flag=True, help="First and last layers keep all terms, as they do by default.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Compile and simulate what was found.")
@click.option(
    "--state", type=WRITES, metavar="FILE", help="What is measured goes here; an interrupted search goes on from it."
)
@click.option("--report", "page", type=WRITES, metavar="FILE.html", help="Quality against cost, and plans, as a page.")
@json_option
def command(
    model: str,
    out: str,
    max_latency: str | None,
    max_energy: str | None,
    min_sqnr: str | None,
    keep_edges: bool,
    verify: bool,
    state: str | None,
    page: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Choose α and β of every layer of MODEL.onnx at every level, and write them as budgets for `mmac compile`.

    Without a limit, each of the --levels is to be improved on: its latency is the limit. Some calibration samples are
    fitted to, errors are measured on others. In Python: mmac.compiler.search_budgets.
    """
    if page:
        require_plotly()
    goal = _goal(max_latency=max_latency, max_energy=max_energy, min_sqnr=min_sqnr)
    from mmac.compiler.search import search_budgets, to_toml
    from mmac.isa.files import write_file

    chosen = compile_options(budgets=None, **options)
    with output.progress("search") as step, naming(samples=options["calibration"]):
        found = search_budgets(model, chosen, goal, keep_edges=keep_edges, state=state, verify=verify, progress=step)
    write_file(out, to_toml(found, _command_line()))
    if page:
        from mmac.compiler.search.page import write_page

        write_page(found, page)
        output.note(f"{page} is the report; any browser opens it")
    if as_json:
        output.print_json(found.to_json() | {"output": out})
    else:
        _print(found, out)


def _goal(**limits: str | None) -> Goal | None:
    """What was asked for; None if nothing was."""
    given = {name: text for name, text in limits.items() if text is not None}
    if len(given) > 1:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(names, "given together", "one kind of limit")
    from mmac.compiler.search import Goal

    for name, text in given.items():
        try:
            numbers = tuple(float(part) for part in text.split(","))
        except ValueError:
            raise UsageError(f"--{name.replace('_', '-')} {text}", "not numbers", "such as 1.5 or 1,1.5,2") from None
        goal = Goal(GOALS[name], numbers)
        goal.check()
        return goal
    return None


def _command_line() -> str:
    """As it was given, for the budget file."""
    import sys

    return shlex.join(["mmac", *sys.argv[1:]])


def _print(found: Found, out: str) -> None:
    fitted, measured = found.samples
    click.echo(f"{found.model} on {found.target}: SQNR at the outputs against float, on {measured} samples")
    click.echo(f"corrections fitted to {fitted} others; {found.whole_db:.1f} dB if nothing is dropped")
    output.table(
        ["level", "limit", "latency ms", "energy mJ", "SQNR dB", "plan", "uniform ms", "uniform dB"],
        [[*_cells(row), *_beside(found, number)] for number, row in enumerate(found.levels)],
    )
    if found.held:
        click.echo(found.held)
    click.echo(f"budgets in {out}, to be compiled with --levels {found.levels_option} --budgets {out}")
    click.echo(f"{sum(found.seconds.values()):.1f} s: " + ", ".join(f"{k} {v:g}" for k, v in found.seconds.items()))


def _cells(row: LevelFound) -> list[str]:
    quality = row.predicted_db if row.sqnr_db is None else row.sqnr_db
    limit = "" if row.limit is None else f"{row.limit:.4g}"
    return [str(row.level), limit, f"{row.latency_ms:.4f}", f"{row.energy_mj:.4f}", f"{quality:.2f}", row.plan]


def _beside(found: Found, number: int) -> list[str]:
    """The uniform level of the same place, if levels were compared one by one."""
    if [row.level for row in found.levels] != [row.level for row in found.uniform]:
        return ["", ""]
    row = found.uniform[number]
    return [f"{row.latency_ms:.4f}", f"{row.predicted_db:.2f}"]
