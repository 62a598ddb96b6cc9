"""Labelled samples: arrays out of an NPZ file, or a folder of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mmac.compiler.evaluation.images import Preprocessing, read_folder
from mmac.isa.errors import MalformedError, UsageError
from mmac.isa.files import check_readable
from mmac.isa.program import Port
from mmac.runtime.arrays import Arrays, read_arrays

Array = npt.NDArray[Any]

LABELS = "labels"
"""Name of the array of labels unless the user gives another."""


class Dataset(Protocol):
    """Samples with their labels, in an order. Pickled when it goes to another process."""

    @property
    def labels(self) -> Array:
        """[n, …]: the label of each sample."""

    def take(self, positions: npt.NDArray[np.intp]) -> Dataset:
        """Some of the samples."""

    def inputs(self) -> Arrays:
        """By name of the model's input an array [n, …]; made when it is asked for.

        Raises:
            MalformedError: a sample that cannot be read.
        """


@dataclass(frozen=True)
class Samples:
    """Arrays in memory: by name of the model's input an array [n, …], and labels [n, …]."""

    arrays: Arrays
    labels: Array

    def take(self, positions: npt.NDArray[np.intp]) -> Samples:
        """Some of the samples."""
        return Samples({name: array[positions] for name, array in self.arrays.items()}, self.labels[positions])

    def inputs(self) -> Arrays:
        """The arrays."""
        return self.arrays


def read_dataset(
    path: str | os.PathLike[str],
    ports: Sequence[Port],
    labels: str = LABELS,
    preprocessing: Preprocessing | None = None,
) -> Dataset:
    """The dataset in a file or folder.

    Args:
        path: an NPZ file with one array [n, …] per model input and one of labels, other arrays do not count; or a
            folder with one folder of images per class.
        ports: inputs of the program that is to read it.
        labels: name of the array of labels.
        preprocessing: how images become inputs; only for a folder.

    Raises:
        UsageError: the file cannot be read, or an array is missing.
        MalformedError: arrays of another type or shape than the inputs, or of different lengths; no samples.
        ResourceError: arrays that do not fit in memory.
    """
    check_readable(path, "an NPZ file of samples and labels, or a folder with a folder of images for each class")
    if Path(path).is_dir():
        return read_folder(path, ports, preprocessing or Preprocessing())
    if preprocessing is not None:
        raise UsageError(str(path), "arrays are taken as they are", "preprocessing for a folder of images only")
    found = read_arrays(path)
    if labels not in found:
        names = ", ".join(map(repr, found)) or "none"
        raise UsageError(
            str(path), f"no array {labels!r} in it", f"there are {names}", "say which holds the labels (--labels)"
        )
    given = found.pop(labels)
    for port in ports:
        if port.name not in found:
            names = ", ".join(map(repr, found)) or "none"
            raise UsageError(
                str(path),
                f"no array for input {port.name!r}",
                f"beside labels there are {names}",
                "name the arrays as the model names its inputs",
            )
    samples = Samples({port.name: found[port.name] for port in ports}, given)
    _check(samples, ports, str(path))
    return samples


def _check(samples: Samples, ports: Sequence[Port], where: str) -> None:
    for port in ports:
        array = samples.arrays[port.name]
        if array.shape[1:] != port.shape[1:] or not array.ndim:
            allowed = f"[n, {', '.join(map(str, port.shape[1:]))}]"
            raise MalformedError(f"{where}: input {port.name!r}", f"shape {list(array.shape)}", allowed)
        if array.dtype != port.dtype:
            raise MalformedError(f"{where}: input {port.name!r}", f"dtype {array.dtype}", port.dtype)
    if not samples.labels.ndim:
        raise MalformedError(f"{where}: labels", "a single number", "an array of one label for each sample")
    counts = {name: len(array) for name, array in [*samples.arrays.items(), ("labels", samples.labels)]}
    if len(set(counts.values())) != 1:
        raise MalformedError(where, f"different numbers of samples: {counts}", "the same for all")
    if not len(samples.labels):
        raise MalformedError(where, "no samples", "one at least")
