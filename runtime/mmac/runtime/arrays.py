"""Arrays by name, in NPZ and NPY files."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa.errors import MalformedError, ResourceError, UsageError

Arrays = dict[str, npt.NDArray[Any]]

_ALLOWED = "an .npz or .npy file that numpy.save wrote"
_MAGIC = (b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")
"""How NPY files and ZIP archives begin (the last one an empty archive)."""


def read_arrays(path: str | os.PathLike[str]) -> Arrays:
    """All arrays of an NPZ file by name, or the array of an NPY file under the file's name without suffix.

    Raises:
        UsageError: the file cannot be read.
        MalformedError: it does not hold arrays of numbers.
        ResourceError: it does not fit in memory.
    """
    where = str(path)
    try:
        with open(path, "rb") as file:
            if not file.read(8).startswith(_MAGIC):
                raise MalformedError(where, "neither an .npz nor an .npy file", _ALLOWED)
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {Path(path).stem: loaded}
            return {name: _member(loaded[name], where, name) for name in loaded.files}
    except MalformedError:
        raise
    except OSError as error:
        raise UsageError(where, f"cannot be read ({error.strerror or error})", "an .npz or .npy file") from None
    except MemoryError:
        raise ResourceError(where, "does not fit in memory", hint="give fewer samples") from None
    except Exception as error:  # numpy, zipfile and zlib raise many unrelated types for damaged files
        found = "Python objects" if "allow_pickle" in str(error) else str(error) or "it ends early"
        raise MalformedError(where, f"does not hold arrays of numbers ({found})", _ALLOWED) from None


def _member(array: object, where: str, name: str) -> npt.NDArray[Any]:
    """A member of an NPZ file, which numpy gives as bytes if it is not an NPY file."""
    if not isinstance(array, np.ndarray):
        raise MalformedError(where, f"{name!r} in it is not an array", _ALLOWED)
    return array


def to_npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Content of an NPZ file with these arrays; unlike `numpy.savez` it takes any name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return content.getvalue()
