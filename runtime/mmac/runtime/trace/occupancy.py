"""How many bytes of each on-chip memory hold something that is still needed, over time.

What an instruction writes is needed from the start of the instruction to the end of the last one that reads any of it
before it is written again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.program import TensorInfo
from mmac.isa.structure import Ring, View
from mmac.isa.verify.uses import USES, Content
from mmac.runtime.timing.events import Batch, Group
from mmac.runtime.trace.timeline import Timeline

Int64 = npt.NDArray[np.int64]

LINE_BYTES = 64
"""The global buffer is looked at in lines; the compiler aligns tensors to no less."""


@dataclass(slots=True, eq=False)
class _Region:
    """Bytes `low` … `high` - 1 of a scratchpad, and when they were written and last used."""

    low: int
    high: int
    start: int
    last: int


# ------------------------------------------------------------------------------------------------------- scratchpads


@dataclass
class Scratchpads:
    """What the scratchpads hold; fed with all batches in order, then closed."""

    level: int
    occupied: dict[table.Pad, Timeline] = field(default_factory=lambda: {pad: Timeline() for pad in table.Pad})
    regions: dict[table.Pad, list[_Region]] = field(default_factory=lambda: {pad: [] for pad in table.Pad})

    def follow(self, batch: Batch) -> None:
        """Take the accesses of a batch in program order, in which they depend on each other."""
        accesses: dict[int, list[tuple[table.Pad, int, int, bool]]] = {}
        for group in batch.groups:
            self._collect(group, accesses)
        for position in sorted(accesses):
            event = batch.events[position]
            for pad, low, high, writes in accesses[position]:
                (self._write if writes else self._read)(pad, low, high, event.start, event.end)

    def close(self) -> None:
        """Nothing else happens."""
        for pad, regions in self.regions.items():
            for region in regions:
                self.occupied[pad].add(region.start, region.last, region.high - region.low)
            regions.clear()

    def _collect(self, group: Group, accesses: dict[int, list[tuple[table.Pad, int, int, bool]]]) -> None:
        op, count = group.op, len(group.positions)
        for use in USES.get(type(op.instr), ()):
            ring = op.rings[use.ring]
            sizes = np.full(count, use.size(op))
            if use.content is Content.TILE:
                sizes = np.broadcast_to(group.at.tile().size, (count, group.at.machine.levels))[:, self.level]
            writes = np.full(count, use.writes)
            if isinstance(op.instr, table.Mmac) and use.writes and op.instr.first < len(group.at.indices):
                writes = group.at.indices[op.instr.first][:, 0] == 0  # otherwise it adds to what is there
            lows = _addresses(ring, group)
            rows = zip(group.positions, lows.tolist(), (lows + sizes).tolist(), writes.tolist(), strict=True)
            for position, low, high, written in rows:
                accesses.setdefault(position, []).append((ring.pad, low, high, written))

    def _read(self, pad: table.Pad, low: int, high: int, start: int, end: int) -> None:
        for region in self._cut(pad, low, high):
            region.last = max(region.last, end)

    def _write(self, pad: table.Pad, low: int, high: int, start: int, end: int) -> None:
        for old in self._cut(pad, low, high):
            self.occupied[pad].add(old.start, old.last, old.high - old.low)
            self.regions[pad].remove(old)
        self.regions[pad].append(_Region(low, high, start, end))

    def _cut(self, pad: table.Pad, low: int, high: int) -> list[_Region]:
        """The regions between two addresses, after cutting those that reach beyond."""
        regions = self.regions[pad]
        inside = []
        for region in list(regions):
            if region.low >= high or low >= region.high:
                continue
            if region.low < low:
                regions.append(replace(region, high=low))
                region.low = low
            if region.high > high:
                regions.append(replace(region, low=high))
                region.high = high
            inside.append(region)
        return inside


def _addresses(ring: Ring, group: Group) -> Int64:
    """Where the slot of each execution begins, as `Ring.address` says, int64 [executions]."""
    slot = np.full((len(group.positions), 1), ring.phase, np.int64)
    for depth, index in enumerate(group.at.indices):
        if ring.mask >> depth & 1:
            slot = slot ^ (index & 1)
    return ring.addr + slot[:, 0] * ring.toggle


# ------------------------------------------------------------------------------------------------------ global buffer


@dataclass(frozen=True)
class Extent:
    """Where a tensor lies: address, bytes of an element, sizes and byte strides."""

    base: int
    elem: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of_view(cls, view: View) -> Extent:
        """Of a tensor register."""
        return cls(view.base, view.elem, view.shape, view.strides)

    @classmethod
    def of_tensor(cls, tensor: TensorInfo) -> Extent | None:
        """Of a named tensor; None if only the host has it."""
        if tensor.place is None:
            return None
        return cls(tensor.place.base, np.dtype(tensor.dtype).itemsize, tensor.shape, tensor.place.strides)

    def runs(self) -> tuple[Int64, int]:
        """First addresses of the contiguous runs that make it up, and the bytes of each; it must not be empty."""
        length, starts = self.elem, np.array([self.base], np.int64)
        for stride, size in sorted(zip(self.strides, self.shape, strict=True)):
            if stride <= length:
                length += (size - 1) * stride
            else:
                starts = (starts[:, None] + stride * np.arange(size)).ravel()
        return starts, length


class GlobalBuffer:
    """What the global buffer holds: tensors as wholes, from the first store to the last load of any part.

    Args:
        base: first address; `size` bytes, of which the first `image` hold the program itself.
    """

    def __init__(self, base: int, size: int, image: int) -> None:
        self.base = base
        lines = -(-size // LINE_BYTES)
        self.start = np.full(lines, -1, np.int64)
        self.last = np.zeros(lines, np.int64)
        self.read_since = np.zeros(lines, bool)
        self.occupied = Timeline()
        self.image_lines = min(lines, -(-max(0, image - base) // LINE_BYTES))

    def written(self, place: Extent, start: int, end: int) -> None:
        """Something stored into a tensor from cycle `start` to cycle `end`."""
        lines = self._lines(place)
        fresh = lines & ((self.start < 0) | self.read_since)
        self.last[fresh] = np.minimum(self.last[fresh], start)  # if it is stored in the place of what is being loaded
        self._release(fresh & (self.start >= 0))
        self.start[fresh], self.last[fresh], self.read_since[fresh] = start, end, False
        self.last[lines] = np.maximum(self.last[lines], end)

    def read(self, place: Extent, end: int) -> None:
        """Something loaded from a tensor until cycle `end`; it was there from the beginning if nothing stored it."""
        lines = self._lines(place)
        self.start[lines & (self.start < 0)] = 0
        self.last[lines] = np.maximum(self.last[lines], end)
        self.read_since[lines] = True

    def close(self, end: int) -> None:
        """The program ends at cycle `end`."""
        self._release(self.start >= 0)
        self.occupied.add(0, end, self.image_lines * LINE_BYTES)

    def _release(self, lines: npt.NDArray[np.bool_]) -> None:
        spans, counts = np.unique(np.stack([self.start[lines], self.last[lines]]), axis=1, return_counts=True)
        for (start, last), count in zip(spans.T.tolist(), counts.tolist(), strict=True):
            self.occupied.add(start, last, count * LINE_BYTES)

    def _lines(self, place: Extent) -> npt.NDArray[np.bool_]:
        """The lines that the elements of a tensor lie in; none if it is in DRAM."""
        edges = np.zeros(len(self.start) + 1, np.int64)
        if self.base <= place.base < self.base + len(self.start) * LINE_BYTES and all(place.shape):
            starts, length = place.runs()
            np.add.at(edges, (starts - self.base) // LINE_BYTES, 1)
            np.add.at(edges, (starts - self.base + length - 1) // LINE_BYTES + 1, -1)
        found: npt.NDArray[np.bool_] = np.cumsum(edges[:-1]) > 0
        found[: self.image_lines] = False
        return found
