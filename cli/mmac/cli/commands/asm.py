"""`mmac asm`: assembly text as a program."""

from __future__ import annotations

import click

from mmac.cli.command import READS, WRITES, Command


@click.command(name="asm", cls=Command, short_help="Assemble a program.")
@click.argument("source", type=READS, metavar="FILE.s")
@click.option("-o", "--output", "out", type=WRITES, required=True, metavar="OUT.mmac", help="The program.")
def command(source: str, out: str) -> None:
    """Assemble FILE.s, as `mmac disasm` writes it.

    The program is verified when it is loaded to run, not here. In Python: mmac.isa.asm.assemble.
    """
    from mmac.isa.asm import assemble
    from mmac.isa.container import save
    from mmac.isa.files import read_text

    program = assemble(read_text(source, "a file of assembly text"), source)
    save(program, out)
    click.echo(f"{out}: {program.name}, {len(program.code)} instructions")
