"""Which layer's result every read of a segment sees, byte by byte, and which results must be in DRAM.

Results live in arrays of their own. A read takes them straight from there if it can be put together from windows of
results, else from DRAM, and then the results that it touches are written there as well when they are made, in program
order. So DRAM may be stale, but never where it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.runtime.engines.fast.layers import Layer, Opaque, Reading
from mmac.runtime.engines.fast.regions import Access, Region, locate, locate_slices, same_order
from mmac.runtime.memory import Bytes

Writer = tuple[int, int]
"""Number of a layer in its segment, number of one of its results."""


@dataclass(frozen=True)
class Piece:
    """Part of a read.

    Attributes:
        writer: the result that it comes from, None for DRAM.
        source: picks it out of the array of that result; unused for DRAM.
        region: where it is in DRAM.
        place: picks its place out of the array of the read.
    """

    writer: Writer | None
    source: Access
    region: Region
    place: Access


@dataclass(frozen=True)
class Read:
    """How to put a `Reading` together.

    Attributes:
        shape: of the read.
        pieces: what fills it; they do not overlap.
        fill: the byte around them, None if they leave nothing out.
        is_alias: it is all of one result, in the same order.
        key: equal for reads of the same bytes in the same order; None if that is unknown.
    """

    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    fill: int | None
    is_alias: bool = False
    key: object = None

    @property
    def in_dram(self) -> bool:
        """True if its only piece comes from DRAM."""
        return len(self.pieces) == 1 and self.pieces[0].writer is None


@dataclass(frozen=True)
class Dataflow:
    """Per layer its reads; per layer the reads that fetch kept tensors after it; results that DRAM must get."""

    reads: tuple[tuple[Read, ...], ...]
    kept: tuple[Mapping[str, Read], ...]
    stored: frozenset[Writer]


def analyse(
    layers: Sequence[Layer],
    kept: Sequence[Mapping[str, Region]],
    live: Sequence[Region],
    dram_bytes: int,
) -> Dataflow:
    """Follow every byte through a segment.

    Args:
        layers: in program order.
        kept: per layer, regions to be read right after it, by name.
        live: regions that are read in DRAM after the segment.
        dram_bytes: size of DRAM.
    """
    return _Analysis(layers, dram_bytes).run(kept, live)


class _Analysis:
    def __init__(self, layers: Sequence[Layer], dram_bytes: int) -> None:
        self.layers = layers
        self.writers: list[Writer] = []
        # number of the last writer of every byte (0: DRAM as the segment found it)
        results = sum(len(layer.writings) for layer in layers)
        self.owner: npt.NDArray[np.unsignedinteger] = np.zeros(dram_bytes, np.min_scalar_type(results))
        self.stored: set[Writer] = set()

    def run(self, kept: Sequence[Mapping[str, Region]], live: Sequence[Region]) -> Dataflow:
        reads, fetched = [], []
        for number, (layer, names) in enumerate(zip(self.layers, kept, strict=True)):
            in_dram = isinstance(layer, Opaque)
            reads.append(tuple(self._read(reading, in_dram) for reading in layer.readings))
            for result, region in enumerate(layer.writings):
                self.writers.append((number, result))
                region.window(self.owner)[...] = 0 if in_dram else len(self.writers)
            fetched.append({name: self._read(Reading.whole(region)) for name, region in names.items()})
        for region in live:
            self._store(self._owners(region))
        return Dataflow(tuple(reads), tuple(fetched), frozenset(self.stored))

    def _owners(self, region: Region) -> list[int]:
        window = region.window(self.owner)
        if window.size == 0:
            return []
        first = window[(0,) * window.ndim]
        return [int(first)] if (window == first).all() else [int(n) for n in np.unique(window)]

    def _store(self, owners: Sequence[int]) -> None:
        self.stored |= {self.writers[n - 1] for n in owners if n}

    def _read(self, reading: Reading, in_dram: bool = False) -> Read:
        start = [max(0, o) for o in reading.origin]
        stop = [
            max(s, min(o + n, size))
            for s, o, n, size in zip(start, reading.origin, reading.shape, reading.region.shape, strict=True)
        ]
        inner = reading.region.box(start, [b - a for a, b in zip(start, stop, strict=True)])
        place = tuple(slice(a - o, b - o) for a, b, o in zip(start, stop, reading.origin, strict=True))
        whole = inner.shape == reading.shape
        fill = None if whole else reading.fill
        owners = self._owners(inner)
        if not in_dram and (pieces := self._assemble(inner, owners, place)):
            alias = whole and len(owners) == 1 and same_order(self._region(owners[0]), inner)
            return Read(reading.shape, pieces, fill, alias, (reading, tuple(owners)))
        self._store(owners)
        piece = Piece(None, _all, inner, lambda array: array[place])
        return Read(reading.shape, (piece,) if inner.size else (), fill)

    def _region(self, owner: int) -> Region:
        layer, result = self.writers[owner - 1]
        return self.layers[layer].writings[result]

    def _assemble(self, inner: Region, owners: Sequence[int], place: tuple[slice, ...]) -> tuple[Piece, ...] | None:
        """Windows of results that make up a region; None if DRAM is needed."""
        if not owners or 0 in owners:
            return None
        if len(owners) == 1:
            source = locate(self._region(owners[0]), inner)
            if source is None:
                return None
            return (Piece(self.writers[owners[0] - 1], source, inner, lambda array: array[place]),)
        pieces = []
        window = inner.window(self.owner)
        for owner in owners:
            region = self._region(owner)
            access = locate_slices(inner, region)
            if access is None or int((window == owner).sum()) != region.size:
                return None
            pieces.append(Piece(self.writers[owner - 1], _all, region, _within(place, access)))
        return tuple(pieces)


def _all(array: Bytes) -> Bytes:
    return array


def _within(place: tuple[slice, ...], access: Access) -> Access:
    return lambda array: access(array[place])
