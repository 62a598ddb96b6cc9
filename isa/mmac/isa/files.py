"""Reading text that a user named, and writing files so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from mmac.isa.errors import MalformedError, ResourceError, UsageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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


def write_file(path: str | os.PathLike[str], data: bytes | str) -> None:
    """`atomic_write` for files that a user named.

    Raises:
        ResourceError: the disk is full.
        UsageError: the file cannot be written for another reason.
    """
    try:
        atomic_write(path, data)
    except OSError as error:
        found = f"cannot be written ({error.strerror})"
        if error.errno in _FULL:
            raise ResourceError(str(path), found, hint="free some space; nothing was written") from None
        raise UsageError(str(path), found) from None


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
