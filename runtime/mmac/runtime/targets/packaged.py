"""The targets that come with the package."""

from __future__ import annotations

from importlib.resources import files

from mmac.isa.errors import UsageError

_FOLDER = files(__package__)


def target_names() -> list[str]:
    """Names of the targets that come with the package."""
    return sorted(f.name.removesuffix(".toml") for f in _FOLDER.iterdir() if f.name.endswith(".toml"))


def packaged_text(name: str) -> str:
    """The text of one.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in target_names():
        raise UsageError(f"target {name!r}", "no such target", ", ".join(target_names()) + ", or a file FILE.toml")
    return (_FOLDER / f"{name}.toml").read_text("utf-8")
