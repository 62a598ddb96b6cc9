"""The state that the host and the device share: DRAM, and the tensors that only host segments see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa.program import Program, TensorInfo
from mmac.isa.structure import View

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]


class Memory:
    """DRAM with the program's image in it, and host-only tensors by name.

    All accessors return numpy windows into `dram` (no copies) unless they say otherwise. They are bounds-checked by
    numpy: an address outside DRAM raises ValueError, which in a verified program is a bug of the engine.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.dram: Bytes = np.zeros(program.dram_bytes, np.uint8)
        self.dram[: program.image.size] = program.image
        self.host: dict[str, Array] = {}

    def view(self, view: View) -> Bytes:
        """The whole of a tensor register: uint8 [n, h, w, c], or [n, h, w, c, elem] if elements have several bytes."""
        return self.box(view, (0, 0, 0, 0), view.shape)

    def box(self, view: View, start: Sequence[int], extent: Sequence[int]) -> Bytes:
        """Elements ``start … start + extent`` of a tensor register, as `view`; they must lie inside the view."""
        shape, strides = (tuple(extent), view.strides) if view.elem == 1 else ((*extent, view.elem), (*view.strides, 1))
        offset = view.base + sum(s * stride for s, stride in zip(start, view.strides, strict=True))
        if 0 in shape:
            return np.empty(shape, np.uint8)
        return np.ndarray(shape, np.uint8, self.dram, offset, strides)

    def placed(self, tensor: TensorInfo) -> Array:
        """A named tensor where it lies in DRAM, in ONNX's shape and dtype."""
        if tensor.place is None:
            raise ValueError(f"{tensor.name} does not lie in DRAM")
        return np.ndarray(tensor.shape, tensor.dtype, self.dram, tensor.place.base, tensor.place.strides)

    def read(self, name: str) -> Array:
        """A contiguous copy of a named tensor as it is now, in ONNX's shape and dtype."""
        tensor = self.program.tensor[name]
        return np.array(self.host[name] if tensor.place is None else self.placed(tensor), order="C")

    def write(self, name: str, array: Array) -> None:
        """Set a named tensor; `array` has its shape and dtype."""
        tensor = self.program.tensor[name]
        if tensor.place is None:
            self.host[name] = array
        else:
            _spread(array, self.placed(tensor))


_FEW = 8
"""Elements along the innermost axis up to which numpy is slow at copying."""


def _spread(source: Array, target: Array) -> None:
    """Copy between layouts."""
    if target.ndim > 1 and target.shape[inner := int(np.argmin(target.strides))] <= _FEW:
        target, source = np.moveaxis(target, inner, 0), np.moveaxis(source, inner, 0)
        for part, whole in zip(source, target, strict=True):
            whole[...] = part
    else:
        target[...] = source
