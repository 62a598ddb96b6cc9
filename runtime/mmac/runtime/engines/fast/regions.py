"""Sets of DRAM bytes that a tensor occupies, and how one lies within another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa.structure import View
from mmac.runtime.memory import Bytes

Access = Callable[[Bytes], Bytes]
"""Picks a window (no copy) out of an array."""


@dataclass(frozen=True)
class Region:
    """One byte per element: element i is at ``base + Σ i·strides``."""

    base: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @staticmethod
    def of(view: View) -> Region:
        """All of a tensor register with elements of one byte."""
        return Region(view.base, view.shape, view.strides)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def span(self) -> tuple[int, int]:
        """Half-open range of addresses from the first to the last byte."""
        last = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        return (self.base, self.base + last + 1) if self.size else (self.base, self.base)

    def axes(self) -> list[tuple[int, int, int]]:
        """(stride, size, dimension) of the dimensions that matter, largest stride first."""
        rows = [(s, n, d) for d, (n, s) in enumerate(zip(self.shape, self.strides, strict=True)) if n > 1]
        return sorted(rows, key=lambda row: (-row[0], row[2]))

    @property
    def is_nested(self) -> bool:
        """True if every dimension steps over all of the next smaller one; then no two elements share a byte."""
        inner = 1
        for stride, size, _ in reversed(self.axes()):
            if stride < inner:
                return False
            inner = stride * size
        return True

    @property
    def is_dense(self) -> bool:
        """True if the elements in row-major order are consecutive bytes."""
        step = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size > 1 and stride != step:
                return False
            step *= size
        return True

    def box(self, start: Sequence[int], shape: Sequence[int]) -> Region:
        """The region of a box of elements."""
        base = self.base + sum(i * s for i, s in zip(start, self.strides, strict=True))
        return Region(base, tuple(shape), self.strides)

    def window(self, memory: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The elements, in an array with one entry per byte of DRAM."""
        item = memory.itemsize
        if 0 in self.shape:  # its base may lie outside
            return np.empty(self.shape, memory.dtype)
        return np.ndarray(self.shape, memory.dtype, memory, self.base * item, tuple(s * item for s in self.strides))

    def overlaps(self, other: Region) -> bool:
        """True if the two have a byte in common."""
        low = max(self.span[0], other.span[0])
        high = min(self.span[1], other.span[1])
        if low >= high:
            return False
        start = min(self.span[0], other.span[0])
        marks = np.zeros(max(self.span[1], other.span[1]) - start, np.bool_)
        Region(self.base - start, self.shape, self.strides).window(marks)[...] = True
        return bool(Region(other.base - start, other.shape, other.strides).window(marks).any())


def same_order(outer: Region, inner: Region) -> bool:
    """True if both list the same bytes in the same (row-major) order."""
    if outer.base != inner.base or outer.size != inner.size:
        return False
    dims = [[(n, s) for n, s in zip(r.shape, r.strides, strict=True) if n > 1] for r in (outer, inner)]
    return dims[0] == dims[1] or (outer.is_dense and inner.is_dense)


def locate(outer: Region, inner: Region) -> Access | None:
    """How to find the elements of `inner` in a row-major array of the elements of `outer`.

    Returns:
        A function from an array of `outer.shape` to the window of `inner.shape`; None if no window of numpy's kind
        does it.
    """
    if outer.is_dense and outer.base <= inner.span[0] and inner.span[1] <= outer.span[1]:
        moved = Region(inner.base - outer.base, inner.shape, inner.strides)
        return lambda array: moved.window(array.reshape(-1))
    return locate_slices(outer, inner)


def locate_slices(outer: Region, inner: Region) -> Access | None:
    """As `locate`, by slices along the dimensions of `outer` only, so that it works on windows of arrays too."""
    rest = inner.base - outer.base
    if rest < 0 or not outer.is_nested:
        return None
    start = [0] * len(outer.shape)
    for stride, size, dim in outer.axes():
        start[dim], rest = divmod(rest, stride)
        if start[dim] >= size:
            return None
    index = [slice(s, s + 1) for s in start]
    order = []
    for dim, (size, stride) in enumerate(zip(inner.shape, inner.strides, strict=True)):
        if size == 1:
            continue
        host = next((d for s, _, d in outer.axes() if s <= stride and stride % s == 0 and d not in order), None)
        if host is None or rest:
            return None
        step = stride // outer.strides[host]
        stop = start[host] + (inner.shape[dim] - 1) * step + 1
        if stop > outer.shape[host]:
            return None
        index[host] = slice(start[host], stop, step)
        order.append(host)
    if rest:
        return None
    axes = order + [d for d in range(len(outer.shape)) if d not in order]
    return lambda array: array.reshape(outer.shape)[tuple(index)].transpose(axes).reshape(inner.shape)
