"""Reading the tensors of an old PyTorch checkpoint without PyTorch.

Before version 1.6 a checkpoint was no zip but one stream: three pickles (magic number, protocol, system), the pickled
object, in which every tensor refers to a storage by key, the pickled list of those keys, and then for each key an
int64 length and the raw little-endian values.  The pickles are read by an unpickler that knows four names and
refuses all others, so a file cannot run code.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}

Values = npt.NDArray[np.generic]


class CheckpointError(ValueError):
    """The file is not such a checkpoint, or holds something else than tensors."""


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class _Tensor:
    """A strided window on a storage; strides and offset count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def values(self, storages: Mapping[str, Values]) -> Values:
        data = storages[self.storage.key]
        last = self.offset + sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        if min(self.offset, *self.strides, 0) < 0 or (0 not in self.shape and last >= data.size):
            raise CheckpointError(f"a tensor of shape {self.shape} reaches beyond its storage of {data.size}")
        strides = [stride * data.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, strides).copy()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise CheckpointError(f"the file refers to {module}.{name}; only plain tensors are read")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _device, _length, view = pid
        if kind != "storage" or view is not None:
            raise CheckpointError(f"unknown reference {kind!r}")
        return _Storage(key, dtype)


def _rebuild(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def read_state_dict(data: bytes) -> dict[str, Values]:
    """The tensors of a checkpoint that holds one flat state dict."""
    file = io.BytesIO(data)
    if _Unpickler(file).load() != MAGIC or _Unpickler(file).load() != PROTOCOL:
        raise CheckpointError("not a PyTorch checkpoint of the form before 1.6")
    if not _Unpickler(file).load()["little_endian"]:
        raise CheckpointError("written on a big-endian machine")
    tensors: dict[str, _Tensor] = _Unpickler(file).load()
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
    storages = {}
    for key in _Unpickler(file).load():
        length = int.from_bytes(file.read(8), "little")
        storages[key] = np.frombuffer(file.read(length * dtypes[key].itemsize), dtypes[key])
    return {name: tensor.values(storages) for name, tensor in tensors.items()}
