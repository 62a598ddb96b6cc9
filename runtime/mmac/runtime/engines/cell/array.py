"""The array: blocks of cells in lock step and all that surrounds them, one clock cycle at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa.plan import GROUP_SIZE
from mmac.runtime.engines.cell.cells import Cells
from mmac.runtime.engines.cell.control import Control, Sequencer, Timing
from mmac.runtime.engines.cell.layout import NONE, Layout
from mmac.runtime.engines.cell.operands import Operands
from mmac.runtime.engines.cell.placement import place

Int = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]

BEHIND = 2
"""Registers of the pipeline behind the last cell: its partial sum, and the accumulator."""


def timing_of(layout: Layout, kind: type[Cells], alpha: int, beta: int) -> Timing:
    """What the sequencer has to count for a layout, weight groups of up to α terms, and data values of β."""
    array = layout.array
    terms = GROUP_SIZE * array.rows * beta if kind.group_cycles is None else 0
    encode = -(-terms // array.encoders)
    ranked = GROUP_SIZE * layout.pass_groups if layout.work.raw and kind.group_cycles is None else 0
    return Timing(
        passes=layout.passes,
        beats=layout.beats,
        beat_cycles=max(kind.cycles_for(alpha, beta), array.columns, encode),
        load_cycles=array.rows * kind.words_for(alpha),
        encode_cycles=encode,
        rank_cycles=-(-ranked // array.rankers),
    )


@dataclass
class Counts:
    """What a unit has done that takes energy.

    Attributes:
        words: words written into the cells, or weights into the stores of the multipliers.
        planes: planes of data groups found for the rows, of 16 data terms or values each.
        products: products of the multipliers.
        sums: sums added to accumulators.
    """

    words: int = 0
    planes: int = 0
    products: int = 0
    sums: int = 0


@dataclass(frozen=True)
class Sums:
    """Sums of a beat on their way from one column of the blocks to the accumulators: `values` int32 [block]."""

    beat: int
    column: int
    values: Int


class SystolicArray:
    """All registers of the array during one `mmac`.

    Args:
        layout: how the work is split.
        kind: what cells there are.
        operands: what is multiplied.
        acc: int32 [channel of the box, pixel], what the accumulators hold at first.
    """

    def __init__(self, layout: Layout, kind: type[Cells], operands: Operands, acc: Int) -> None:
        array, alpha, beta = layout.array, operands.alpha, operands.beta
        self.timing = timing_of(layout, kind, alpha, beta)
        self.cells = cells = kind((array.blocks, array.rows, array.columns), alpha, beta)
        self.at = place(layout)
        self.sequencer = Sequencer(self.timing)
        self.control = Control(array.rows, array.columns, array.pipeline_cycles - BEHIND)
        self.partial: Int = np.zeros(cells.sum.shape, np.int32)
        self.partial_beat: Ints = np.full(self.control.ended.shape, NONE, np.int64)
        self.tree: list[Sums | None] = [None] * (layout.work.splits[2] - 1).bit_length()
        # memories; the last element is what the address NONE selects
        data = cells.encode(operands.data)
        self.data = with_empty(data.reshape(-1, *data.shape[2:]))
        self.words = np.concatenate([cells.weight_words(operands.tile), cells.empty_words()[None]])
        self.channels = operands.tile.shape[1]
        self.acc = with_empty(acc)
        self.counts = Counts()

    def run(self) -> int:
        """Step until the last sum has reached its accumulator; returns the cycles taken."""
        cycles, left = 0, self.timing.passes * self.timing.beats * self.partial.shape[2]
        while left:
            left -= self.step()
            cycles += 1
        return cycles

    def step(self) -> bool:
        """One clock cycle, from the last register to the first; returns whether sums have reached the accumulators."""
        arrived = self._through_tree(self._drain())
        if arrived:
            self._accumulate(arrived)
        self._add_down()
        self.cells.work(self.control.step, self.control.beat // self.timing.beats & 1)
        self._store_words()
        self.control.hop(self.sequencer.next())
        self._move_data()
        return arrived is not None

    def _drain(self) -> Sums | None:
        """The sums at the bottom of the one column that has some."""
        (columns,) = np.nonzero(self.partial_beat[-1] != NONE)
        if not columns.size:
            return None
        if columns.size > 1:
            raise RuntimeError(f"{columns.size} columns drain into the one adder of a block")
        (column,) = columns.tolist()
        return Sums(int(self.partial_beat[-1, column]), column, self.partial[:, -1, column])

    def _through_tree(self, entering: Sums | None) -> Sums | None:
        """The adder tree between blocks, a register per stage: what leaves it in this cycle.

        Stage i adds to each block what the block 2^i further on has for the same output.
        """
        stages = [entering, *self.tree]
        self.tree = [self._add_blocks(sums, 1 << i) for i, sums in enumerate(stages[:-1])]
        return stages[-1]

    def _add_blocks(self, sums: Sums | None, distance: int) -> Sums | None:
        if sums is None:
            return None
        output = self.at.output[sums.beat // self.timing.beats]
        values = sums.values.copy()
        values[:-distance] += np.where(output[:-distance] == output[distance:], sums.values[distance:], 0)
        return replace(sums, values=values)

    def _accumulate(self, sums: Sums) -> None:
        """The adder of each block that is the first of an output adds its sum to the accumulator."""
        number, beat = divmod(sums.beat, self.timing.beats)
        output = self.at.output[number]
        first = np.diff(output, prepend=NONE - 1) != 0
        address = self.at.channel[number, first, sums.column], self.at.pixel[number, first, beat]
        self.acc[address] += sums.values[first]
        self.counts.sums += int(np.count_nonzero((address[0] != NONE) & (address[1] != NONE)))

    def _add_down(self) -> None:
        """Cells whose beat has ended add their sum to the partial sum from above."""
        self.partial_beat = self.control.ended.copy()
        ended = self.partial_beat != NONE
        if ended.any():
            above = np.zeros_like(self.partial)
            above[:, 1:] = self.partial[:, :-1]
            self.partial = np.where(ended, above + self.cells.sum, self.partial)

    def _store_words(self) -> None:
        """One weight word per column moves into the bank of its pass."""
        (column,) = np.nonzero(self.control.word != NONE)
        if not column.size:
            return
        number, place = np.divmod(self.control.word[column], self.timing.load_cycles)
        row, word = np.divmod(place, self.cells.words)
        group, channel = self.at.group[number, :, row], self.at.channel[number, :, column]
        there = (group != NONE) & (channel != NONE) & self.at.joined[row, column, None]
        address = np.where(there, group * self.channels + channel, NONE)
        self.cells.store[number & 1, :, row, column, word] = self.words[address, word[:, None]]
        self.counts.words += int(np.count_nonzero(there))

    def _move_data(self) -> None:
        """Data hop to the right; where a beat begins, the next group of the row enters on the left, plane by plane."""
        data, step = self.cells.data, self.control.step[:, 0]
        data[:, :, 1:] = data[:, :, :-1]
        plane, wait = np.divmod(step, self.cells.plane_cycles)
        (row,) = np.nonzero((step != NONE) & (wait == 0) & (plane < self.data.shape[2]))
        if row.size:
            number, beat = np.divmod(self.control.beat[row, 0], self.timing.beats)
            source, pixel = self.at.source[number, :, row], self.at.pixel[number, :, beat]
            data[:, row, 0] = self.data[source, pixel, plane[row, None]].swapaxes(0, 1)
            entered = (source != NONE) & (pixel != NONE) & (step[row, None] == 0)
            self.counts.planes += int(np.count_nonzero(entered)) * self.data.shape[2]


def with_empty(memory: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A memory with zeros at one more address along its first two axes."""
    rows, columns, *rest = memory.shape
    larger = np.zeros((rows + 1, columns + 1, *rest), memory.dtype)
    larger[:-1, :-1] = memory
    return larger
