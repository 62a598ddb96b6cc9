"""What a search has measured so far, in a file: an interrupted search goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from mmac.compiler.graph.edit import Array
from mmac.isa.errors import MalformedError, MmacError, UsageError
from mmac.isa.files import write_file
from mmac.runtime.arrays import Arrays, read_arrays, to_npz

_FORMAT = "mmac search 2"
_ABOUT = "digest"
_DIGEST = 64
"""Characters of a digest, which says nothing to anybody."""


class State:
    """Arrays by key, each computed once and kept in an NPZ file.

    Args:
        path: the file; None keeps nothing.
        about: everything that the arrays depend on, by what it is called.

    Raises:
        MalformedError: the file is no state of a search.
        UsageError: it is about something else; it stays as it is.
    """

    def __init__(self, path: str | os.PathLike[str] | None, about: Mapping[str, str]) -> None:
        self._path, self._about = path, about
        self._arrays: Arrays = {}
        if path is not None and Path(path).exists():
            self._arrays = _read(path, about)

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
            write_file(self._path, to_npz({_ABOUT: np.array([_FORMAT, json.dumps(self._about)])} | self._arrays))


def _read(path: str | os.PathLike[str], about: Mapping[str, str]) -> Arrays:
    own: dict[str, str] = {}
    try:
        arrays = read_arrays(path)
        form, text = arrays.pop(_ABOUT).tolist()
        if form == _FORMAT:
            own = dict(json.loads(text))
    except (MmacError, KeyError, ValueError, TypeError):
        form, arrays = "", {}
    if not str(form).startswith(_FORMAT.rpartition(" ")[0]):
        raise MalformedError(str(path), "not the state of a search", "a new file, or one that mmac search wrote")
    differ = (
        []
        if form != _FORMAT
        else [(key, own.get(key, ""), here) for key, here in about.items() if own.get(key) != here]
    )
    if form != _FORMAT or differ:
        raise UsageError(
            str(path),
            f"measured with {_differences(differ)}",
            "the state of a search of the same model, data and options (limits may differ)",
            "name another file, or remove this one",
        )
    return arrays


def _differences(differ: Sequence[tuple[str, str, str]]) -> str:
    """In words: options that differ, or else the first thing that does, which others follow from."""
    options = [f"{key} {there} (now {here})" for key, there, here in differ if len(there) not in (0, _DIGEST)]
    return " and ".join(options) or f"a different {differ[0][0] if differ else 'version of mmac'}"


def digest_of_model(model: ir.Model) -> str:
    """A digest of a model's graph and constants."""
    digest = hashlib.sha256()
    for node in model.graph:
        digest.update(f"{node.name} {node.op_identifier()} {sorted(node.attributes)}".encode())
        digest.update(" ".join(value.name or "" for value in node.inputs if value is not None).encode())
    constants = {name: value.const_value for name, value in model.graph.initializers.items()}
    for name, tensor in constants.items():
        if tensor is not None:
            digest.update(name.encode() + str(tensor.dtype).encode())
            digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()


def digest_of_samples(samples: Mapping[str, Array]) -> str:
    """A digest of arrays by name."""
    digest = hashlib.sha256()
    for name, array in sorted(samples.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
