"""`mmac compare`: a program beside its model, layer by layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from mmac.cli import output
from mmac.cli.command import READS, WRITES, Command, check_level
from mmac.cli.parameters import ALL, json_option, naming, require_plotly
from mmac.cli.programs import open_program
from mmac.isa.errors import MmacError, UsageError, VerificationError

if TYPE_CHECKING:
    from mmac.compiler.comparison import Comparison, Errors, LevelErrors

WORST = 10
"""So many layers are printed."""

SAMPLES = 16
"""`mmac.compiler.comparison.SAMPLES`, again: the help must not import onnx."""


@click.command(name="compare", cls=Command, short_help="Compare a program with its model, layer by layer.")
@click.argument("model", type=READS, metavar="MODEL.onnx")
@click.argument("program", type=READS, metavar="OUT.mmac")
@click.option(
    "--data",
    type=READS,
    required=True,
    metavar="DATA.npz|DIR",
    help="Samples: one array [samples, …] per input, or a folder of .npz or NAME.npy files.",
)
@click.option(
    "--level",
    callback=check_level,
    metavar="N|AxB|full|all",
    default=ALL,
    show_default=True,
    help="Level to compare at.",
)
@click.option(
    "--samples", type=click.IntRange(1), default=SAMPLES, show_default=True, metavar="N", help="Most samples to run."
)
@click.option(
    "--report", "page", type=WRITES, metavar="FILE.html", help="All layers and levels as a page with figures."
)
@click.option(
    "--fail-below", type=float, metavar="DB", help="Exit with 1 if an output has less SQNR at any of the levels."
)
@json_option
def command(
    model: str,
    program: str,
    data: str,
    level: str,
    samples: int,
    page: str | None,
    fail_below: float | None,
    as_json: bool,
) -> None:
    """Compare OUT.mmac with MODEL.onnx, which it was compiled from, layer by layer.

    Each layer of the program is held against onnxruntime's: how far its tensor is from the model's, how far the layer
    alone is off on the program's own data, what that comes from (8 bits, dropped terms of weights and data, biases and
    scales), and whether its integers are those that the compiled model gives (exit status 6 if they are not). See
    docs/accuracy.md. In Python: mmac.compiler.compare.
    """
    if fail_below is not None and not math.isfinite(fail_below):
        raise UsageError(f"--fail-below {fail_below}", "not a number of decibels", "such as 20")
    if page:
        require_plotly()
    from mmac.compiler.comparison import compare
    from mmac.compiler.files import read_calibration

    loaded = open_program(program)
    levels = None if level == ALL else [loaded.plan.index(level)]
    with output.progress("compare") as step, naming(samples=data):
        found = compare(model, loaded, read_calibration(data), levels, samples, step)
    if page:
        from mmac.compiler.comparison.page import write_page

        write_page(found, page)
        output.note(f"{page} is the report; any browser opens it")
    if as_json:
        output.print_json(found.to_json())
    else:
        _print(found)
    _check_values(found, program)
    if fail_below is not None:
        _check(found, fail_below)


def _print(found: Comparison) -> None:
    lowest = found.levels[0]
    click.echo(f"{output.printable(found.model)}, {found.samples} samples; SQNR in dB against onnxruntime")
    several = len(lowest.outputs) > 1
    head = ["level", *["output"] * several, *STAGES, "cosine", "max error"]
    rows = [
        [str(level.level), *[each.output] * several, *_stages(each.errors), f"{each.errors.cosine:.4f}",
         f"{each.errors.max_abs_error:.3g}"]
        for level in found.levels
        for each in level.outputs
    ]  # fmt: skip
    output.table(head, rows, left=1 + several)
    _print_layers(lowest)
    _print_first_wrong(found)


STAGES = ("8 bits", "+ weights", "+ data", "+ constants")
"""Columns for `mmac.compiler.comparison.errors.VARIANTS`."""


def _stages(errors: Errors) -> list[str]:
    return [_decibels(value) for value in errors.stages_db.values()]


def _decibels(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f}"


def _print_layers(level: LevelErrors) -> None:
    """The layers that lose most at a level, in the order of the program."""
    worst = level.worst(WORST)
    if not worst:
        return
    rows = [
        [layer.layer, layer.op, *_stages(layer.local), _decibels(layer.accumulated.sqnr_db)]
        for layer in level.layers
        if layer in worst
    ]
    click.echo(f"the {len(worst)} of {len(level.layers)} layers that lose most at {level.level}, each on its own:")
    output.table(["layer", "operation", *STAGES, "so far"], rows, left=2)


def _print_first_wrong(found: Comparison) -> None:
    if (first := found.first_wrong) is None:
        click.echo("no layer goes wrong: all integers are those of the compiled model")
        return
    from mmac.compiler.comparison.result import KINDS

    level, layer = first
    where = f"{output.printable(layer.layer)} ({output.printable(layer.op)}) at {level.level}"
    if layer.finding is not None:
        click.echo(f"first layer that goes wrong: {where}: {layer.finding.text}; {KINDS[layer.finding.kind]}")


def _check_values(found: Comparison, program: str) -> None:
    """Raise the error of a program whose integers are wrong."""
    if (first := found.first_wrong) is None:
        return
    level, layer = first
    if layer.wrong_values:
        raise VerificationError(
            f"{program}: layer {layer.layer!r} at {level.level}",
            f"{layer.wrong_values:,} of {layer.values:,} integers are wrong",
            "those of the compiled model",
            "compile the model again, or give the model that the program is from",
        )


def _check(found: Comparison, least_db: float) -> None:
    """Raise the error of ``--fail-below``."""
    for level, low in found.below(least_db):
        raise MmacError(
            f"output {low.output!r} at {level.level}", f"SQNR {low.errors.sqnr_db:.2f} dB", f"at least {least_db:g} dB"
        )
