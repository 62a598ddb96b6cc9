"""The command line; each command is a thin layer over one Python function."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is not imported: what is imported out here, Ctrl-C can hit with nobody to catch it
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command `mmac` with these arguments (default: those of the process), and exit."""
    try:
        from mmac.cli import interrupt

        interrupt.watch()
        from mmac.cli.app import main as command

        command.main(arguments)
    except BaseException as error:
        from mmac.cli import interrupt

        interrupt.finish(error)
        raise
