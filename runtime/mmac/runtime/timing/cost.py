"""What each instruction costs: one function per class for its duration, one for the energy-relevant actions.

The functions work on whole grids: loop indices are arrays that broadcast against each other, the last axis of every
result is the level. They translate operands into plain numbers and leave the arithmetic to `formulas`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.errors import ResourceError, VerificationError
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.program import PARAM_DTYPE
from mmac.isa.spec import Instr
from mmac.isa.structure import Op
from mmac.runtime.targets import Multipliers, Port
from mmac.runtime.timing import formulas
from mmac.runtime.timing.formulas import ArrayWork
from mmac.runtime.timing.machine import At, Tile, work_of

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ACC_BYTES = 4
"""Bytes of an accumulator; a sum is added to it by a read and a write."""


class Action(StrEnum):
    """What energy is spent on; `energy` has the price of each."""

    CELL_CYCLE = "cell_cycle"  # a cell works on a real group for one cycle
    MULTIPLY = "multiply"  # a multiplier forms one product
    DECODE = "decode"  # a term of a coded tile is decoded, or a slot of one that a group does not have
    TERM_STORE = "term_store"  # a word is written into a cell's term store, or a weight into a multiplier unit's
    DATA_TERM = "data_term"  # a term of a data value is found
    SCRATCHPAD = "scratchpad"  # a byte is read from or written to a scratchpad
    BUFFER_READ = "buffer_read"  # a byte is read from the global buffer, whole words
    BUFFER_WRITE = "buffer_write"  # a byte is written to the global buffer, whole words
    DRAM_READ = "dram_read"  # a byte is read from DRAM, whole bursts
    WEIGHTS_FROM_DRAM = "weights_from_dram"  # of the bytes read from DRAM, those of term streams and directories
    DRAM_WRITE = "dram_write"  # a byte is written to DRAM, whole bursts
    REQUANT = "requant"  # an accumulator is requantized
    VECTOR = "vector"  # an elementary operation of the vector unit


Counts = Mapping[Action, Any]
"""Action counts: int64 arrays [grid…, levels], or anything that broadcasts to that."""


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


def _terms_port(op: Op, at: At, tile: Tile) -> Port:
    """How a `load.terms` reaches its directory, and the streams that this points to.

    Raises:
        VerificationError: they are in different memories.
    """
    port = at.machine.port(op.instr.queue, op.views["t"])
    first, stop = int(tile.offset.min()), int((tile.offset + tile.size.max(axis=-1, keepdims=True)).max())
    if at.machine.on_chip(first, stop) != port.on_chip:
        raise VerificationError(
            f"instruction {op.pc} (load.terms)", "a directory in one memory, its streams in another",
            "both in the global buffer, or both in DRAM",
        )  # fmt: skip
    return port


def _terms_bytes(at: At, port: Port, size: Int64) -> Any:
    return formulas.transfer_bytes(port, size) + formulas.transfer_bytes(port, at.machine.directory.itemsize)


def load_of(op: Op) -> table.LoadTerms:
    """The instruction of a `load.terms`."""
    if not isinstance(op.instr, table.LoadTerms):
        raise TypeError(f"instruction {op.pc} is {op.instr.mnemonic}, not load.terms")
    return op.instr


@cycles(table.LoadTerms)
def _load_terms(op: Op, at: At) -> Any:
    tile = at.tile()
    port = _terms_port(op, at, tile)
    transfer = formulas.dma_cycles(port, _terms_bytes(at, port, tile.size), latencies=2)
    if load_of(op).format != table.TermFormat.CODED:
        return transfer
    return np.maximum(transfer, formulas.decode_cycles(at.target, port, tile.slots))


@actions(table.LoadTerms)
def _load_terms_actions(op: Op, at: At) -> Counts:
    tile, format = at.tile(), load_of(op).format
    port = _terms_port(op, at, tile)
    moved = _terms_bytes(at, port, tile.size)
    return {
        _read(port): moved,
        Action.WEIGHTS_FROM_DRAM: 0 if port.on_chip else moved,
        Action.DECODE: tile.slots if format == table.TermFormat.CODED else 0,
        Action.SCRATCHPAD: tile.scratchpad_bytes(format),
    }


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


def _multiplied(op: Op, at: At) -> Bools:
    """[levels] whether the multipliers form the sums, and not the array."""
    instr = mmac_of(op)
    return np.array([instr.unit(level) == table.Unit.MULTIPLIERS for level in range(at.machine.levels)])


def _multipliers(op: Op, at: At) -> Multipliers:
    """The multipliers of the target.

    Raises:
        ResourceError: it has none.
    """
    if at.target.multipliers is None:
        raise ResourceError(
            f"instruction {op.pc} (mmac)", "it runs on the multipliers", f"{at.target.name} has none",
            "compile it for this target",
        )  # fmt: skip
    return at.target.multipliers


@cycles(table.Mmac)
def _mmac(op: Op, at: At) -> Any:
    multiplied, work = _multiplied(op, at), work_of(op, at)
    if not multiplied.any():
        return _array_cycles(op, at, work)
    unit = _multipliers(op, at)
    _check_words(op, at, unit, work)
    cycles = formulas.multiply_cycles(at.target, unit, work)
    return cycles if multiplied.all() else np.where(multiplied, cycles, _array_cycles(op, at, work))


def _array_cycles(op: Op, at: At, work: ArrayWork) -> Any:
    array, cell, alpha, betas = at.target.array, at.machine.cell, at.tile().alpha, _betas(op, at)
    beat, encode = formulas.beat_cycles(array, cell, alpha, betas), formulas.encode_cycles(array, cell, betas)
    raw = mmac_of(op).format == table.TermFormat.RAW
    rank = formulas.rank_cycles(array, cell, work) if raw else 0
    return formulas.mmac_cycles(at.target, work, beat, formulas.group_words(cell, alpha), encode, rank)


def _check_words(op: Op, at: At, unit: Multipliers, work: ArrayWork) -> None:
    """Refuse more weights than a unit has room for.

    Raises:
        ResourceError: they do not fit.
    """
    if (needed := int(np.max(formulas.unit_words(unit, work)))) > unit.words:
        raise ResourceError(
            f"instruction {op.pc} (mmac)", f"a unit of the multipliers needs {needed} words of weights",
            f"{at.target.name} has {unit.words}", "compile it for this target",
        )  # fmt: skip


@actions(table.Mmac)
def _mmac_actions(op: Op, at: At) -> Counts:
    multiplied = _multiplied(op, at)
    counts: dict[Action, Any] = {}
    for levels, count in ((multiplied, _multiplier_actions), (~multiplied, _array_actions)):
        for action, number in count(op, at).items() if levels.any() else ():
            counts[action] = counts.get(action, 0) + np.where(levels, number, 0)
    return counts


def _multiplier_actions(op: Op, at: At) -> Counts:
    work, unit = work_of(op, at), _multipliers(op, at)
    # the window of an output moves through registers: a value is read once for all channels that see it
    values = _box_bytes(op, "x") * formulas.ceil_div(work.n, unit.units)
    accumulators = work.m * work.channels * 2 * ACC_BYTES
    return {
        Action.MULTIPLY: work.products,
        Action.TERM_STORE: formulas.unit_weights(unit, work),
        Action.DATA_TERM: values * _betas(op, at),
        Action.SCRATCHPAD: at.tile().scratchpad_bytes(mmac_of(op).format) + values + accumulators,
    }


def _array_actions(op: Op, at: At) -> Counts:
    work, tile, betas = work_of(op, at), at.tile(), _betas(op, at)
    array, cell = at.target.array, at.machine.cell
    words = formulas.group_words(cell, tile.alpha) * work.channels * work.g
    # Weights are read once and broadcast to the blocks that split the pixels, each of which stores its own copy; data
    # are read once for all blocks that split the channels, each of which finds the terms for itself.
    data = work.m * work.g * GROUP_SIZE * work.conv_groups * formulas.BlockWork(array, work).column_passes
    accumulators = formulas.accumulations(array, work) * 2 * ACC_BYTES
    return {
        Action.CELL_CYCLE: work.cell_groups * formulas.group_cycles(cell, tile.alpha, betas),
        Action.TERM_STORE: words * work.pixel_parts,
        Action.DATA_TERM: data * work.channel_parts * (betas if cell.group_cycles is None else 0),
        Action.SCRATCHPAD: words + data + accumulators,
    }


# -------------------------------------------------------------------------------------------------------- vector unit

VECTOR_STEPS: dict[type[Instr], int] = {table.Vadd: 2, table.Vmul: 2, table.Vtable: 1, table.Vmax: 0, table.Vavg: 1}
"""Elementary operations per result besides one for each element of the window (two scalings, product and scaling …)."""


def _window(op: Op) -> int:
    windowed = isinstance(op.instr, table.Vmax | table.Vavg) and op.conv is not None
    return op.conv.kernel_h * op.conv.kernel_w if windowed and op.conv is not None else 0


def _operations(op: Op) -> int:
    """Elementary operations, by which both time and energy are counted."""
    return _box_bytes(op, "y") * (VECTOR_STEPS[type(op.instr)] + _window(op))


@cycles(table.Vadd, table.Vmul, table.Vtable, table.Vmax, table.Vavg)
def _vector(op: Op, at: At) -> Any:
    return formulas.vector_cycles(at.target, _operations(op))


@actions(table.Vadd, table.Vmul, table.Vtable, table.Vmax, table.Vavg)
def _vector_actions(op: Op, at: At) -> Counts:
    values, window = _box_bytes(op, "y"), _window(op)
    operands = 2 if isinstance(op.instr, table.Vadd | table.Vmul) else max(1, window)
    return {
        Action.VECTOR: _operations(op),
        Action.SCRATCHPAD: values * (operands + 1),
    }
