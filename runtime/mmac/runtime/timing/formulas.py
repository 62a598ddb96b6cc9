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
        cut: how many channels the first and the last convolution group together have less than n.
    """

    m: Ints
    n: Ints
    depth: Ints
    conv_groups: Ints = 1
    split_m: Ints = 1
    split_n: Ints = 1
    split_k: Ints = 1
    cut: Ints = 0

    @property
    def channels(self) -> Int64:
        """Output channels of all convolution groups."""
        return np.asarray(self.n * self.conv_groups - self.cut)

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
    def pixel_parts(self) -> Int64:
        """Of the `split_m` parts of the pixels, those that have some."""
        return np.asarray(ceil_div(self.m, np.maximum(1, ceil_div(self.m, self.split_m))))

    @property
    def cell_groups(self) -> Int64:
        """Group dot products that carry real groups: what the cells have to do, however it is mapped."""
        return np.asarray(self.m * self.channels * self.g)

    @property
    def products(self) -> Int64:
        """Products of a data value and a weight: what the multipliers have to do."""
        return np.asarray(self.m * self.channels * self.depth)


@dataclass(frozen=True)
class BlockWork:
    """What a block has to do: the largest part of an `mmac`, and how it goes through it.

    Small convolution groups are packed on the diagonal of the block, as many as fit both its rows and its columns.
    Splits that ask for more blocks than there are take turns, in rounds; the parts that add up stay together.
    """

    array: Array
    work: ArrayWork

    @property
    def n(self) -> Int64:
        """Output channels per convolution group."""
        return np.asarray(ceil_div(self.work.n, self.work.channel_parts))

    @property
    def g(self) -> Int64:
        """Weight groups per output."""
        return np.asarray(ceil_div(self.work.g, self.work.split_k))

    @property
    def conv_groups(self) -> Int64:
        """Convolution groups."""
        return np.asarray(ceil_div(self.work.conv_groups, np.maximum(1, self.work.group_parts)))

    @property
    def packed(self) -> Int64:
        """Convolution groups in a pass."""
        fitting = np.minimum(self.array.rows // np.maximum(1, self.g), self.array.columns // np.maximum(1, self.n))
        return np.asarray(np.maximum(1, np.minimum(fitting, self.conv_groups)))

    @property
    def group_passes(self) -> Int64:
        """Passes in which the same sums are formed, of different weight groups."""
        return np.asarray(ceil_div(self.g, self.array.rows))

    @property
    def column_passes(self) -> Int64:
        """Passes in which the same data are multiplied, for different channels."""
        return np.asarray(ceil_div(self.n, self.array.columns))

    @property
    def tree_rounds(self) -> Int64:
        """Rounds that the parts of one output take."""
        return np.asarray(ceil_div(self.work.split_k, self.array.blocks))

    @property
    def rounds(self) -> Int64:
        """All rounds."""
        at_once = np.maximum(1, self.array.blocks // np.asarray(self.work.split_k))
        return np.asarray(ceil_div(self.work.split_m * self.work.split_n, at_once) * self.tree_rounds)

    @property
    def passes(self) -> Int64:
        """Times that the block is filled with weights, in all rounds."""
        group_passes = ceil_div(self.conv_groups, self.packed) * self.group_passes
        return np.asarray(self.rounds * group_passes * self.column_passes)

    @property
    def pass_groups(self) -> Int64:
        """Different weight groups in all blocks during a pass; blocks that split the pixels have the same."""
        height, width = np.minimum(self.g, self.array.rows), np.minimum(self.n, self.array.columns)
        different = np.minimum(self.array.blocks, self.work.split_n * self.work.split_k)
        return np.asarray(self.packed * height * width * different)


def rank_cycles(array: Array, cell: Cell, work: ArrayWork) -> Int64:
    """Cycles in which the weights of a pass, if they come as integers, are ranked; the baselines take them as such."""
    cycles = np.asarray(ceil_div(GROUP_SIZE * BlockWork(array, work).pass_groups, array.rankers))
    return cycles if cell.group_cycles is None else np.zeros_like(cycles)


def accumulations(array: Array, work: ArrayWork) -> Int64:
    """How often a sum is added to an accumulator: once per output, round and weight group that a row holds."""
    block = BlockWork(array, work)
    return np.asarray(work.m * work.channels * block.group_passes * block.tree_rounds)


def mmac_cycles(target: Target, work: ArrayWork, beat: Ints, words: Ints, encode: Ints = 0, rank: Ints = 0) -> Int64:
    """Duration of one `mmac` on the array.

    A pass streams the block's share of the pixels past stationary weights, a beat each, while the next weights are
    shifted in, one word per column and cycle, as they are ranked. Around the passes: the first weights and data terms,
    the hops through the block, the pipeline, and an adder tree if `split_k` blocks add up.

    Args:
        target: the array.
        work: the multiplication.
        beat: cycles per pixel (`beat_cycles`).
        words: words to write per weight group (`group_words`).
        encode: cycles to find the first pixel's data terms (`encode_cycles`).
        rank: cycles to rank the weights of a pass (`rank_cycles`), 0 if they come as terms.
    """
    array = target.array
    load = np.maximum(array.rows * np.asarray(words), rank)
    beats = ceil_div(work.m, work.split_m) * beat
    tree = np.ceil(np.log2(work.split_k)).astype(np.int64)
    around = array.pipeline_cycles + np.maximum(load, encode) + (array.rows + array.columns - 2) + tree
    busy = around + (BlockWork(array, work).passes - 1) * np.maximum(beats, load) + beats
    return np.where(work.cell_groups > 0, busy, 1)


def multiply_cycles(target: Target, unit: Multipliers, work: ArrayWork) -> Int64:
    """Duration of one `mmac` on the multipliers: weights into the units' stores, then output by output."""
    outputs = work.m * work.channels
    load = ceil_div(work.channels * work.depth, unit.units)
    busy = target.array.pipeline_cycles + load + ceil_div(outputs, unit.units) * ceil_div(work.depth, unit.taps)
    return np.where(np.asarray(outputs) > 0, busy, 1)


