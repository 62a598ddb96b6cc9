"""Reading text that a user named, and writing files so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from mmac.isa.errors import MalformedError, MmacError, ResourceError, UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_FOLDER = (errno.ENOENT, errno.ENOTDIR)


def read_text(path: str | os.PathLike[str], allowed: str) -> str:
    """The text of a file; `allowed` says what it should hold.

    Raises:
        UsageError: the file cannot be read.
        MalformedError: it is not UTF-8.
    """
    try:
        return Path(path).read_text("utf-8")
    except UnicodeDecodeError:
        raise MalformedError(str(path), "not UTF-8 text", allowed) from None
    except OSError as error:
        raise UsageError(str(path), f"cannot be read ({error.strerror})", allowed) from None


def check_readable(path: str | os.PathLike[str], allowed: str) -> None:
    """Find out whether there is a file that can be read, or a folder; `allowed` says what it should be.

    Raises:
        UsageError: there is none.
    """
    try:  # not by opening it: what comes out of a pipe comes once
        os.stat(path)
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UsageError(str(path), f"cannot be read ({error.strerror})", allowed) from None


def write_file(path: str | os.PathLike[str], data: bytes | str) -> None:
    """`atomic_write` for files that a user named.

    Raises:
        ResourceError: the disk is full.
        UsageError: the file cannot be written for another reason.
    """
    try:
        atomic_write(path, data)
    except OSError as error:
        raise _not_written(path, error) from None


def check_writable(path: str | os.PathLike[str]) -> None:
    """Find out whether `write_file` could write there, before the work that it takes to know what; leaves no trace.

    Raises as `write_file`.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not target.exists() or target.is_file():
            with tempfile.TemporaryFile(dir=target.parent):
                pass
        elif not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _not_written(path, error) from None


def _not_written(path: str | os.PathLike[str], error: OSError) -> MmacError:
    where, found = str(path), f"cannot be written ({error.strerror})"
    if error.errno in _FULL:
        return ResourceError(where, found, hint="free some space; nothing was written")
    hint = f"make the folder {Path(path).parent} first" if error.errno in _NO_FOLDER else "give another name"
    return UsageError(where, found, "a file in a folder that you may write to", hint)


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write `data` beside `path`, flush it to the disk, and rename it into place.

    If anything goes wrong (a full disk, Ctrl-C), `path` is as it was and nothing is left beside it. Text is written
    as UTF-8. A device or a pipe is written to as it is.

    Raises:
        OSError: as the file system gives it.
    """
    content = data.encode() if isinstance(data, str) else data
    if (special := Path(path)).exists() and not special.is_file():
        special.write_bytes(content)
        return
    target = Path(os.path.realpath(path))
    handle, beside = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, _mode(target))
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _mode(target: Path) -> int:
    """Permissions that a plain `open(target, "w")` would have left."""
    try:
        return target.stat().st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
