"""What a search has measured so far, in a file: an interrupted search goes on where it was."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from mmac.compiler.graph.edit import Array
from mmac.isa.errors import MalformedError, MmacError, MmacWarning
from mmac.isa.files import write_file
from mmac.runtime.arrays import Arrays, read_arrays, to_npz

_FORMAT = "mmac search 1"
_DIGEST = "digest"


class State:
    """Arrays by key, each computed once and kept in an NPZ file.

    Args:
        path: the file; None keeps nothing.
        digest: of everything that the arrays depend on. A file with another one is begun anew, with a warning.

    Raises:
        MalformedError: the file is no state of a search.
    """

    def __init__(self, path: str | os.PathLike[str] | None, digest: str) -> None:
        self._path, self._digest = path, digest
        self._arrays: Arrays = {}
        if path is not None and Path(path).exists():
            self._arrays = _read(path, digest)

    def get(self, key: str, compute: Callable[[], Mapping[str, Array]]) -> Arrays:
        """Arrays under a key: those of the file, or computed now and written at once."""
        prefix = f"{key}/"
        if key not in self._arrays:
            found = compute()
            self._arrays |= {prefix + name: np.asarray(array) for name, array in found.items()}
            self._arrays[key] = np.array(len(found))
            self._save()
        return {name.removeprefix(prefix): array for name, array in self._arrays.items() if name.startswith(prefix)}

    def _save(self) -> None:
        if self._path is not None:
            write_file(self._path, to_npz({_DIGEST: np.array([_FORMAT, self._digest])} | self._arrays))


def _read(path: str | os.PathLike[str], digest: str) -> Arrays:
    try:
        arrays = read_arrays(path)
        form, own = arrays.pop(_DIGEST).tolist()
    except (MmacError, KeyError, ValueError, TypeError):
        form, own, arrays = "", "", {}
    if form != _FORMAT:
        raise MalformedError(str(path), "not the state of a search", "a new file, or one that mmac search wrote")
    if own != digest:
        warnings.warn(
            f"{path}: of another model, data, options or version; measuring begins anew", MmacWarning, stacklevel=2
        )
        return {}
    return arrays


def digest_of(model: ir.Model, samples: Mapping[str, Array], more: Iterable[str]) -> str:
    """A digest of a model's graph and constants, of samples, and of texts."""
    digest = hashlib.sha256()
    for text in more:
        digest.update(f"{len(text)}:{text}".encode())
    for node in model.graph:
        digest.update(f"{node.name} {node.op_identifier()} {sorted(node.attributes)}".encode())
        digest.update(" ".join(value.name or "" for value in node.inputs if value is not None).encode())
    constants = {name: value.const_value for name, value in model.graph.initializers.items()}
    for name, tensor in constants.items():
        if tensor is not None:
            digest.update(name.encode() + str(tensor.dtype).encode())
            digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    for name, array in sorted(samples.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
