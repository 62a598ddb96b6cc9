"""What costs depend on: the program on its target, and where in the iteration space a cost is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.errors import ResourceError, VerificationError
from mmac.isa.program import Program, directory_dtype
from mmac.isa.spec import LEVEL_LOOP, NONE_LOOP, Queue
from mmac.isa.structure import Op, Step, View
from mmac.runtime.scratchpads import needed_bytes
from mmac.runtime.targets import Cell, Port, Target
from mmac.runtime.timing import formulas
from mmac.runtime.timing.formulas import ArrayWork

Int64 = npt.NDArray[np.int64]
Indices = tuple[Int64, ...]


@dataclass(frozen=True)
class Machine:
    """A program on a target with one kind of cell: all that costs depend on besides operation and iteration."""

    program: Program
    target: Target
    mac: str

    def __post_init__(self) -> None:
        self.target.cell(self.mac)  # refuses an unknown kind
        program, target = self.program, self.target
        self._check_room("in the global buffer", program.buffer[1], target.buffer.size_bytes)
        self._check_room("of DRAM", program.dram_bytes, target.dram.capacity_bytes)
        # the verifier has proved that a program keeps within its own scratchpads: look closer only if those are larger
        if any(size > target.scratchpads[pad] for pad, size in program.scratchpads.items()):
            for pad, size in needed_bytes(program).items():
                self._check_room(f"of the {pad.upper()} scratchpad", size, target.scratchpads[pad])

    def _check_room(self, memory: str, needed: int, available: int) -> None:
        if needed > available:
            raise ResourceError(
                f"program {self.program.name}",
                f"it needs {needed} bytes {memory}",
                f"{self.target.name} has {available}",
                "compile it for this target",
            )

    def on_chip(self, first: int, stop: int) -> bool:
        """Whether addresses ``first … stop - 1`` lie in the global buffer; they must not straddle its ends.

        Raises:
            VerificationError: they do.
        """
        base, size = self.program.buffer
        if stop <= base or first >= base + size or not size:
            return False
        if first < base or stop > base + size:
            raise VerificationError(
                f"addresses {first}…{stop - 1}",
                "partly in the global buffer",
                f"all in or out of {base}…{base + size - 1}",
            )
        return True

    def port(self, queue: Queue, view: View) -> Port:
        """How a queue reaches a tensor."""
        pairs = zip(view.shape, view.strides, strict=True)
        stop = view.base + sum((size - 1) * stride for size, stride in pairs if size) + view.elem
        return self.target.port(queue, self.on_chip(view.base, stop))

    @cached_property
    def levels(self) -> int:
        """Number of levels of the program."""
        return len(self.program.plan.levels)

    @cached_property
    def cell(self) -> Cell:
        """The kind of cell."""
        return self.target.cell(self.mac)

    @cached_property
    def betas(self) -> Int64:
        """β of each layer at each level, int64 [layers, levels]."""
        layers = self.program.plan.layers
        return np.array([[v.beta for v in p.levels] for p in layers], np.int64).reshape(len(layers), self.levels)

    @cached_property
    def directory(self) -> np.dtype[np.void]:
        """Layout of a directory entry."""
        return directory_dtype(self.levels)


def reads_dram(op: Op, machine: Machine) -> bool:
    """Whether an instruction needs the one engine that reads DRAM."""
    if isinstance(op.instr, table.Load | table.LoadParams | table.LoadTerms):
        return not machine.port(op.instr.queue, op.views["t"]).on_chip
    return False


@dataclass(frozen=True)
class Tile:
    """Directory entries of weight tiles, int64.

    Attributes:
        entry: address of the entry, [grid…, 1 or levels].
        offset: address of the stream, likewise.
        size: bytes of the prefix to read, [grid…, levels].
        alpha: most terms that a group keeps, [grid…, levels].
        groups: groups of the tile, [grid…, 1 or levels].
    """

    entry: Int64
    offset: Int64
    size: Int64
    alpha: Int64
    groups: Int64

    @property
    def slots(self) -> Int64:
        """Terms that a coded tile is decoded to, those included that groups have less than the largest one."""
        return self.groups * self.alpha

    def scratchpad_bytes(self, format: int) -> Int64:
        """What the tile takes in the scratchpad."""
        return self.groups + self.slots if format == table.TermFormat.CODED else self.size


@dataclass(frozen=True)
class At:
    """Where in the iteration space a cost is asked for.

    Attributes:
        machine: program and target.
        indices: index of each open loop, int64 arrays that broadcast, with a last axis of 1 for the level.
        source: for `mmac`, the view and the indices of the `load.terms` that fetched its weights.
    """

    machine: Machine
    indices: Indices
    source: tuple[View, Indices] | None = None

    @property
    def target(self) -> Target:
        """The hardware."""
        return self.machine.target

    def start(self, step: Step, indices: Indices | None = None) -> Int64:
        """First coordinate of a walk, [grid…, 1 or levels]."""
        if step.loop == NONE_LOOP or step.step == 0:
            return np.full(1, step.origin, np.int64)
        if step.loop == LEVEL_LOOP:
            return step.origin + step.step * np.arange(self.machine.levels, dtype=np.int64)
        return step.origin + step.step * (self.indices if indices is None else indices)[step.loop]

    def extents(self, view: View) -> list[Int64]:
        """How many elements of the box lie inside the view, per dimension (n, h, w, c)."""
        pairs = zip(view.walk, view.shape, strict=True)
        return [clipped(self.start(step), step.extent, size) for step, size in pairs]

    def moved_bytes(self, view: View, port: Port) -> Int64:
        """Traffic of the box: its part inside the view in whole bursts per contiguous run.

        The engine merges a dimension into the run when its stride says that it follows on directly.
        """
        run: Any = np.full(1, view.elem, np.int64)
        runs: Any = np.ones(1, np.int64)
        for extent, stride in reversed(list(zip(self.extents(view), view.strides, strict=True))):
            joined = run == stride
            run, runs = np.where(joined, run * extent, run), np.where(joined, runs, runs * extent)
        return formulas.transfer_bytes(port, run, runs)

    def tile(self) -> Tile:
        """The weight tiles that `source` selects.

        Raises:
            VerificationError: a directory entry outside the program image.
        """
        if self.source is None:
            raise VerificationError("mmac", "its weights were never loaded", "load.terms before mmac")
        view, indices = self.source
        entry = np.full(1, view.base, np.int64)
        for step, stride in zip(view.walk, view.strides, strict=True):
            entry = entry + self.start(step, indices) * stride
        image, layout = self.machine.program.image, self.machine.directory
        if entry.min() < 0 or entry.max() + layout.itemsize > image.size:
            raise VerificationError("load.terms", "a directory entry outside the image", f"0…{image.size} bytes")
        found = image[entry[..., None] + np.arange(layout.itemsize)].view(layout)[..., 0]
        level = np.arange(self.machine.levels)
        own = found["level"][..., level % entry.shape[-1], level]
        fields = found["offset"], own["bytes"], own["alpha"], found["groups"]
        return Tile(entry, *(array.astype(np.int64) for array in fields))


def clipped(start: Any, extent: int, size: int) -> Any:
    """How many of `extent` coordinates from `start` lie in 0…size-1."""
    return np.maximum(0, np.minimum(start + extent, size) - np.maximum(start, 0))


def work_of(op: Op, at: At) -> ArrayWork:
    """What an `mmac` multiplies: the part of its output box that lies inside the view."""
    instr, conv, y = op.instr, op.conv, op.views["y"]
    if not isinstance(instr, table.Mmac) or conv is None:
        raise VerificationError(f"instruction {op.pc} ({op.instr.mnemonic})", "no window geometry", "conv before mmac")
    n, h, w, channels = at.extents(y)
    per_group = max(1, min(conv.oc, y.box[3]))  # a box narrower than a convolution group is part of one
    before = at.start(y.walk[3])
    first = np.clip(-before, 0, y.box[3])  # of the channels of the box
    conv_groups = formulas.ceil_div(first + channels, per_group) - first // per_group
    most = np.minimum(channels, per_group)
    return ArrayWork(
        m=n * h * w,
        n=most,
        depth=conv.kernel_h * conv.kernel_w * conv.ic,
        conv_groups=conv_groups,
        cut=most * conv_groups - channels,
        split_m=max(1, instr.split_m),
        split_n=max(1, instr.split_n),
        split_k=max(1, instr.split_k),
    )
