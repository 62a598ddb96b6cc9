"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write `data` beside `path`, flush it to the disk, and rename it into place.

    If anything goes wrong (a full disk, Ctrl-C), `path` is as it was and nothing is left beside it. Text is written
    as UTF-8.

    Raises:
        OSError: as the file system gives it.
    """
    target = Path(os.path.realpath(path))
    content = data.encode() if isinstance(data, str) else data
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
