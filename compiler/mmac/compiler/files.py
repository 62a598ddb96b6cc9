"""Files beside the model that a compilation reads: budgets and calibration data."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa.errors import MalformedError, UsageError
from mmac.isa.plan import MAX_ALPHA, MAX_BETA
from mmac.runtime.arrays import Arrays
from mmac.runtime.arrays import read_arrays as read_arrays

Budgets = dict[str, dict[str, Any]]

_BUDGETS = "one table per layer name or glob"
_LIMITS = {"alpha": MAX_ALPHA, "beta": MAX_BETA}

LARGEST_SAMPLE = 1e30
"""Calibration samples above this leave binary32 no room for products and ranges."""


def read_budgets(path: str | os.PathLike[str], levels: int | None = None) -> Budgets:
    """Budgets per layer from a TOML file, or a JSON file (``.json``): one table for each layer name or glob.

    Args:
        path: the file.
        levels: how many numbers a list must have; None for any.

    Raises:
        UsageError: the file cannot be read.
        MalformedError: it is not TOML or JSON, not a table of tables, or has a budget out of range or falling.
    """
    where = str(path)
    try:
        text = Path(path).read_text("utf-8")
        document = json.loads(text) if where.endswith(".json") else tomllib.loads(text)
    except OSError as error:
        raise UsageError(where, f"cannot be read ({error.strerror})", "a TOML or JSON file") from None
    except (ValueError, RecursionError) as error:
        raise MalformedError(where, f"not TOML or JSON: {error}", _BUDGETS) from None
    if not isinstance(document, dict):
        raise MalformedError(where, f"a {type(document).__name__}", _BUDGETS)
    for name, entry in document.items():
        _check_budget(f"{where}: {name}", name, entry, levels)
    return document


def _check_budget(where: str, name: str, entry: object, levels: int | None) -> None:
    if not isinstance(entry, dict) or not entry or entry.keys() - {*_LIMITS, "keep"}:
        raise MalformedError(where, f"{entry!r}", "a table with alpha, beta or keep", f'such as ["{name}"] alpha = 12')
    if entry.get("keep", "all") != "all":
        raise MalformedError(f"{where}: keep", f"{entry['keep']!r}", 'keep = "all"')
    for key, limit in _LIMITS.items():
        given = entry.get(key, 1)
        numbers = given if isinstance(given, list) else [given]
        if bad := [number for number in numbers if type(number) is not int or not 1 <= number <= limit]:
            raise MalformedError(f"{where}: {key}", f"{bad[0]!r}", f"whole numbers in 1…{limit}")
        if numbers != sorted(numbers):
            raise MalformedError(f"{where}: {key}", f"{numbers}", "numbers that do not fall from one level to the next")
        if isinstance(given, list) and levels is not None and len(given) != levels:
            raise MalformedError(f"{where}: {key}", f"{len(given)} numbers", f"one for each of the {levels} levels")


def read_calibration(path: str | os.PathLike[str]) -> Arrays:
    """Calibration samples: for each model input an array [samples, …].

    Args:
        path: an NPZ file with one array per input, or a folder. Of a folder, ``NAME.npy`` holds samples of the input
            NAME, and the arrays of several NPZ files are joined along their first axis in the order of the file names.

    Raises:
        UsageError: no such file, or nothing in the folder.
        MalformedError: a file that does not hold arrays, arrays that cannot be joined, or numbers that are not finite
            or leave binary32 no room.
    """
    found = _joined(path) if Path(path).is_dir() else read_arrays(path)
    _check_samples(found, str(path))
    return found


def _joined(path: str | os.PathLike[str]) -> Arrays:
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


def _check_samples(samples: Mapping[str, npt.NDArray[Any]], where: str) -> None:
    for name, array in samples.items():
        if array.dtype.kind == "f" and array.size:
            extreme = max(array.min(), array.max(), key=abs)  # NaN, if there is one
            if not abs(extreme) <= LARGEST_SAMPLE:
                raise MalformedError(
                    f"{where}: {name!r}", f"{extreme} among the samples", f"numbers of at most {LARGEST_SAMPLE:g}"
                )
