"""Files beside the model that a compilation reads: budgets and calibration data."""

from __future__ import annotations

import json
import os
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.compiler.budgets import Budgets, check_budgets
from mmac.isa.errors import MalformedError, UsageError
from mmac.isa.files import check_readable, read_text
from mmac.isa.plan import Level
from mmac.runtime.arrays import Arrays
from mmac.runtime.arrays import read_arrays as read_arrays

LARGEST_SAMPLE = 1e30
"""Calibration samples above this leave binary32 no room for products and ranges."""


def read_budgets(path: str | os.PathLike[str], levels: Sequence[Level] | None = None) -> Budgets:
    """Budgets per layer from a TOML file, or a JSON file (``.json``): one table for each layer name, glob or position.

    Args:
        path: the file.
        levels: levels of the program, which lists must have as many numbers as; None for any.

    Raises:
        UsageError: the file cannot be read.
        MalformedError: it is not TOML or JSON, has a key twice or nothing in it, or
            `mmac.compiler.budgets.check_budgets` refuses it.
    """
    where = str(path)
    text = read_text(path, "a TOML file, or a JSON file with a name that ends in .json")
    form, parse, other = _FORMS[where.endswith(".json")]
    try:
        document = parse(text)
    except _TwiceError as error:
        raise MalformedError(where, f"{error.args[0]!r} is there twice", "each key once in its table") from None
    except (ValueError, RecursionError) as error:
        raise MalformedError(where, f"not {form}: {error}", f"one table per layer, in {form}", other) from None
    if document == {}:
        raise MalformedError(where, "no budgets in it", "one table per layer name, glob or position")
    check_budgets(document, where, levels)
    budgets: Budgets = document
    return budgets


class _TwiceError(ValueError):
    """A key of a JSON object that is there twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(key for key, _ in pairs)
    if twice := [key for key, count in counts.items() if count > 1]:
        raise _TwiceError(twice[0])
    return dict(pairs)


_FORMS: tuple[tuple[str, Callable[[str], Any], str], ...] = (
    ("TOML", tomllib.loads, "the name of a JSON file has to end in .json"),
    ("JSON", partial(json.loads, object_pairs_hook=_unique), "the name of a TOML file may not end in .json"),
)
"""What a budget file without and with the suffix ``.json`` is: its name, its parser, what else may be wrong."""


def read_calibration(path: str | os.PathLike[str]) -> Arrays:
    """Calibration samples: for each model input an array [samples, …].

    Args:
        path: an NPZ file with one array per input (others, such as labels, do not count), or a folder. Of a folder,
            ``NAME.npy`` holds samples of the input NAME, and the arrays of several NPZ files are joined along their
            first axis in the order of the file names.

    Raises:
        UsageError: no such file, or nothing in the folder.
        MalformedError: a file that does not hold arrays, arrays that cannot be joined, or numbers that are not finite
            or leave binary32 no room.
    """
    check_readable(path, "an NPZ file with one array [samples, …] per input, or a folder of .npz or NAME.npy files")
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
