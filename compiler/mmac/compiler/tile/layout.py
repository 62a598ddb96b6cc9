"""Where the elements of a logical (ONNX) tensor lie in a DRAM buffer.

A `Layout` is a numpy array without memory: shape and strides only. So reshapes, transposes, slices and broadcasts of
tensors are numpy's own, and cost nothing at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.compiler.tile.ir import Dims, View

Dummy = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """A tensor of one-byte elements on `buffer`: element i is at ``offset + Σ i·strides``; `shape` is ONNX's."""

    buffer: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @staticmethod
    def dense(buffer: str, shape: Sequence[int], order: Sequence[int] | None = None) -> Layout:
        """A tensor that fills its buffer; `order` lists its axes from the outermost to the innermost in memory."""
        strides = [0] * len(shape)
        step = 1
        for axis in reversed(order if order is not None else range(len(shape))):
            strides[axis] = step
            step *= shape[axis]
        return Layout(buffer, 0, tuple(shape), tuple(strides))

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=object))

    def map(self, change: Callable[[Dummy], Dummy]) -> Layout | None:
        """The layout after a numpy view operation; None if that would need a copy or steps backwards."""
        dummy = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), self.shape, self.strides, writeable=False)
        try:
            changed = change(dummy)
        except ValueError:
            return None
        if any(s < 0 for s in changed.strides):
            return None
        moved = changed.__array_interface__["data"][0] - dummy.__array_interface__["data"][0]
        return Layout(self.buffer, self.offset + moved, changed.shape, changed.strides)

    def reshape(self, shape: Sequence[int]) -> Layout | None:
        """The same bytes under another shape, if no copy is needed."""
        return self.map(lambda a: np.reshape(a, tuple(shape), copy=False))

    def memory_order(self) -> tuple[int, ...]:
        """Axes from the outermost to the innermost in memory; among equals the channel axis (1) goes last."""
        rank = len(self.shape)
        preference = [0, *range(2, rank), 1] if rank > 2 else list(range(rank))
        return tuple(sorted(preference, key=lambda axis: -self.strides[axis]))

    def merged(self, groups: Sequence[Sequence[int]]) -> Layout | None:
        """The layout with axes reordered and each group merged into one; None if a group does not merge."""
        order = [axis for group in groups for axis in group]
        shape = [int(np.prod([self.shape[a] for a in group], dtype=object)) for group in groups]
        return self.map(lambda a: np.reshape(a.transpose(order), shape, copy=False))

    def view(self, groups: Sequence[Sequence[int]]) -> View | None:
        """The 4-D view whose dimensions are the given four groups of axes; a repeated dimension has size 1."""
        merged = self.merged(groups)
        if merged is None:
            return None
        shape = [size if stride else 1 for size, stride in zip(merged.shape, merged.strides, strict=True)]
        strides, inside = list(merged.strides), 1
        for i in range(len(shape) - 1, -1, -1):
            if shape[i] == 1:  # never taken: give equal views equal strides
                strides[i] = inside
            inside = strides[i] * shape[i]
        return View(self.buffer, merged.offset, dims(shape), dims(strides))

    def broadcast(self, shape: Sequence[int]) -> Layout:
        """Repeated to a larger shape by numpy's rules; repeated axes have stride 0."""
        wide = self.map(lambda a: np.broadcast_to(a, tuple(shape)))
        if wide is None:
            raise ValueError(f"{self.shape} does not broadcast to {tuple(shape)}")
        return wide


def dims(values: Sequence[int]) -> Dims:
    """Exactly four numbers."""
    n, h, w, c = values
    return int(n), int(h), int(w), int(c)


def elementwise_axes(layouts: Sequence[Layout]) -> list[tuple[int, ...]] | None:
    """Four groups of axes, outermost first, in which all the layouts (of one shape) can be walked together.

    Axes follow the memory order of the first layout; with more than four, neighbours that merge in all of them do.
    None if more than four dimensions remain.
    """
    groups: list[tuple[int, ...]] = [(axis,) for axis in layouts[0].memory_order()]
    while len(groups) > 4:
        for i in range(len(groups) - 1):
            merged = [*groups[:i], groups[i] + groups[i + 1], *groups[i + 2 :]]
            if all(layout.merged(merged) is not None for layout in layouts):
                groups = merged
                break
        else:
            return None
    empty: tuple[int, ...] = ()
    return [empty] * (4 - len(groups)) + groups
