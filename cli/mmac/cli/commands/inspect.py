"""`mmac inspect`: every stage of a compilation, and finished programs."""

from __future__ import annotations

import difflib
import sys
from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import click

from mmac.cli import output
from mmac.cli.command import READS, WRITES, Command, check_level
from mmac.cli.layers import layer_table
from mmac.cli.parameters import compilation_options, compile_options, naming
from mmac.cli.programs import open_program
from mmac.isa.errors import UsageError

if TYPE_CHECKING:
    from mmac.compiler.pipeline import Options
    from mmac.compiler.stages import Stage
    from mmac.isa.program import Prediction

TEXT, ONNX, JSON = "text", "onnx", "json"


@click.command(name="inspect", cls=Command, short_help="Show any stage of a compilation, or a program.")
@click.argument("file", type=READS, metavar="MODEL.onnx|PROGRAM.mmac", required=False)
@click.option("--list-passes", is_flag=True, help="List the passes in order, and stop.")
@click.option("--after", metavar="PASS", help="Show what this pass gives; default: import.")
@click.option("--diff", metavar="PASS", help="Show what this pass changes.")
@click.option("--plan", is_flag=True, help="Show α and β of each layer at each level, and who says so.")
@click.option(
    "--format",
    "form",
    type=click.Choice((TEXT, ONNX, JSON)),
    default=TEXT,
    show_default=True,
    help="onnx: up to the pass terms; onnxruntime and Netron open it.",
)
@click.option(
    "--level",
    callback=check_level,
    metavar="N|AxB|full",
    help="Level of the pass terms, or of a program's layer costs.",
)
@click.option("-o", "--output", "out", type=WRITES, metavar="FILE", help="Default: stdout.")
@compilation_options
def command(
    file: str | None,
    list_passes: bool,
    after: str | None,
    diff: str | None,
    plan: bool,
    form: str,
    level: str | None,
    out: str | None,
    **options: Any,
) -> None:
    """Show a stage of the compilation of MODEL.onnx, or what is in PROGRAM.mmac.

    In Python: mmac.compiler.run_passes and mmac.compiler.stages.
    """
    if after and diff:
        raise UsageError("--after and --diff", "both are given", "one of them")
    if plan and (after or diff or level or form != TEXT):
        others = {"--after": after, "--diff": diff, "--level": level}
        other = next((name for name, given in others.items() if given), f"--format {form}")
        raise UsageError("--plan", f"given with {other}", "--plan alone; as JSON it is in --after budget --format json")
    if form == ONNX and out is None and sys.stdout.isatty():
        raise UsageError("--format onnx", "a binary file cannot go to the terminal", "a file or a pipe", "-o FILE.onnx")
    if list_passes:
        _list_passes(form, out)
    elif file is None:
        raise UsageError("mmac inspect", "no file is given", "MODEL.onnx, PROGRAM.mmac or --list-passes")
    elif file.endswith(".mmac"):
        if after or diff or form == ONNX:
            raise UsageError(file, "a program has no passes left to show", "--format text or json")
        _refuse_compilation(file, options.keys() - {"target"})
        if plan:
            raise UsageError("--plan", f"{file} is a program, whose plan is shown anyway", "a model")
        _show_program(file, form, level, options["target"], out)
    else:
        with naming(options["budgets"], options["calibration"]):
            chosen = compile_options(**options)
            if plan:
                _show_plan(file, chosen, out)
            else:
                _show_stage(file, chosen, after, diff, form, level, out)


def _refuse_compilation(file: str, names: Collection[str]) -> None:
    """Refuse the options of these names, which would change nothing about a program."""
    ctx = click.get_current_context()
    for param in ctx.command.params:
        if param.name in names and ctx.get_parameter_source(param.name) == click.core.ParameterSource.COMMANDLINE:
            found = f"{file} is compiled already"
            raise UsageError(max(param.opts, key=len), found, "--target, --level, --format and -o with a program")


def _list_passes(form: str, out: str | None) -> None:
    from mmac.compiler.pipeline import Options, passes
    from mmac.compiler.stages import describe_pass

    known = [describe_pass(step) for step in passes(Options())]
    if form == JSON:
        output.write_json({"passes": known}, out)
        return
    width = max(len(about["name"]) for about in known)
    output.write_text("".join(f"{about['name']:{width}}  {about['does']}\n" for about in known), out)