def unit_words(unit: Multipliers, work: ArrayWork) -> Int64:
    """Words of weights that a unit needs: of the different channels among the outputs that it takes in turn."""
    turns = ceil_div(work.m * work.channels, unit.units)
    return np.asarray(np.minimum(turns, _period(unit, work)) * ceil_div(work.depth, unit.taps))


def unit_weights(unit: Multipliers, work: ArrayWork) -> Int64:
    """Weights that all units store together, each those of its channels."""
    turns, longer = np.divmod(np.asarray(work.m * work.channels), unit.units)
    period = _period(unit, work)
    channels = longer * np.minimum(turns + 1, period) + (unit.units - longer) * np.minimum(turns, period)
    return np.asarray(channels * work.depth)


def _period(unit: Multipliers, work: ArrayWork) -> Int64:
    """Turns after which a unit comes to the same channel again."""
    return np.asarray(work.channels // np.maximum(1, np.gcd(unit.units, work.channels)))


def transfer_bytes(port: Port, run_bytes: Ints, runs: Ints = 1) -> Int64:
    """Bytes that cross a port for `runs` contiguous runs of `run_bytes` each: whole bursts."""
    return np.asarray(runs * ceil_div(run_bytes, port.burst_bytes) * port.burst_bytes)


def dma_cycles(port: Port, moved_bytes: Ints, *, latencies: int = 1) -> Int64:
    """Duration of a transfer of `moved_bytes` (`transfer_bytes`), after `latencies` dependent round trips."""
    busy = latencies * port.latency_cycles + ceil_div(moved_bytes, port.bytes_per_cycle)
    return np.where(np.asarray(moved_bytes) > 0, np.maximum(busy, 1), 1)


def decode_cycles(target: Target, port: Port, slots: Ints) -> Int64:
    """Duration of decoding `slots` term slots (groups × α′) of a coded tile, from when the transfer begins."""
    return np.asarray(2 * port.latency_cycles + ceil_div(slots, target.array.decoders))


def requant_cycles(target: Target, values: Ints) -> Int64:
    """Duration of the requantization of `values` accumulators."""
    return np.asarray(target.lanes.pipeline_cycles + ceil_div(values, target.lanes.requant))


def vector_cycles(target: Target, operations: Ints) -> Int64:
    """Duration of `operations` elementary operations in the vector unit."""
    return np.asarray(target.lanes.pipeline_cycles + np.maximum(1, ceil_div(operations, target.lanes.vector)))
