"""Files beside the model that a compilation reads: budgets, calibration data, arrays in general."""

from __future__ import annotations

import io
import json
import os
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa.errors import MalformedError, ResourceError, UsageError

Arrays = dict[str, npt.NDArray[Any]]


def read_budgets(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Budgets per layer from a TOML file, or a JSON file (``.json``): one table for each layer name or glob.

    Raises:
        UsageError: the file cannot be read.
        MalformedError: it is not TOML or JSON, or not a table of tables.
    """
    where = str(path)
    try:
        text = Path(path).read_text("utf-8")
        document = json.loads(text) if where.endswith(".json") else tomllib.loads(text)
    except OSError as error:
        raise UsageError(where, f"cannot be read ({error.strerror})", "a TOML or JSON file") from None
    except (ValueError, RecursionError) as error:
        raise MalformedError(where, f"not TOML or JSON: {error}", "one table per layer name or glob") from None
    if not isinstance(document, dict):
        raise MalformedError(where, f"a {type(document).__name__}", "one table per layer name or glob")
    for name, entry in document.items():
        if not isinstance(entry, dict):
            raise MalformedError(
                f"{where}: {name}", f"{entry!r}", "a table with alpha, beta or keep", f'such as ["{name}"] alpha = 12'
            )
    return document


def read_calibration(path: str | os.PathLike[str]) -> Arrays:
    """Calibration samples: for each model input an array [samples, …].

    Args:
        path: an NPZ file with one array per input, or a folder. Of a folder, ``NAME.npy`` holds samples of the input
            NAME, and the arrays of several NPZ files are joined along their first axis in the order of the file names.

    Raises:
        UsageError: no such file, or nothing in the folder.
        MalformedError: a file that does not hold arrays, or arrays that cannot be joined.
    """
    if not Path(path).is_dir():
        return read_arrays(path)
    files = sorted(file for file in Path(path).iterdir() if file.suffix in (".npz", ".npy"))
    if not files:
        raise UsageError(str(path), "no .npz or .npy file in it", "files with one array [samples, …] per input")
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    for file in files:
        for name, array in read_arrays(file).items():
            parts.setdefault(name, []).append(array)
    try:
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}
    except ValueError as error:
        raise MalformedError(str(path), f"arrays that do not fit together: {error}", "samples of equal shape") from None


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
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {Path(path).stem: loaded}
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise UsageError(where, f"cannot be read ({error.strerror or error})", "an .npz or .npy file") from None
    except MemoryError:
        raise ResourceError(where, "does not fit in memory") from None
    except Exception as error:  # numpy, zipfile and zlib raise many unrelated types for damaged files
        found = f"does not hold arrays of numbers ({error or 'it ends early'})"
        raise MalformedError(where, found, "an .npz or .npy file that numpy.save wrote") from None


def to_npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Content of an NPZ file with these arrays; unlike `numpy.savez` it takes any name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return content.getvalue()
