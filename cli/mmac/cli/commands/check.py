"""`mmac check`: where each node of a model would run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import click

from mmac.cli import output
from mmac.cli.command import READS, Command
from mmac.cli.parameters import dim_option, json_option, memory_option, parse_dims, parse_memory
from mmac.isa.errors import UnsupportedError


@click.command(name="check", cls=Command, short_help="Say where each node of an ONNX model would run.")
@click.argument("model", type=READS, metavar="MODEL.onnx")
@dim_option
@memory_option
@json_option
def command(model: str, dims: Sequence[str], max_memory: str | None, as_json: bool) -> int:
    """Say for each node of MODEL.onnx where it runs, why, and what would help.

    array: on the mMAC array. vector: on the vector unit. folded: costs nothing at run time. host: in onnxruntime,
    between parts of the program. refused: the model cannot be compiled (exit status 3). In Python:
    mmac.compiler.check_model.
    """
    from mmac.compiler.fates import FATES, check_model

    with output.progress("check") as step:
        fates = check_model(model, parse_dims(dims), step, max_memory=parse_memory(max_memory))
    count = Counter(fate.fate for fate in fates)
    if as_json:
        nodes = [dataclasses.asdict(fate) for fate in fates]
        output.print_json({"model": model, "count": {name: count[name] for name in FATES}, "nodes": nodes})
    else:
        rows = [
            (fate.node, fate.op, fate.fate, "; ".join(text for text in (fate.reason, fate.hint) if text))
            for fate in fates
        ]
        output.table(("node", "operator", "fate", "why; what would help"), rows, left=4, wrapped=True)
        click.echo(", ".join(f"{count[name]} {name}" for name in FATES if count[name]))
    return UnsupportedError.exit_code if count["refused"] else 0
