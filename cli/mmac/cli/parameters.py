"""Options that several commands have, and how their texts become values."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mmac.cli.command import READS
from mmac.isa.errors import MalformedError, UsageError

if TYPE_CHECKING:
    from mmac.compiler.pipeline import Options

F = TypeVar("F", bound=Callable[..., Any])

ALL = "all"
"""Stands for every level of a program."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")

dim_option = click.option(
    "--dim", "dims", metavar="NAME=N", multiple=True, help="Number for a symbolic input dimension; may be repeated."
)

memory_option = click.option(
    "--max-memory",
    metavar="SIZE",
    help="Refuse models with values larger than this, such as 512M or 8G. Default: this machine's memory.",
)

target_option = click.option(
    "--target",
    type=READS,
    metavar="NAME|FILE.toml",
    help="Hardware: a packaged target or a file. Default: the program's; when compiling, vc707.",
)

_budgets_option = click.option(
    "--budgets", type=READS, metavar="FILE", help="Budgets per layer, TOML or JSON; see docs/budgets.md."
)

_COMPILATION = (
    click.option(
        "--levels",
        metavar="paper|full|8x2,10x2,…",
        help="Resolution levels of the program, lowest first; full can stand in the list. "
        "Default: those that the model brings along from training, or the paper's.",
    ),
    click.option(
        "--calibration",
        type=READS,
        metavar="DATA.npz|DIR",
        help="Samples for float models: one array [samples, …] per input, or a folder of .npz or NAME.npy files.",
    ),
    click.option(
        "--calibration-method",
        type=click.Choice(("minmax", "entropy", "percentile")),
        default="minmax",
        show_default=True,
        help="How a range follows from the samples.",
    ),
    click.option(
        "--correct/--no-correct",
        default=True,
        show_default=True,
        help="Fit bias and scale of each level to the samples.",
    ),
    click.option(
        "--reorder/--no-reorder",
        default=False,
        show_default=True,
        help="Sort channels by the terms that they keep, for layers whose groups differ.",
    ),
    target_option,
    dim_option,
    memory_option,
)


def compilation_options(function: F) -> F:
    """All that `compile_options` takes, as options of a command."""
    return search_options(_budgets_option(function))


def search_options(function: F) -> F:
    """The same without budgets, which are to be found."""
    for option in reversed(_COMPILATION):
        function = option(function)
    return function


def compile_options(
    levels: str | None,
    budgets: str | None,
    calibration: str | None,
    calibration_method: str,
    correct: bool,
    reorder: bool,
    target: str | None,
    dims: Sequence[str],
    max_memory: str | None,
) -> Options:
    """The compiler's options out of those of the command line."""
    from mmac.compiler.files import read_budgets, read_calibration
    from mmac.compiler.pipeline import Options
    from mmac.isa.plan import parse_levels

    chosen, numbers = None if levels is None else parse_levels(levels), parse_dims(dims)
    return Options(
        levels=chosen,
        budgets=read_budgets(budgets, chosen) if budgets else {},
        calibration=read_calibration(calibration) if calibration else None,
        method=calibration_method,
        correct=correct,
        reorder=reorder,
        target=target or Options.target,
        dims=numbers,
        max_memory=parse_memory(max_memory),
    )


@contextlib.contextmanager
def naming(budgets: str | None = None, samples: str | None = None) -> Iterator[None]:
    """Let errors of the context that are about a budget or about samples name the file, as faults of its content."""
    try:
        yield
    except (MalformedError, UsageError) as error:
        about = re.match(r"(budget of|calibration data|data)( ['\"]|$)", error.where)
        path = None if about is None else budgets if about[1] == "budget of" else samples
        if path in (None, error.where):  # it may itself be called data
            raise
        raise MalformedError(f"{path}: {error.where}", error.found, error.allowed, error.hint) from None


def parse_dims(texts: Sequence[str]) -> dict[str, int]:
    """Read ``NAME=N`` texts.

    Raises:
        UsageError: one that is not of that form, or a name given twice.
    """
    dims: dict[str, int] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        if not equals or not name or not re.fullmatch(r"[0-9]{1,9}", number):
            raise UsageError(f"--dim {text!r}", "not a name and a number", "NAME=N such as batch=1")
        if name in dims:
            raise UsageError(f"--dim {text!r}", f"{name} is given twice", "one number for each name")
        dims[name] = int(number)
    return dims


def parse_memory(text: str | None) -> int | None:
    """Bytes out of a text such as 512M or 8G (powers of 1024).

    Raises:
        UsageError: it is not of that form.
    """
    if text is None:
        return None
    parts = re.fullmatch(r"([0-9]{1,9})([KMGT]?)(i?B)?", text, re.IGNORECASE)
    if parts is None or not int(parts[1]):
        raise UsageError(f"--max-memory {text!r}", "not a size", "a number of bytes, or one with K, M, G or T")
    return int(parts[1]) << 10 * " KMGT".index(parts[2].upper() or " ")


def require_plotly() -> None:
    """Find out before the work whether ``--report`` can be drawn.

    Raises:
        UsageError: it cannot.
    """
    try:
        import plotly.offline  # noqa: F401
    except ImportError:
        raise UsageError("--report", "drawn by plotly, which is not installed", hint="pip install plotly") from None