def _show_stage(
    model: str, options: Options, after: str | None, diff: str | None, form: str, level: str | None, out: str | None
) -> None:
    import onnx_ir as ir

    from mmac.compiler import stages

    if diff and form != TEXT:
        raise UsageError("--diff", f"--format {form}", f"--format {TEXT}")
    if level is not None and (diff or after) != "terms":
        raise UsageError("--level", f"given with the pass {diff or after or 'import'}", "--after terms or --diff terms")
    before, stage = _run(model, options, diff or after or "import", level)
    if diff:
        old, new = (stages.to_text(each).splitlines(keepends=True) for each in (before, stage))
        output.write_text("".join(difflib.unified_diff(old, new, f"before {diff}", f"after {diff}")), out)
    elif form == TEXT:
        with output.into(out):
            if after == "budget" and isinstance(stage, ir.Model):
                _print_plan(*stages.plan_table(stage))
            click.echo(stages.to_text(stage), nl=False)
    elif form == JSON:
        output.write_json(stages.to_json(stage, options.target), out)
    else:
        _write_onnx(stages.to_onnx(stage), out)


def _show_plan(model: str, options: Options, out: str | None) -> None:
    import onnx_ir as ir

    from mmac.compiler.stages import plan_table

    _, stage = _run(model, options, "budget", None)
    if isinstance(stage, ir.Model):
        with output.into(out):
            _print_plan(*plan_table(stage))


def _print_plan(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    output.table(columns, rows, left=2)
    if any(cell.startswith("≤ ") for row in rows for cell in row):
        click.echo("≤ 17x2 (8.0): groups of weights have budgets of their own, at most 17 terms, 8.0 on average")


def _run(model: str, options: Options, last: str, level: str | None) -> tuple[Stage, Stage]:
    """What there is before and after the pass `last` (before the first one: the model as it is in the file)."""
    import onnx_ir as ir

    from mmac.compiler.graph import LEVELS, Terms
    from mmac.compiler.pipeline import run_passes
    from mmac.isa.plan import Plan, parse_levels

    seen: deque[Any] = deque(maxlen=2)
    with output.progress("inspect") as step:
        stop = last if level is None else "correct"
        run_passes(model, options, stop, step, lambda _, stage: seen.append(stage))
    if level is not None:
        levels = parse_levels(seen[-1].metadata_props[LEVELS])
        return seen[-1], Terms(Plan(levels, ()).index(level)).apply(seen[-1])
    return (seen[0] if len(seen) == 2 else ir.load(model)), seen[-1]


def _write_onnx(content: bytes, out: str | None) -> None:
    from mmac.isa.files import write_file

    if out is not None:
        write_file(out, content)
    else:
        sys.stdout.buffer.write(content)


def _show_program(file: str, form: str, level: str | None, target: str | None, out: str | None) -> None:
    from mmac.compiler.pipeline import describe
    from mmac.runtime.compiled_for import machine_for
    from mmac.runtime.report import estimate

    program = open_program(file)
    levels = None if level is None else [program.plan.index(level)]
    report = estimate(program, machine_for(program, target), levels)
    about = describe(program, target)
    plan = {layer.name: [str(each) for each in layer.levels] for layer in program.plan.layers}
    if form == JSON:
        output.write_json(about | {"plan": plan} | {"costs": report.to_json(layers=True)}, out)
        return
    with output.into(out):
        click.echo(f"{file}: {about['model']} for {about['target']}, {len(about['levels'])} levels")
        output.print_program(about)
        for title, ports in (("input", program.inputs), ("output", program.outputs)):
            for port in ports:
                click.echo(output.printable(f"{title} {port.name}: {port.dtype}[{','.join(map(str, port.shape))}]"))
        click.echo("plan (α×β at each level):")
        rows = [(f"#{number}", name, *each) for number, (name, each) in enumerate(plan.items())]
        output.table(("", "layer", *about["levels"]), rows, left=2)
        if program.predictions:
            click.echo(f"predicted for {about['target']} (SQNR at the outputs, on calibration samples):")
            output.table(("", *about["levels"]), _predicted(program.predictions))
        layer_table(report)


def _predicted(predictions: Sequence[Prediction]) -> list[tuple[str, ...]]:
    """Rows of a table that has a column for each level."""
    rows = [
        ("latency ms", *(f"{each.latency_ms:.4f}" for each in predictions)),
        ("energy mJ", *(f"{each.energy_mj:.4f}" for each in predictions)),
        ("SQNR dB", *("" if each.sqnr_db is None else f"{each.sqnr_db:.2f}" for each in predictions)),
    ]
    return [row for row in rows if any(row[1:])]
