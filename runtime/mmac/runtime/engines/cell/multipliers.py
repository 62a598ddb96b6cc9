"""The multipliers: dot-product units on truncated values, one clock cycle at a time."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmac.runtime.engines.cell.array import BEHIND, Counts, with_empty
from mmac.runtime.engines.cell.cells import POISON
from mmac.runtime.engines.cell.layout import NONE, Work
from mmac.runtime.engines.cell.operands import Operands
from mmac.runtime.targets import Multipliers

Int = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Phases:
    """What the units go through: `loads` of weights, then `turns` of outputs in `chunks` of products.

    After `period` turns a unit comes to the same channel again.
    """

    loads: int
    turns: int
    chunks: int
    period: int

    @property
    def words(self) -> int:
        """Words of weights that a unit needs: a chunk each, of the channels of its turns."""
        return min(self.turns, self.period) * self.chunks


def phases_of(unit: Multipliers, work: Work) -> Phases:
    """How often the units have to do what."""
    channels = work.channels[1] - work.channels[0]
    return Phases(
        loads=-(-channels * work.depth // unit.units),
        turns=-(-work.pixels * channels // unit.units),
        chunks=-(-work.depth // unit.taps),
        period=channels // math.gcd(channels, unit.units),
    )


class Token(NamedTuple):
    """What enters the units in a cycle, `NONE` for nothing: a load of weights, or a chunk of a turn."""

    load: int = NONE
    turn: int = NONE
    chunk: int = NONE


class DotProducts:
    """All registers of the units during one `mmac`.

    Each unit takes an output at a time, in (pixel, channel) order with the channel fastest, and keeps the weights of
    the channels that it comes to in a store of its own.

    Attributes:
        store: int16 [unit, word, tap].

    Args:
        unit: how many units, and how wide.
        pipeline_cycles: registers from ACT to ACC.
        work: what is multiplied; not empty.
        operands: the values.
        acc: int32 [channel of the box, pixel], what the accumulators hold at first.
    """

    def __init__(self, unit: Multipliers, pipeline_cycles: int, work: Work, operands: Operands, acc: Int) -> None:
        self.unit, self.work = unit, work
        self.phases = phases_of(unit, work)
        self.channel: Ints = np.arange(*work.channels)
        self.slot = self._slots()
        self.counts = Counts()
        # memories; the last element is what the address NONE selects
        depth, width = work.depth, self.phases.chunks * unit.taps
        data, weights = operands.data.swapaxes(1, 2), operands.tile.values().swapaxes(0, 1)
        self.data = with_empty(_padded(data.reshape(*data.shape[:2], -1), depth, width))
        self.decoded = weights.reshape(len(weights), -1)[self.channel, :depth]
        self.acc = with_empty(acc)
        # registers
        self.pipeline = deque([Token()] * (pipeline_cycles - BEHIND - 1))
        self.store: Words = np.full((unit.units, unit.words, unit.taps), POISON, np.int16)
        self.operands: Int = np.zeros((unit.units, unit.taps), np.int32)
        self.products: Int = np.zeros((unit.units, unit.taps), np.int32)
        self.sums: Int = np.zeros(unit.units, np.int32)
        self.fetched = self.multiplied = self.summed = Token()
        self.issued = 0

    def run(self) -> int:
        """Step until the last sum has reached its accumulator; returns the cycles taken."""
        cycles, left = 0, self.phases.turns
        while left:
            left -= self.step()
            cycles += 1
        return cycles

    def step(self) -> bool:
        """One clock cycle, from the last register to the first; returns whether sums have reached the accumulators."""
        arrived = self._accumulate()
        self._add()
        self._multiply()
        self._store()
        self.pipeline.append(self._issue())
        self._fetch(self.pipeline.popleft())
        return arrived

    def _issue(self) -> Token:
        """What enters: first all weights, then turn by turn."""
        phases, number = self.phases, self.issued
        self.issued += 1
        if number < phases.loads:
            return Token(load=number)
        turn, chunk = divmod(number - phases.loads, phases.chunks)
        return Token(turn=turn, chunk=chunk) if turn < phases.turns else Token()

    def _fetch(self, token: Token) -> None:
        """The operand registers take the next values of each unit's output."""
        self.fetched = token
        if token.turn != NONE:
            channel, pixel = self._outputs(token.turn)
            taps = slice(token.chunk * self.unit.taps, (token.chunk + 1) * self.unit.taps)
            conv_group = self.channel[channel] // self.work.per_group
            self.operands = self.data[conv_group, pixel, taps].astype(np.int32)

    def _store(self) -> None:
        """The next decoded weights, one per unit, go to all units; each stores those of its channels."""
        if self.fetched.load != NONE:
            first = self.fetched.load * self.unit.units
            number = np.arange(first, min(first + self.unit.units, len(self.channel) * self.work.depth))
            channel, place = np.divmod(number, self.work.depth)
            chunk, tap = np.divmod(place, self.unit.taps)
            unit, which = np.nonzero(self.slot[:, channel] != NONE)
            word = self.slot[unit, channel[which]] * self.phases.chunks + chunk[which]
            self.store[unit, word, tap[which]] = self.decoded[channel[which], place[which]]
            self.counts.words += len(unit)

    def _multiply(self) -> None:
        """Every tap forms a product."""
        self.multiplied = self.fetched
        if self.multiplied.turn != NONE:
            turn, chunk = self.multiplied.turn, self.multiplied.chunk
            word = turn % self.phases.period * self.phases.chunks + chunk
            self.products = self.operands * self.store[:, word]
            _, pixel = self._outputs(turn)
            taps = min(self.unit.taps, self.work.depth - chunk * self.unit.taps)
            self.counts.products += int(np.count_nonzero(pixel != NONE)) * taps

    def _add(self) -> None:
        """Every unit adds its products to its sum."""
        self.summed = self.multiplied
        if self.summed.turn != NONE:
            before = 0 if self.summed.chunk == 0 else self.sums
            self.sums = before + self.products.sum(axis=1, dtype=np.int32)

    def _accumulate(self) -> bool:
        """Sums of the last products go to the accumulators."""
        if self.summed.chunk != self.phases.chunks - 1:
            return False
        channel, pixel = self._outputs(self.summed.turn)
        self.acc[self.channel[channel], pixel] += self.sums
        self.counts.sums += int(np.count_nonzero(pixel != NONE))
        return True

    def _slots(self) -> Ints:
        """[unit, channel] number of a channel among those that a unit comes to, `NONE` for the others."""
        slot: Ints = np.full((self.unit.units, len(self.channel)), NONE, np.int64)
        for turn in range(min(self.phases.turns, self.phases.period)):
            channel, pixel = self._outputs(turn)
            (unit,) = np.nonzero(pixel != NONE)
            slot[unit, channel[unit]] = turn
        return slot

    def _outputs(self, turn: int) -> tuple[Ints, Ints]:
        """Channel (its place in `channel`) and pixel of each unit's output, [unit]."""
        number = turn * self.unit.units + np.arange(self.unit.units)
        pixel, channel = np.divmod(number, len(self.channel))
        return channel, np.where(pixel < self.work.pixels, pixel, NONE)


def _padded(values: Words, depth: int, width: int) -> Words:
    """The last axis is the reduction axis: its `depth` values, and zeros up to `width` for taps that stay idle."""
    padded = np.zeros((*values.shape[:-1], width), np.int16)
    padded[..., :depth] = values[..., :depth]
    return padded
