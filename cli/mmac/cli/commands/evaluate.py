"""`mmac evaluate`: how well a program does its task at each level, on labelled data."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from mmac.cli import output
from mmac.cli.command import READS, Command, check_level
from mmac.cli.parameters import json_option, target_option
from mmac.cli.programs import open_program
from mmac.isa.errors import UsageError

if TYPE_CHECKING:
    from mmac.compiler.evaluation import Evaluation, Preprocessing

ALL = "all"
LABELS = "labels"
"""`mmac.compiler.evaluation.dataset.LABELS`, again: the help must not import numpy."""


@click.command(name="evaluate", cls=Command, short_help="Measure the accuracy of a program at each level.")
@click.argument("program", type=READS, metavar="PROGRAM.mmac")
@click.option(
    "--data",
    type=READS,
    required=True,
    metavar="DATA.npz|DIR",
    help="Samples: one array [n, …] per model input and one of labels, or a folder with a folder of images per class.",
)
@click.option("--labels", metavar="NAME", help=f"Array of DATA.npz that holds the labels. [default: {LABELS}]")
@click.option(
    "--metric",
    metavar="top1|top5|MODULE:FUNCTION",
    help="Default: top1 and, from ten classes on, top5. A function of your own: see docs/evaluate.md.",
)
@click.option(
    "--level", callback=check_level, default=ALL, show_default=True, metavar="N|AxB|full|all", help="What to measure."
)
@click.option(
    "--model", type=READS, metavar="MODEL.onnx", help="Measure the original model too, by onnxruntime; and agreement."
)
@click.option("--samples", type=click.IntRange(1), metavar="N", help="Take only N of the samples, spread evenly.")
@click.option(
    "--resize", type=click.IntRange(1), metavar="N", help="Images: scale the shorter side to N pixels before the crop."
)
@click.option("--mean", metavar="X[,X,X]", help="Images: subtract from pixels in 0…1. Default: 0.")
@click.option("--std", metavar="X[,X,X]", help="Images: divide by it then. Default: 1.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Processes to work in.")
@target_option
@json_option
def command(
    program: str,
    data: str,
    labels: str | None,
    metric: str | None,
    level: str,
    model: str | None,
    samples: int | None,
    resize: int | None,
    mean: str | None,
    std: str | None,
    jobs: int,
    target: str | None,
    as_json: bool,
) -> None:
    """Measure the accuracy of PROGRAM.mmac at each level on labelled data, beside its latency and energy.

    In Python: mmac.compiler.evaluate and mmac.compiler.read_dataset.
    """
    from mmac.compiler.evaluation import evaluate, load_metric, read_dataset
    from mmac.runtime.compiled_for import machine_for

    preprocessing = _preprocessing(resize, mean, std)
    loaded = open_program(program)
    chosen = None if level == ALL else [loaded.plan.index(level)]
    dataset = read_dataset(data, loaded.inputs, labels or LABELS, preprocessing)
    # what a function of the user's prints is no result
    with contextlib.redirect_stdout(sys.stderr), output.progress("evaluate") as step:
        found = evaluate(
            loaded,
            dataset,
            load_metric(metric, loaded.outputs, dataset.labels),
            chosen,
            model,
            samples=samples,
            jobs=jobs,
            target=machine_for(loaded, target),
            progress=step,
        )
    if as_json:
        output.print_json(found.to_json())
    else:
        _print(found, metric is None or ":" not in metric, len(loaded.host))


def _preprocessing(resize: int | None, mean: str | None, std: str | None) -> Preprocessing | None:
    """What the options for images say; None if there are none."""
    from mmac.compiler.evaluation import Preprocessing

    if (resize, mean, std) == (None, None, None):
        return None
    return Preprocessing(resize, _numbers("--mean", mean, (0.0,)), _numbers("--std", std, (1.0,)))


def _numbers(option: str, text: str | None, default: tuple[float, ...]) -> tuple[float, ...]:
    if text is None:
        return default
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(option, f"{text!r}", "numbers with commas between them, such as 0.485,0.456,0.406") from None


def _print(found: Evaluation, shares: bool, host: int) -> None:
    """The table of levels; `shares` if the metrics are shares of the samples."""

    def shown(value: float) -> str:
        return f"{value:.2%}" if shares else f"{value:.6g}"

    names = list(found.levels[0].metrics)
    compared = found.levels[0].agreement is not None
    columns = ("level", "α", "β", "γ", *names, *["agreement"] * compared, "latency ms", "energy mJ")
    rows = [
        (
            row.level,
            str(row.alpha),
            str(row.beta),
            str(row.gamma),
            *(shown(row.metrics[name]) for name in names),
            *([f"{row.agreement:.2%}"] if row.agreement is not None else []),
            f"{row.latency_ms:.4f}",
            f"{row.energy_mj:.4f}",
        )
        for row in found.levels
    ]
    click.echo(f"{output.printable(found.model)} on {found.target}, {found.samples:,} samples")
    output.table(columns, rows)
    if found.original is not None:
        original = ", ".join(f"{output.printable(name)} {shown(value)}" for name, value in found.original.items())
        click.echo(f"the original model in onnxruntime: {original}")
    if found.batch > 1:
        click.echo(f"latency and energy are of one run, which takes {found.batch} samples")
    if host:
        click.echo(f"latency and energy leave out {host} host segment{'s' * (host > 1)}, run by onnxruntime")
