"""Whole-tensor operations: what loop nests turn out to be once `mmac.runtime.engines.fast.lift` has proved it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.structure import Node, View
from mmac.runtime.engines.fast.regions import Region


@dataclass(frozen=True)
class Reading:
    """The box of `shape` elements that starts at coordinate `origin` of `region`; outside of it, the byte `fill`."""

    region: Region
    origin: tuple[int, ...]
    shape: tuple[int, ...]
    fill: int = 0

    @staticmethod
    def whole(region: Region) -> Reading:
        """All of a region."""
        return Reading(region, (0,) * len(region.shape), region.shape)


@dataclass(frozen=True)
class Window:
    """Window geometry, all as (h, w); `pad` is the padding before the first row and column (negative: skipped)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int]

    def extent(self, outputs: tuple[int, int]) -> tuple[int, int]:
        """Input rows and columns, padding included, that so many output rows and columns see."""
        h, w = (
            (n - 1) * s + (k - 1) * d + 1
            for n, s, k, d in zip(outputs, self.stride, self.kernel, self.dilation, strict=True)
        )
        return h, w


@dataclass(frozen=True)
class Windowed:
    """What convolution and pooling share: windows over x [n, h, w, c] give y."""

    x: Region
    y: Region
    window: Window
    fill: int
    zero: int
    """The byte that stands for nothing outside x: padding with it needs no copy."""

    @cached_property
    def after(self) -> tuple[int, int]:
        """Padding after the last row and column (negative: rows that no window sees)."""
        h, w = self.window.extent((self.y.shape[1], self.y.shape[2]))
        return h - self.window.pad[0] - self.x.shape[1], w - self.window.pad[1] - self.x.shape[2]

    @cached_property
    def is_plain(self) -> bool:
        """True if the kernel can do the padding itself: with zeros, less than a window of it, and nothing skipped."""
        window, pads = self.window, (*self.window.pad, *self.after)
        reach = [(k - 1) * d for k, d in zip(window.kernel, window.dilation, strict=True)]
        unseen = all(-s < after for s, after in zip(window.stride, self.after, strict=True))
        small = all(0 <= p <= r for p, r in zip(window.pad, reach, strict=True)) and all(
            p <= r for p, r in zip(self.after, reach, strict=True)
        )
        return small and unseen and (self.fill == self.zero or max(pads) <= 0)

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """Padding that the kernel does: before h, w, after h, w (ONNX order)."""
        if not self.is_plain:
            return 0, 0, 0, 0
        return *self.window.pad, max(self.after[0], 0), max(self.after[1], 0)

    @property
    def reading(self) -> Reading:
        """What the kernel reads: x, or x with the padding around it."""
        if self.is_plain:
            return Reading.whole(self.x)
        n, _, _, c = self.x.shape
        h, w = self.window.extent((self.y.shape[1], self.y.shape[2]))
        return Reading(self.x, (0, -self.window.pad[0], -self.window.pad[1], 0), (n, h, w, c), self.fill)

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The tensors read."""
        return (self.reading,)

    @property
    def writings(self) -> tuple[Region, ...]:
        """The tensors written."""
        return (self.y,)


@dataclass(frozen=True)
class Tiles:
    """Where the weight tiles of a convolution are: `entries` [K, N] are addresses of directory entries.

    Output channels are cut into boxes of `channels`, the first `skip` of them before channel 0; input channels (per
    group) into boxes of `reduction`.
    """

    layer: int
    format: table.TermFormat
    entries: npt.NDArray[np.int64]
    channels: int
    skip: int
    reduction: int


@dataclass(frozen=True)
class Convolution(Windowed):
    """Convolution or matrix product on the array, and the requantization of its sums."""

    groups: int
    tiles: Tiles
    params: View
    source: table.Quant
    result: table.Quant


@dataclass(frozen=True)
class Pool(Windowed):
    """Maximum or average of windows, per channel."""

    average: bool
    count_pad: bool
    quant: table.Quant


@dataclass(frozen=True)
class Binary:
    """Elementwise sum or product of two tensors; dimensions of size 1 are broadcast."""

    a: Region
    b: Region
    y: Region
    multiply: bool
    quant: table.Quant

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The tensors read."""
        return Reading.whole(self.a), Reading.whole(self.b)

    @property
    def writings(self) -> tuple[Region, ...]:
        """The tensors written."""
        return (self.y,)


@dataclass(frozen=True)
class Lookup:
    """y = table[x], on bytes."""

    x: Region
    y: Region
    table: npt.NDArray[np.uint8]

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The tensors read."""
        return (Reading.whole(self.x),)

    @property
    def writings(self) -> tuple[Region, ...]:
        """The tensors written."""
        return (self.y,)


@dataclass(frozen=True)
class Copy:
    """Each of `writings` gets the bytes of the reading of the same position."""

    readings: tuple[Reading, ...]
    writings: tuple[Region, ...]


@dataclass(frozen=True)
class Opaque:
    """Nodes that could not be proved to be anything else; `reason` says what was missing."""

    nodes: tuple[Node, ...]
    readings: tuple[Reading, ...]
    writings: tuple[Region, ...]
    reason: str


Layer = Convolution | Pool | Binary | Lookup | Copy | Opaque


def codes(quant_zero: int, signed: Any) -> int:
    """Zero point on the scale 0…255 in which kernels see a tensor: int8 values are shifted by 128."""
    return quant_zero + 128 * bool(signed)
