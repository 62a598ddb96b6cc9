"""What every command checks before it begins: options given twice, and the files that it would write."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from mmac.isa.errors import UsageError


class _Path(click.ParamType):  # type: ignore[type-arg]  # click 8.2 has no arguments for it
    """A path as it was given; what is done with it is what the types differ by."""

    name = "path"


class Reads(_Path):
    """A file that the command reads; also as NAME=FILE."""


class Writes(_Path):
    """A file that the command writes."""


class Fills(_Path):
    """A folder that the command makes and writes the stages of a compilation into."""


READS, WRITES, FILLS = Reads(), Writes(), Fills()


def check_level(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Callback of ``--level``: whether it can be a name, an index or all is found out before anything is loaded."""
    from mmac.isa.plan import parse_level

    if value is not None and value != "all" and not value.isdecimal():
        try:
            parse_level(value)
        except UsageError as error:
            raise UsageError(f"--{error.where}", error.found, error.allowed) from None
    return value


_STAGE = re.compile(r"\d\d_[a-z]+\.(onnx|txt|s)")


class Command(click.Command):
    """A command that refuses options given twice, and outputs that would be lost or would destroy something."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As of every click command."""
        *_, order = self.make_parser(ctx).parse_args(args=list(args))
        for option, count in Counter(order).items():
            if count > 1 and isinstance(option, click.Option) and not (option.multiple or option.is_flag):
                raise click.BadParameter("given more than once", ctx, option)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command if its outputs can be written and are no inputs."""
        reads, writes, fills = (list(_paths(ctx, kind)) for kind in (Reads, Writes, Fills))
        for path, option in writes:
            _check_output(path, option, reads)
        for number, (path, option) in enumerate(writes):
            for other, name in writes[:number]:
                if _same(path, other):
                    raise UsageError(path, f"written by both {name} and {option}", "different files")
        for path, option in fills:
            _check_folder(path, option, [*reads, *writes])
        try:
            if (target := ctx.params.get("target")) is not None:  # before anything else is loaded
                _check_target(target)
            return super().invoke(ctx)
        except UsageError as error:
            named = _with_option(ctx, error)
            if named is error:
                raise
            raise named from error


_LIMITS = ("--max-latency", "--max-energy", "--min-sqnr")

_OPTIONS = {
    "cell": ("--mac",),
    "jobs": ("--jobs",),
    "level": ("--level", "--levels"),
    "levels": ("--levels",),
    "limit": _LIMITS,
    "limits": _LIMITS,
    "mean": ("--mean",),
    "metric": ("--metric",),
    "pass": ("--after", "--diff"),
    "resize": ("--resize",),
    "samples": ("--samples",),
    "std": ("--std",),
    "target": ("--target",),
}
"""What an error of a function may be about, by the first word of where it is, and the options that say it."""


def _check_target(target: str) -> None:
    from mmac.runtime.targets import load_target

    load_target(target)


def _with_option(ctx: click.Context, error: UsageError) -> UsageError:
    """The error of a function with the option instead of what the function calls it, if it was given."""
    word, _, rest = error.where.partition(" ")
    if rest.startswith("of "):  # such as the limits of a policy, which may come from several options
        return error
    for param in ctx.command.params:
        source = ctx.get_parameter_source(param.name or "")
        for option in set(param.opts) & set(_OPTIONS.get(word, ())):
            if source == click.core.ParameterSource.COMMANDLINE:
                return UsageError(f"{option} {rest}".rstrip(), error.found, error.allowed, error.hint)
    return error


def _paths(ctx: click.Context, kind: type[_Path]) -> Iterator[tuple[str, str]]:
    """The paths of one kind on the command line, each with the option or argument that gives it."""
    for param in ctx.command.params:
        if not isinstance(param.type, kind) or not (given := ctx.params.get(param.name or "")):
            continue
        name = max(param.opts, key=len) if isinstance(param, click.Option) else str(param.metavar)
        for text in [given] if isinstance(given, str) else given:
            yield (text.partition("=")[2] or text if param.multiple else text), name


def _check_output(path: str, option: str, reads: list[tuple[str, str]]) -> None:
    from mmac.isa.files import check_writable

    if path == "-":
        raise UsageError(f"{option} -", "not a file name", "a file", "for stdout give /dev/stdout; ./- is a file")
    check_writable(path)
    for source, name in reads:
        if _same(path, source):
            raise UsageError(path, f"{option} would overwrite {name}", "a file that is no input", "give another name")


def _check_folder(path: str, option: str, files: list[tuple[str, str]]) -> None:
    from mmac.isa.files import check_writable

    there = Path(path)
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise UsageError(path, f"cannot be made a folder ({there} is a file)", "a folder", "give another name")
    check_writable(there / "00_import.onnx")
    for file, name in files:
        inside = _same(str(Path(file).parent), path) and _STAGE.fullmatch(Path(file).name)
        if inside or os.path.realpath(file) == os.path.realpath(path):
            raise UsageError(file, f"{option} would overwrite {name}", "another folder")


def _same(one: str, other: str) -> bool:
    """Whether two paths are the same file or folder, there or not; a device or a pipe is no place to lose anything."""
    if os.path.exists(one) and not os.path.isfile(one) and not os.path.isdir(one):
        return False
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)
