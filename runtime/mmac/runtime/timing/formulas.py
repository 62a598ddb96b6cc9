"""How long things take, from plain numbers: the formulas behind the cost registries and the compiler's tile search.

All arguments may be integers or integer arrays (broadcast against each other, typically over candidates or levels);
results are int64 arrays (0-d for plain integers), durations in cycles of the target's clock. A queue instruction takes
at least one cycle. `docs/hardware.md` describes the machine, the `cell` engine steps it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa.plan import GROUP_SIZE
from mmac.runtime.targets import Array, Cell, Multipliers, Port, Target

Int64 = npt.NDArray[np.int64]
Ints = int | np.int64 | Int64
"""An integer or an int64 array."""

SYNC_CYCLES = 1
"""A queue passes a `sync` on in one cycle."""


def ceil_div(a: Any, b: Any) -> Any:
    """⌈a / b⌉."""
    return -(-a // b)


def group_cycles(cell: Cell, alpha: Ints, beta: Ints) -> Int64:
    """Cycles of one group dot product: the tile's γ′ = α′·β for term cells, a constant for the baselines."""
    gamma = np.asarray(alpha * beta)
    return gamma if cell.group_cycles is None else np.full_like(gamma, cell.group_cycles)


def encode_cycles(array: Array, cell: Cell, beta: Ints) -> Int64:
    """Cycles in which a block finds the data terms of one pixel; the baselines take values as they are."""
    cycles = np.asarray(ceil_div(GROUP_SIZE * array.rows * np.asarray(beta), array.encoders))
    return cycles if cell.group_cycles is None else np.zeros_like(cycles)


def beat_cycles(array: Array, cell: Cell, alpha: Ints, beta: Ints) -> Int64:
    """Cycles from one pixel to the next: a group dot product, unless draining or finding data terms takes longer."""
    beat = np.maximum(group_cycles(cell, alpha, beta), array.columns)
    return np.asarray(np.maximum(beat, encode_cycles(array, cell, beta)))


def group_words(cell: Cell, alpha: Ints) -> Int64:
    """Words to write into a cell for one weight group: its α′ terms, or the 16 weights of a baseline cell."""
    terms = np.asarray(alpha)
    return terms if cell.group_cycles is None else np.full_like(terms, GROUP_SIZE)


@dataclass(frozen=True)
class ArrayWork:
    """One `mmac`: what is multiplied and how it is split over the blocks.

    Attributes:
        m: output pixels.
        n: output channels per convolution group.
        depth: values of one output's reduction axis (kernel · channels).
        conv_groups: convolution groups.
        split_m: blocks that share the output pixels; `split_n` the output channels; `split_k` the weight groups.
    """

    m: Ints
    n: Ints
    depth: Ints
    conv_groups: Ints = 1
    split_m: Ints = 1
    split_n: Ints = 1
    split_k: Ints = 1

    @property
    def g(self) -> Int64:
        """Weight groups per output."""
        return np.asarray(ceil_div(self.depth, GROUP_SIZE))

    @property
    def group_parts(self) -> Int64:
        """Blocks that share the convolution groups: channels split over these first."""
        return np.minimum(self.split_n, self.conv_groups)

    @property
    def channel_parts(self) -> Int64:
        """Blocks that share the channels of one convolution group."""
        return np.maximum(1, self.split_n // np.maximum(1, self.group_parts))

    @property
    def cell_groups(self) -> Int64:
        """Group dot products that carry real groups: what the cells have to do, however it is mapped."""
        return np.asarray(self.m * self.n * self.g * self.conv_groups)

    @property
    def products(self) -> Int64:
        """Products of a data value and a weight: what the multipliers have to do."""
        return np.asarray(self.m * self.n * self.depth * self.conv_groups)


def weight_passes(target: Target, work: ArrayWork) -> Int64:
    """Times that a block is filled with weights, one after the other.

    Small convolution groups are packed on the diagonal of a block, as many as fit both its rows and its columns. Splits
    that ask for more blocks than there are take turns.
    """
    rows, columns = target.array.rows, target.array.columns
    n = ceil_div(work.n, work.channel_parts)
    g = ceil_div(work.g, work.split_k)
    packed = np.maximum(1, np.minimum(rows // np.maximum(1, g), columns // np.maximum(1, n)))
    group_passes = ceil_div(ceil_div(work.conv_groups, np.maximum(1, work.group_parts)), packed)
    rounds = ceil_div(work.split_m * work.split_n * work.split_k, target.array.blocks)
    return np.asarray(rounds * group_passes * ceil_div(g, rows) * ceil_div(n, columns))


def mmac_cycles(target: Target, work: ArrayWork, beat: Ints, words: Ints, encode: Ints = 0) -> Int64:
    """Duration of one `mmac` on the array.

    A pass streams the block's share of the pixels past stationary weights, a beat each, while the next weights are
    shifted in, one word per column and cycle. Around the passes: the first weights and data terms, the hops through the
    block, the pipeline, and an adder tree if `split_k` blocks add up.

    Args:
        target: the array.
        work: the multiplication.
        beat: cycles per pixel (`beat_cycles`).
        words: words to write per weight group (`group_words`).
        encode: cycles to find the first pixel's data terms (`encode_cycles`).
    """
    array = target.array
    load = array.rows * words
    beats = ceil_div(work.m, work.split_m) * beat
    tree = np.ceil(np.log2(work.split_k)).astype(np.int64)
    around = array.pipeline_cycles + np.maximum(load, encode) + (array.rows + array.columns - 2) + tree
    busy = around + (weight_passes(target, work) - 1) * np.maximum(beats, load) + beats
    return np.where(work.cell_groups > 0, busy, 1)


def multiply_cycles(target: Target, unit: Multipliers, work: ArrayWork) -> Int64:
    """Duration of one `mmac` on the multipliers: weights into the units' registers, then output by output."""
    outputs = work.m * work.n * work.conv_groups
    load = ceil_div(work.n * work.depth * work.conv_groups, unit.units)
    busy = target.array.pipeline_cycles + load + ceil_div(outputs, unit.units) * ceil_div(work.depth, unit.taps)
    return np.where(np.asarray(outputs) > 0, busy, 1)


def transfer_bytes(port: Port, run_bytes: Ints, runs: Ints = 1) -> Int64:
    """Bytes that cross a port for `runs` contiguous runs of `run_bytes` each: whole bursts."""
    return np.asarray(runs * ceil_div(run_bytes, port.burst_bytes) * port.burst_bytes)


def dma_cycles(port: Port, moved_bytes: Ints, *, latencies: int = 1) -> Int64:
    """Duration of a transfer of `moved_bytes` (`transfer_bytes`), after `latencies` dependent round trips."""
    busy = latencies * port.latency_cycles + ceil_div(moved_bytes, port.bytes_per_cycle)
    return np.where(np.asarray(moved_bytes) > 0, np.maximum(busy, 1), 1)


def requant_cycles(target: Target, values: Ints) -> Int64:
    """Duration of the requantization of `values` accumulators."""
    return np.asarray(target.lanes.pipeline_cycles + ceil_div(values, target.lanes.requant))


def vector_cycles(target: Target, operations: Ints) -> Int64:
    """Duration of `operations` elementary operations (values × window) in the vector unit."""
    return np.asarray(target.lanes.pipeline_cycles + np.maximum(1, ceil_div(operations, target.lanes.vector)))
