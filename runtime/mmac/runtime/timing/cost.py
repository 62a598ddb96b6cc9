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
from mmac.isa.errors import ResourceError, VerificationError
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.program import PARAM_DTYPE, Program, directory_dtype
from mmac.isa.spec import LEVEL_LOOP, NONE_LOOP, Instr, Queue
from mmac.isa.structure import Op, Step, View
from mmac.runtime.targets import Cell, Multipliers, Port, Target
from mmac.runtime.timing import formulas
from mmac.runtime.timing.formulas import ArrayWork

Int64 = npt.NDArray[np.int64]
Indices = tuple[Int64, ...]

ACC_BYTES = 4
"""Bytes of an accumulator."""


class Action(StrEnum):
    """What energy is spent on; `energy` has the price of each."""

    CELL_CYCLE = "cell_cycle"  # a cell works on a real group for one cycle
    MULTIPLY = "multiply"  # a multiplier forms one product
    TERM_STORE = "term_store"  # a word is written into a cell's term store, or a weight into a multiplier's register
    DATA_TERM = "data_term"  # a term of a data value is found
    SCRATCHPAD = "scratchpad"  # a byte is read from or written to a scratchpad
    BUFFER_READ = "buffer_read"  # a byte is read from the global buffer, whole words
    BUFFER_WRITE = "buffer_write"  # a byte is written to the global buffer, whole words
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
        size = self.program.buffer[1]
        if size > self.target.buffer.size_bytes:
            raise ResourceError(
                f"program {self.program.name}",
                f"it keeps {size} bytes in the global buffer",
                f"{self.target.name} has {self.target.buffer.size_bytes}",
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
    def image_port(self) -> Port:
        """How term streams and their directories are reached."""
        return self.target.port(Queue.WEIGHTS, self.on_chip(0, self.program.image.size))

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
    if isinstance(op.instr, table.LoadTerms):
        return not machine.image_port.on_chip
    if isinstance(op.instr, table.Load | table.LoadParams):
        return not machine.port(op.instr.queue, op.views["t"]).on_chip
    return False


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
        depth=conv.kernel_h * conv.kernel_w * conv.ic,
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


SYNCS = (table.SyncLoad, table.SyncWeights, table.SyncCompute, table.SyncStore)


@cycles(*SYNCS)
def _sync(op: Op, at: At) -> Any:
    return formulas.SYNC_CYCLES


@actions(*SYNCS)
def _no_actions(op: Op, at: At) -> Counts:
    return {}


def _moved(op: Op, at: At) -> tuple[Port, Int64]:
    view = op.views["t"]
    port = at.machine.port(op.instr.queue, view)
    return port, at.moved_bytes(view, port)


def _read(port: Port) -> Action:
    return Action.BUFFER_READ if port.on_chip else Action.DRAM_READ


def _written(port: Port) -> Action:
    return Action.BUFFER_WRITE if port.on_chip else Action.DRAM_WRITE


@cycles(table.Load, table.LoadParams)
def _load(op: Op, at: At) -> Any:
    return formulas.dma_cycles(*_moved(op, at))


@actions(table.Load, table.LoadParams)
def _load_actions(op: Op, at: At) -> Counts:
    port, size = _moved(op, at)
    return {_read(port): size, Action.SCRATCHPAD: _box_bytes(op, "t")}


def _terms_bytes(at: At, size: Int64) -> Any:
    port = at.machine.image_port
    return formulas.transfer_bytes(port, size) + formulas.transfer_bytes(port, at.machine.directory.itemsize)


@cycles(table.LoadTerms)
def _load_terms(op: Op, at: At) -> Any:
    return formulas.dma_cycles(at.machine.image_port, _terms_bytes(at, at.tile().size), latencies=2)


@actions(table.LoadTerms)
def _load_terms_actions(op: Op, at: At) -> Counts:
    size = at.tile().size
    return {_read(at.machine.image_port): _terms_bytes(at, size), Action.SCRATCHPAD: size}


@cycles(table.Store)
def _store(op: Op, at: At) -> Any:
    return formulas.dma_cycles(*_moved(op, at))


@actions(table.Store)
def _store_actions(op: Op, at: At) -> Counts:
    port, size = _moved(op, at)
    values = np.prod(np.broadcast_arrays(*at.extents(op.views["t"])), axis=0)
    return {_written(port): size, Action.SCRATCHPAD: values * op.views["t"].elem}


@cycles(table.StoreAcc)
def _store_acc(op: Op, at: At) -> Any:
    n, h, w, c = at.extents(op.views["t"])
    return np.maximum(_store(op, at), formulas.requant_cycles(at.target, n * h * w * c))


@actions(table.StoreAcc)
def _store_acc_actions(op: Op, at: At) -> Counts:
    n, h, w, c = at.extents(op.views["t"])
    values = n * h * w * c
    port, size = _moved(op, at)
    return {
        _written(port): size,
        Action.SCRATCHPAD: values * ACC_BYTES + c * PARAM_DTYPE.itemsize,
        Action.REQUANT: values,
    }


# ----------------------------------------------------------------------------------------- products of data and weights


def mmac_of(op: Op) -> table.Mmac:
    """The instruction of an `mmac`."""
    if not isinstance(op.instr, table.Mmac):
        raise TypeError(f"instruction {op.pc} is {op.instr.mnemonic}, not mmac")
    return op.instr


def _betas(op: Op, at: At) -> Int64:
    layer = mmac_of(op).layer
    if layer >= len(at.machine.betas):
        raise VerificationError(f"instruction {op.pc} (mmac)", "a layer that the plan does not have")
    betas: Int64 = at.machine.betas[layer]
    return betas


def _multipliers(op: Op, at: At) -> Multipliers | None:
    """The multipliers if they form the sums, None if the array does.

    Raises:
        ResourceError: the target has none.
    """
    if mmac_of(op).unit != table.Unit.MULTIPLIERS:
        return None
    if at.target.multipliers is None:
        raise ResourceError(
            f"instruction {op.pc} (mmac)", "it runs on the multipliers", f"{at.target.name} has none",
            "compile it for this target",
        )  # fmt: skip
    return at.target.multipliers


@cycles(table.Mmac)
def _mmac(op: Op, at: At) -> Any:
    work = work_of(op, at)
    if unit := _multipliers(op, at):
        return formulas.multiply_cycles(at.target, unit, work)
    array, cell, alpha, betas = at.target.array, at.machine.cell, at.tile().alpha, _betas(op, at)
    beat, encode = formulas.beat_cycles(array, cell, alpha, betas), formulas.encode_cycles(array, cell, betas)
    return formulas.mmac_cycles(at.target, work, beat, formulas.group_words(cell, alpha), encode)


@actions(table.Mmac)
def _mmac_actions(op: Op, at: At) -> Counts:
    work, tile, betas = work_of(op, at), at.tile(), _betas(op, at)
    if unit := _multipliers(op, at):
        # the window of an output moves through registers: a value is read once for all channels that see it
        values = _box_bytes(op, "x") * formulas.ceil_div(work.n, unit.units)
        weights = work.n * work.depth * work.conv_groups
        outputs = work.m * work.n * work.conv_groups
        return {
            Action.MULTIPLY: work.products,
            Action.TERM_STORE: weights,
            Action.DATA_TERM: values * betas,
            Action.SCRATCHPAD: tile.size + values + outputs * ACC_BYTES,
        }
    cell = at.machine.cell
    words = formulas.group_words(cell, tile.alpha) * work.n * work.g * work.conv_groups
    parts = work.channel_parts
    columns = formulas.ceil_div(formulas.ceil_div(work.n, parts), at.target.array.columns)
    rows = formulas.ceil_div(formulas.ceil_div(work.g, work.split_k), at.target.array.rows)
    # Weights are read once and broadcast to the blocks that split the pixels, each of which stores its own copy; data
    # are read once for all blocks that split the channels, each of which finds the terms for itself; accumulators are
    # read and written once per row of blocks.
    data = work.m * work.g * GROUP_SIZE * work.conv_groups * columns
    accumulators = work.m * work.n * work.conv_groups * rows * 2 * ACC_BYTES
    return {
        Action.CELL_CYCLE: work.cell_groups * formulas.group_cycles(cell, tile.alpha, betas),
        Action.TERM_STORE: words * np.minimum(work.split_m, work.m),
        Action.DATA_TERM: data * parts * (betas if cell.group_cycles is None else 0),
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
