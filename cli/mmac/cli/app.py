"""The command `mmac`: its commands, and how every failure becomes one line on stderr and an exit status."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from mmac.cli import interrupt, output
from mmac.isa.errors import MmacError, MmacWarning

COMMANDS = ("check", "compile", "search", "simulate", "evaluate", "compare", "inspect", "disasm", "asm", "demo")
"""In the order of the help; the module of each has the click command under the name `command`."""

TRACEBACK = "MMAC_TRACEBACK"
"""Environment variable that asks for tracebacks."""

_FAILED, _USAGE, _RESOURCE = 1, 2, 5


class Commands(click.Group):
    """Imports a command when it is used, and turns exceptions into the exit statuses of the project."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"mmac.cli.commands.{cmd_name}").command
        return command

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> NoReturn:
        """Run a command line (default: that of the process) and exit."""
        output.tolerate_narrow_encodings()
        with warnings.catch_warnings():
            warnings.simplefilter("always", MmacWarning)
            warnings.showwarning = output.show_warning
            status = self._run(args)
        sys.exit(status)

    def _run(self, args: Sequence[str] | None) -> int:
        """Exit status of a command line; everything that goes wrong has been reported on stderr."""
        try:
            try:
                result = super().main(args, prog_name="mmac", standalone_mode=False)
                sys.stdout.flush()
            except BaseException:
                if os.environ.get(TRACEBACK):
                    import traceback

                    traceback.print_exc()
                raise
        except (Exception, KeyboardInterrupt) as error:
            if interrupt.pressed() or isinstance(error, KeyboardInterrupt | click.Abort):
                output.error("interrupted")
                return interrupt.STATUS
            return _report(error)
        return result if isinstance(result, int) else 0


def _report(error: Exception) -> int:
    """Say what went wrong in one line; the exit status."""
    match error:
        case MmacError():
            output.error(str(error))
            return error.exit_code
        case click.exceptions.NoArgsIsHelpError():
            error.show()
        case click.UsageError():
            output.error(_sentence(error))
        case MemoryError():
            output.error("memory: this machine has not enough of it; a smaller model or batch (--dim)")
            return _RESOURCE
        case BrokenPipeError():
            output.forget_stdout()
            return _FAILED
        case OSError(errno=errno.ENOSPC):
            output.forget_stdout()
            output.error(f"{error.filename or 'stdout'}: cannot be written ({error.strerror}); free some space")
            return _RESOURCE
        case _:
            output.error(
                f"mmac: unexpected {type(error).__name__}: {' '.join(str(error).split())}; "
                f"this is a fault of mmac; set {TRACEBACK}=1 to see where"
            )
            return _FAILED
    return _USAGE


def _sentence(error: click.UsageError) -> str:
    """An error of click in the form of the project's own."""
    command = error.ctx.command_path if error.ctx else "mmac"
    where, found = command, error.format_message()
    if isinstance(error, click.BadParameter) and error.param is not None and error.message:
        parameter = error.param
        name = max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.human_readable_name
        where, found = f"{command} {name}", error.message
    if isinstance(error, click.exceptions.NoSuchCommand):
        found = f"{found.rstrip('.')}; {', '.join(COMMANDS)}"
    return f"{where}: {found.rstrip('.')}; see `{command} --help`"


@click.command(cls=Commands, context_settings={"max_content_width": 120, "help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mmac", message="%(package)s %(version)s")
def main() -> None:
    """Compile ONNX models to multi-resolution mMAC programs, and simulate them.

    A program holds many resolution levels at once. A level is written αxβ (8x2: 8 terms per group of 16 weights, 2
    per data value), as its number in the program, or as full (nothing is dropped). Without -o, text goes to stdout;
    - is not a name for it, but /dev/stdout is.

    Exit status: 0 success, 2 usage, 3 unsupported model, 4 malformed input, 5 resource limit, 6 verification failed,
    1 anything else, 130 interrupted.
    """
