"""What each instruction costs: one function per class for its duration, one for the energy-relevant actions.

The functions work on whole grids: loop indices are arrays that broadcast against each other, the last axis of every
result is the level. They translate operands into plain numbers and leave the arithmetic to `formulas`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.errors import VerificationError
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.program import PARAM_DTYPE, Program, directory_dtype
from mmac.isa.spec import LEVEL_LOOP, NONE_LOOP, Instr
from mmac.isa.structure import Op, Step, View
from mmac.runtime.targets import Cell, Target
from mmac.runtime.timing import formulas
from mmac.runtime.timing.formulas import ArrayWork

Int64 = npt.NDArray[np.int64]
Indices = tuple[Int64, ...]

ACC_BYTES = 4
"""Bytes of an accumulator."""


class Action(StrEnum):
    """What energy is spent on; `energy` has the price of each."""

    CELL_CYCLE = "cell_cycle"  # a cell works on a real group for one cycle
    TERM_STORE = "term_store"  # a word is written into a cell's term store
    SCRATCHPAD = "scratchpad"  # a byte is read from or written to a scratchpad
    DRAM_READ = "dram_read"  # a byte is read from DRAM, whole bursts
    DRAM_WRITE = "dram_write"  # a byte is written to DRAM, whole bursts
    REQUANT = "requant"  # an accumulator is requantized
    VECTOR = "vector"  # an elementary operation of the vector unit


Counts = Mapping[Action, Any]
"""Action counts: int64 arrays [grid…, levels], or anything that broadcasts to that."""


@dataclass(frozen=True)
class Machine:
    """A program on a target with one kind of cell: all that costs depend on besides operation and iteration."""

    program: Program
    target: Target
    mac: str

    def __post_init__(self) -> None:
        self.target.cell(self.mac)  # refuses an unknown kind

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


@dataclass(frozen=True)
class Tile:
    """Directory entries of weight tiles, int64.

    Attributes:
        entry: address of the entry, [grid…, 1 or levels].
        size: bytes of the prefix to read, [grid…, levels].
        alpha: most terms that a group keeps, [grid…, levels].
    """

    entry: Int64
    size: Int64
    alpha: Int64


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

    def bus_bytes(self, view: View) -> Int64:
        """DRAM traffic of the box: its part inside the view in whole bursts per contiguous run.

        The engine merges a dimension into the run when its stride says that it follows on directly.
        """
        run: Any = np.full(1, view.elem, np.int64)
        runs: Any = np.ones(1, np.int64)
        for extent, stride in reversed(list(zip(self.extents(view), view.strides, strict=True))):
            joined = run == stride
            run, runs = np.where(joined, run * extent, run), np.where(joined, runs, runs * extent)
        return formulas.transfer_bytes(self.target, run, runs)

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
        found = image[entry[..., None] + np.arange(layout.itemsize)].view(layout)[..., 0]["level"]
        level = np.arange(self.machine.levels)
        own = found[..., level % entry.shape[-1], level]
        return Tile(entry, own["bytes"].astype(np.int64), own["alpha"].astype(np.int64))


def clipped(start: Any, extent: int, size: int) -> Any:
    """How many of `extent` coordinates from `start` lie in 0…size-1."""
    return np.maximum(0, np.minimum(start + extent, size) - np.maximum(start, 0))


def work_of(op: Op, at: At) -> ArrayWork:
    """What an `mmac` multiplies: the part of its output box that lies inside the view."""
    instr, conv = op.instr, op.conv
    if not isinstance(instr, table.Mmac) or conv is None:
        raise VerificationError(f"instruction {op.pc} ({op.instr.mnemonic})", "no window geometry", "conv before mmac")
    n, h, w, c = at.extents(op.views["y"])
    conv_groups = max(1, op.views["x"].box[3] // max(1, conv.ic))
    per_group = op.views["y"].box[3] // conv_groups
    return ArrayWork(
        m=n * h * w,
        n=np.minimum(c, per_group),
        g=int(formulas.ceil_div(conv.kernel_h * conv.kernel_w * conv.ic, GROUP_SIZE)),
        conv_groups=formulas.ceil_div(c, max(1, per_group)),
        split_m=max(1, instr.split_m),
        split_n=max(1, instr.split_n),
        split_k=max(1, instr.split_k),
    )


# -------------------------------------------------------------------------------------------------------- registries

Cycles = Callable[[Op, At], Any]
Actions = Callable[[Op, At], Counts]
CYCLES: dict[type[Instr], Cycles] = {}
ACTIONS: dict[type[Instr], Actions] = {}
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def cycles(*classes: type[Instr]) -> Callable[[FunctionT], FunctionT]:
    """Register a function as the duration of instructions: int64 that broadcasts to [grid…, levels]."""
    return _register(CYCLES, classes)


def actions(*classes: type[Instr]) -> Callable[[FunctionT], FunctionT]:
    """Register a function as the action counts of instructions."""
    return _register(ACTIONS, classes)


def _register(registry: dict[type[Instr], Any], classes: tuple[type[Instr], ...]) -> Callable[[FunctionT], FunctionT]:
    def register(function: FunctionT) -> FunctionT:
        registry.update(dict.fromkeys(classes, function))
        return function

    return register


def _box_bytes(op: Op, name: str) -> int:
    view = op.views[name]
    n, h, w, c = view.box
    return n * h * w * c * view.elem


# ------------------------------------------------------------------------------------------------------------- queues


@cycles(table.SyncLoad, table.SyncCompute, table.SyncStore)
def _sync(op: Op, at: At) -> Any:
    return formulas.SYNC_CYCLES


@actions(table.SyncLoad, table.SyncCompute, table.SyncStore)
def _no_actions(op: Op, at: At) -> Counts:
    return {}


@cycles(table.Load)
def _load(op: Op, at: At) -> Any:
    return formulas.dma_cycles(at.target, at.bus_bytes(op.views["t"]))


@actions(table.Load)
def _load_actions(op: Op, at: At) -> Counts:
    return {Action.DRAM_READ: at.bus_bytes(op.views["t"]), Action.SCRATCHPAD: _box_bytes(op, "t")}


def _terms_bytes(at: At, size: Int64) -> Any:
    return formulas.transfer_bytes(at.target, size) + formulas.transfer_bytes(at.target, at.machine.directory.itemsize)


@cycles(table.LoadTerms)
def _load_terms(op: Op, at: At) -> Any:
    return formulas.dma_cycles(at.target, _terms_bytes(at, at.tile().size), latencies=2)


@actions(table.LoadTerms)
def _load_terms_actions(op: Op, at: At) -> Counts:
    size = at.tile().size
    return {Action.DRAM_READ: _terms_bytes(at, size), Action.SCRATCHPAD: size}


@cycles(table.Store)
def _store(op: Op, at: At) -> Any:
    return formulas.dma_cycles(at.target, at.bus_bytes(op.views["t"]), write=True)


@actions(table.Store)
def _store_actions(op: Op, at: At) -> Counts:
    values = np.prod(np.broadcast_arrays(*at.extents(op.views["t"])), axis=0)
    return {Action.DRAM_WRITE: at.bus_bytes(op.views["t"]), Action.SCRATCHPAD: values * op.views["t"].elem}


@cycles(table.StoreAcc)
def _store_acc(op: Op, at: At) -> Any:
    n, h, w, c = at.extents(op.views["t"])
    return np.maximum(_store(op, at), formulas.requant_cycles(at.target, n * h * w * c))


@actions(table.StoreAcc)
def _store_acc_actions(op: Op, at: At) -> Counts:
    n, h, w, c = at.extents(op.views["t"])
    values = n * h * w * c
    return {
        Action.DRAM_WRITE: at.bus_bytes(op.views["t"]),
        Action.SCRATCHPAD: values * ACC_BYTES + c * PARAM_DTYPE.itemsize,
        Action.REQUANT: values,
    }


# -------------------------------------------------------------------------------------------------------------- array


def _gamma(op: Op, at: At, tile: Tile) -> Any:
    if not isinstance(op.instr, table.Mmac) or op.instr.layer >= len(at.machine.betas):
        raise VerificationError(f"instruction {op.pc} ({op.instr.mnemonic})", "a layer that the plan does not have")
    return formulas.group_cycles(at.machine.cell, tile.alpha, at.machine.betas[op.instr.layer])


@cycles(table.Mmac)
def _mmac(op: Op, at: At) -> Any:
    tile = at.tile()
    words = formulas.group_words(at.machine.cell, tile.alpha)
    return formulas.mmac_cycles(at.target, work_of(op, at), _gamma(op, at, tile), words)


@actions(table.Mmac)
def _mmac_actions(op: Op, at: At) -> Counts:
    tile, work = at.tile(), work_of(op, at)
    words = formulas.group_words(at.machine.cell, tile.alpha) * work.n * work.g * work.conv_groups
    columns = formulas.ceil_div(formulas.ceil_div(work.n, work.split_n), at.target.array.columns)
    rows = formulas.ceil_div(formulas.ceil_div(work.g, work.split_k), at.target.array.rows)
    # Weights are read once and broadcast to the blocks that split the pixels, each of which stores its own copy;
    # data are read once per column of blocks; accumulators are read and written once per row of blocks.
    data = work.m * work.g * GROUP_SIZE * work.conv_groups * columns
    accumulators = work.m * work.n * work.conv_groups * rows * 2 * ACC_BYTES
    return {
        Action.CELL_CYCLE: work.cell_groups * _gamma(op, at, tile),
        Action.TERM_STORE: words * np.minimum(work.split_m, work.m),
        Action.SCRATCHPAD: words + data + accumulators,
    }


# -------------------------------------------------------------------------------------------------------- vector unit

VECTOR_STEPS: dict[type[Instr], int] = {table.Vadd: 2, table.Vmul: 2, table.Vtable: 1, table.Vmax: 0, table.Vavg: 1}
"""Elementary operations per result besides one for each element of the window (two scalings, product and scaling …)."""


def _window(op: Op) -> int:
    windowed = isinstance(op.instr, table.Vmax | table.Vavg) and op.conv is not None
    return op.conv.kernel_h * op.conv.kernel_w if windowed and op.conv is not None else 0


@cycles(table.Vadd, table.Vmul, table.Vtable, table.Vmax, table.Vavg)
def _vector(op: Op, at: At) -> Any:
    return formulas.vector_cycles(at.target, _box_bytes(op, "y") * max(1, _window(op)))


@actions(table.Vadd, table.Vmul, table.Vtable, table.Vmax, table.Vavg)
def _vector_actions(op: Op, at: At) -> Counts:
    values, window = _box_bytes(op, "y"), _window(op)
    operands = 2 if isinstance(op.instr, table.Vadd | table.Vmul) else max(1, window)
    return {
        Action.VECTOR: values * (VECTOR_STEPS[type(op.instr)] + window),
        Action.SCRATCHPAD: values * (operands + 1),
    }
