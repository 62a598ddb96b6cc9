"""`mmac disasm`: a program as assembly text."""

from __future__ import annotations

import click

from mmac.cli import output
from mmac.cli.command import READS, WRITES, Command


@click.command(name="disasm", cls=Command, short_help="Print a program as assembly text.")
@click.argument("program", type=READS, metavar="PROGRAM.mmac")
@click.option("-o", "--output", "out", type=WRITES, metavar="FILE.s", help="Default: stdout.")
@click.option("--no-data", is_flag=True, help="Leave out the image and host models: to read, not to assemble.")
def command(program: str, out: str | None, no_data: bool) -> None:
    """Print PROGRAM.mmac as text that `mmac asm` reads back.

    In Python: mmac.isa.asm.disassemble.
    """
    from mmac.isa.asm import disassemble
    from mmac.isa.container import load

    output.write_text(disassemble(load(program), data=not no_data), out)
