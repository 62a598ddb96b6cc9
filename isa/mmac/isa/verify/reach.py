"""The exact set of DRAM bytes that a walk touches over all iterations, in closed form.

One loop moves one dimension of a view only, so the set of elements is a product: per dimension the union of the
boxes' index ranges, clipped to the view. A union is one range if the boxes touch or overlap, else equal blocks at a
fixed distance, of which the first and the last may be clipped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mmac.isa.program import TensorInfo
from mmac.isa.structure import Step

Scalar = TypeVar("Scalar", bound=np.generic)

Axis = tuple[int, int]
"""Number of elements and their distance in bytes."""


@dataclass(frozen=True)
class Span:
    """Indices of one dimension: blocks of `length`, `period` apart, the first at `origin`, clipped to `low` … `high`-1.

    A `period` of 0 means one range without gaps.
    """

    low: int
    high: int
    origin: int
    period: int
    length: int

    def pieces(self) -> Iterator[tuple[int, tuple[int, int], int]]:
        """The span as disjoint unclipped runs: first index, (blocks, period), block length."""
        if self.period == 0:
            yield self.low, (1, 0), self.high - self.low
            return
        last = self.origin + (self.high - 1 - self.origin) // self.period * self.period
        first, clipped_last = self.origin, self.high < last + self.length
        if first < self.low:
            yield self.low, (1, 0), first + self.length - self.low
            first += self.period
        if clipped_last:
            yield last, (1, 0), self.high - last
            last -= self.period
        if first <= last:
            yield first, ((last - first) // self.period + 1, self.period), self.length


def span(step: Step, size: int, count: int) -> Span | None:
    """Indices inside a dimension of `size` elements that a walk of `count` positions touches; None if none."""
    period = abs(step.step)
    origin = step.origin + min(step.step, 0) * (count - 1)
    if period == 0:
        count = 1
    # positions i whose block origin + i·period … + extent - 1 meets 0 … size-1
    first = max(0, -((origin + step.extent - 1) // period)) if period else 0
    last = min(count - 1, (size - 1 - origin) // period) if period else 0
    start, stop = origin + first * period, origin + last * period + step.extent
    if first > last or stop <= 0 or start >= size:
        return None
    low, high = max(0, start), min(size, stop)
    if period <= step.extent or first == last:
        return Span(low, high, low, 0, high - low)
    return Span(low, high, start, period, step.extent)


@dataclass(frozen=True)
class Reach:
    """Bytes of DRAM: ``base + Σ index·stride + 0 … elem-1`` for the indices of each dimension's span."""

    base: int
    elem: int
    spans: tuple[Span, ...]
    strides: tuple[int, ...]

    @property
    def low(self) -> int:
        """Address of the first byte."""
        return self.base + sum(s.low * stride for s, stride in zip(self.spans, self.strides, strict=True))

    @property
    def high(self) -> int:
        """Address after the last byte."""
        last = sum((s.high - 1) * stride for s, stride in zip(self.spans, self.strides, strict=True))
        return self.base + last + self.elem

    def blocks(self) -> Iterator[tuple[int, list[Axis]]]:
        """The elements as regular blocks: address of the first, and the axes of the others from there on."""
        for parts in itertools.product(*(s.pieces() for s in self.spans)):
            address, axes = self.base, []
            for (first, (blocks, period), length), stride in zip(parts, self.strides, strict=True):
                address += first * stride
                axes += [(blocks, period * stride), (length, stride)]
            yield address, axes

    def windows(self, memory: npt.NDArray[Scalar]) -> Iterator[npt.NDArray[Scalar]]:
        """Numpy windows (not copies) of a `memory` of one cell per byte, which together are these bytes."""
        for address, axes in self.blocks():
            yield _window(memory, address, _merged([*axes, (self.elem, 1)]))

    def elements(self, memory: npt.NDArray[Scalar]) -> Iterator[npt.NDArray[Scalar]]:
        """The same, element by element: windows whose last axis is the bytes of one element."""
        for address, axes in self.blocks():
            yield _window(memory, address, [*_merged(axes), (self.elem, 1)])

    @property
    def work(self) -> int:
        """Cells in all windows together."""
        return sum(math.prod(size for size, _ in axes) for _, axes in self.blocks()) * self.elem

    def overlaps_itself(self) -> bool:
        """True unless it is certain that no two elements share a byte."""
        axes = sorted((stride, s.high - s.low) for s, stride in zip(self.spans, self.strides, strict=True))
        room = self.elem
        for stride, size in axes:
            if size > 1:
                if stride < room:
                    return True
                room += stride * (size - 1)
        return False

    def meets(self, other: Reach) -> bool:
        """True if the two share a byte."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        if max(self.low, other.low) >= min(self.high, other.high):
            return False
        cells = np.zeros(high - low, np.bool_)
        for window in self._moved(-low).windows(cells):
            window[...] = True
        return any(window.any() for window in other._moved(-low).windows(cells))

    def _moved(self, distance: int) -> Reach:
        return Reach(self.base + distance, self.elem, self.spans, self.strides)


def whole(base: int, elem: int, shape: Sequence[int], strides: Sequence[int]) -> Reach:
    """All elements of an array."""
    return Reach(base, elem, tuple(Span(0, size, 0, 0, size) for size in shape), tuple(strides))


def reach_of(tensor: TensorInfo) -> Reach | None:
    """All bytes of a named tensor; None if it does not lie in DRAM."""
    if tensor.place is None:
        return None
    return whole(tensor.place.base, np.dtype(tensor.dtype).itemsize, tensor.shape, tensor.place.strides)


def _merged(axes: list[Axis]) -> list[Axis]:
    """Fewest axes over the same bytes, the widest stride first; repetition (stride 0) dropped."""
    merged: list[Axis] = []
    for size, stride in sorted((a for a in axes if a[0] > 1 and a[1] > 0), key=lambda axis: -axis[1]):
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return merged


def _window(memory: npt.NDArray[Scalar], address: int, axes: list[Axis]) -> npt.NDArray[Scalar]:
    return np.ndarray([size for size, _ in axes], memory.dtype, memory, address, [stride for _, stride in axes])
