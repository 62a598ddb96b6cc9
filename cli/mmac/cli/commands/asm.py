"""`mmac asm`: assembly text as a program."""

from __future__ import annotations

from pathlib import Path

import click

from mmac.isa.errors import MalformedError, UsageError


@click.command(name="asm", short_help="Assemble a program.")
@click.argument("source", metavar="FILE.s")
@click.option("-o", "--output", "out", required=True, metavar="OUT.mmac", help="The program.")
def command(source: str, out: str) -> None:
    """Assemble FILE.s, as `mmac disasm` writes it.

    The program is verified when it is loaded to run, not here. In Python: mmac.isa.asm.assemble.
    """
    from mmac.isa.asm import assemble
    from mmac.isa.container import save

    try:
        text = Path(source).read_text("utf-8")
    except UnicodeDecodeError:
        raise MalformedError(source, "not UTF-8 text", "what `mmac disasm` writes") from None
    except OSError as error:
        raise UsageError(source, f"cannot be read ({error.strerror})", "a file of assembly text") from None
    program = assemble(text, source)
    save(program, out)
    click.echo(f"{out}: {program.name}, {len(program.code)} instructions")
