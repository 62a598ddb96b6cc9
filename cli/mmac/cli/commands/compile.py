"""`mmac compile`: from an ONNX model to one program for all levels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mmac.cli import output
from mmac.cli.command import FILLS, READS, WRITES, Command
from mmac.cli.parameters import compilation_options, compile_options, json_option, naming

if TYPE_CHECKING:
    from mmac.compiler.pipeline import Observer


@click.command(name="compile", cls=Command, short_help="Compile an ONNX model to one program for all levels.")
@click.argument("model", type=READS, metavar="MODEL.onnx")
@click.option("-o", "--output", "out", type=WRITES, required=True, metavar="OUT.mmac", help="The program.")
@compilation_options
@click.option(
    "--dump", type=FILLS, metavar="DIR", help="Write what each pass gives into this folder: ONNX, tile IR, assembly."
)
@json_option
def command(model: str, out: str, dump: str | None, as_json: bool, **options: Any) -> None:
    """Compile MODEL.onnx to one program for all levels.

    Float models are quantized with --calibration data; models with QuantizeLinear nodes keep their scales. In Python:
    mmac.compiler.compile_model and mmac.isa.container.save.
    """
    from mmac.compiler.pipeline import compile_model, summary
    from mmac.isa.container import save

    chosen = compile_options(**options)
    with output.progress("compile") as step, naming(options["budgets"], options["calibration"]):
        compiled = compile_model(model, chosen, step, _observer(dump))
        save(compiled.program, out)
    about = summary(compiled, chosen.target) | {"output": out}
    if as_json:
        output.print_json(about)
        return
    click.echo(f"{out}: {about['model']} for {about['target']}, {len(about['levels'])} levels")
    output.print_program(about)
    click.echo(f"compiled in {compiled.seconds:.1f} s" + (f"; stages in {dump}" if dump else ""))


def _observer(dump: str | None) -> Observer:
    """Shows the notes of `import` and writes the stages if the user wants them."""
    from mmac.compiler.frontend import NOTES
    from mmac.compiler.stages import Dump

    write = Dump(dump) if dump else None

    def observe(name: str, stage: Any) -> None:
        if name == "import":
            for text in stage.metadata_props.get(NOTES, "").splitlines():
                output.note(text)
        if write is not None:
            write(name, stage)

    return observe
