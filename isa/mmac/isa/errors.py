"""Every failure that a user can cause is one of these.

An error reads ``where: what was found; what is allowed; what to do``; the command line prefixes ``error:`` and
exits with `exit_code`.
"""

from __future__ import annotations


class MmacWarning(UserWarning):
    """Something that the user should know and that does not stop the work; the command line shows it on stderr."""


class MmacError(Exception):
    """Base of all user-facing errors.

    Args:
        where: file, node, instruction or option that the error is about.
        found: what was found there.
        allowed: what would have been accepted (may be empty).
        hint: what to do about it (may be empty).
    """

    exit_code = 1

    def __init__(self, where: str, found: str, allowed: str = "", hint: str = "") -> None:
        self.where, self.found, self.allowed, self.hint = where, found, allowed, hint
        super().__init__(f"{where}: " + "; ".join(part for part in (found, allowed, hint) if part))

    def __reduce__(self) -> tuple[type[MmacError], tuple[str, str, str, str]]:
        """For pickling: an error of another process is raised in this one."""
        return type(self), (self.where, self.found, self.allowed, self.hint)


class UsageError(MmacError):
    """An option, name or level that does not exist or does not fit."""

    exit_code = 2


class UnsupportedError(MmacError):
    """Valid input that this version does not handle."""

    exit_code = 3


class MalformedError(MmacError):
    """A file that is not what it claims to be: truncated, corrupt, of another version, ill-typed."""

    exit_code = 4


class ResourceError(MmacError):
    """Something that does not fit: memory, a scratchpad, an address range."""

    exit_code = 5


class VerificationError(MmacError):
    """A program that the verifier could not prove safe, or results that differ from an oracle."""

    exit_code = 6
