"""Programs as the commands take them: loaded and verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmac.cli import output

if TYPE_CHECKING:
    from mmac.isa.program import Program


def open_program(path: str) -> Program:
    """The verified program in a file.

    Raises:
        MmacError: as `mmac.isa.container.load` and `mmac.isa.verify.verify`.
    """
    from mmac.isa.container import load
    from mmac.isa.verify import verify

    with output.progress(path) as step:
        step("load", 0, 2)
        program = load(path)
        step("verify", 1, 2)
        verify(program)
    return program
