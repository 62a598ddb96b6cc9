"""The four kinds of cells, register by register.

An array holds one register of all cells, [block, row, column]. All kinds have the same interface, get the same
truncated values, and form the same sums, each by its own mechanism. The step that a cell is at in its beat and the bank
that it reads are the same in all blocks: [row, column].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mmac.isa.plan import GROUP_SIZE, MAX_BETA
from mmac.isa.term_table import TermTable
from mmac.isa.terms import MAX_DATA, signed_digits
from mmac.runtime.engines.cell.layout import NONE

Array = npt.NDArray[Any]
Int = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.int16]
Bools = npt.NDArray[np.bool_]

POISON = 3
"""What registers hold before anything is loaded: reading it by mistake must show."""


class Cells(ABC):
    """The registers of all cells.

    Attributes:
        store: int16 [bank, block, row, column, word]: the weight group in use, and the next one.
        data: [block, row, column, 16]: a plane of the encoded data group.
        sum: int32 [block, row, column]: what the present beat has added up so far.

    Args:
        shape: blocks, rows, columns.
        alpha: most terms of a weight group.
        beta: terms of a data value.
    """

    name: ClassVar[str]
    group_cycles: ClassVar[int | None]
    """Cycles of one group dot product; None for a cell that takes γ′ of them, pair of terms by pair of terms."""

    def __init__(self, shape: tuple[int, int, int], alpha: int, beta: int) -> None:
        self.beta, self.cycles, self.words = beta, self.cycles_for(alpha, beta), self.words_for(alpha)
        self.plane_cycles = max(1, self.words if self.group_cycles is None else self.group_cycles)
        self.block, self.row, self.column = np.ogrid[tuple(slice(size) for size in shape)]
        self.store: Words = np.full((2, *shape, max(1, self.words)), POISON, np.int16)
        edge = self.encode(np.zeros(GROUP_SIZE, np.int16))
        self.data = np.full((*shape, GROUP_SIZE), POISON, edge.dtype)
        self.sum: Int = np.zeros(shape, np.int32)

    @classmethod
    def cycles_for(cls, alpha: int, beta: int) -> int:
        """Cycles of one group dot product."""
        return alpha * beta if cls.group_cycles is None else cls.group_cycles

    @classmethod
    def words_for(cls, alpha: int) -> int:
        """Words of a weight group: its terms, or its values."""
        return alpha if cls.group_cycles is None else GROUP_SIZE

    def weight_words(self, tile: TermTable) -> Words:
        """Words to store for each weight group, int16 [group, words]."""
        return tile.values().reshape(-1, GROUP_SIZE)

    def empty_words(self) -> Words:
        """Words of a group without weights."""
        return np.zeros(self.words, np.int16)

    def encode(self, values: Words) -> Array:
        """What the data encoders make of truncated values: [..., 16] → planes [..., plane, 16].

        Planes enter a cell one after the other, `plane_cycles` apart.
        """
        return values[..., None, :]

    def work(self, step: Ints, bank: Ints) -> None:
        """One cycle of every cell whose `step` is 0…cycles-1; the others keep their sums."""
        working = (step >= 0) & (step < self.cycles)
        if working.any():
            step = np.where(working, step, 0)
            before = np.where(step == 0, 0, self.sum)
            self.sum = np.where(working, self._next(step, bank, before), self.sum)

    @abstractmethod
    def _next(self, step: Ints, bank: Ints, before: Int) -> Int:
        """The sum register after a cycle, if it holds `before`."""

    def _word(self, bank: Ints, number: Ints) -> Int:
        """A word of the store of every cell."""
        word: Int = self.store[bank, self.block, self.row, self.column, number].astype(np.int32)
        return word

    def _value(self, number: Ints | Int) -> Int:
        """What the data register of every cell holds of a value."""
        value: Int = self.data[self.block, self.row, self.column, number].astype(np.int32)
        return value


class Mmac(Cells):
    """One pair of terms per cycle: a shift, and a signed addition.

    A word is the byte of a weight term as in a term stream, or `NONE`. A data term ±2^e is kept as ±(e + 1), none as 0.
    A plane of data is the term of one rank of each value; all weight terms meet a plane before the next one comes.
    """

    name = "mmac"
    group_cycles = None

    def weight_words(self, tile: TermTable) -> Words:
        """Terms in rank order."""
        return np.where(tile.valid(), tile.codes.astype(np.int16), np.int16(NONE))

    def empty_words(self) -> Words:
        """No terms."""
        return np.full(self.words, NONE, np.int16)

    def encode(self, values: Words) -> Array:
        """The terms of each value, largest first; truncated values have no more than β."""
        return _data_terms()[values.astype(np.intp) + MAX_DATA, : self.beta].swapaxes(-1, -2)

    def _next(self, step: Ints, bank: Ints, before: Int) -> Int:
        weight = self._word(bank, step % self.words)
        index, minus, exponent = weight & 15, weight >> 4 & 1, weight >> 5 & 7
        data = self._value(index)
        sign = np.where(weight == NONE, 0, np.sign(data)) * (1 - 2 * minus)
        product: Int = sign << (exponent + np.maximum(np.abs(data) - 1, 0))
        return before + product


@cache
def _data_terms() -> npt.NDArray[np.int8]:
    """[value + 256, rank] terms of every data value as `Mmac` keeps them."""
    positive, negative = signed_digits(np.arange(-MAX_DATA, MAX_DATA + 1))
    terms = np.zeros((len(positive), MAX_BETA), np.int8)
    found = np.zeros(len(positive), np.intp)
    for exponent in reversed(range(MAX_DATA.bit_length())):
        digit = (positive >> exponent & 1).astype(np.int8) - (negative >> exponent & 1).astype(np.int8)
        (there,) = np.nonzero(digit)
        terms[there, found[there]] = digit[there] * (exponent + 1)
        found[there] += 1
    return terms


class Pmac(Cells):
    """One value per cycle: a product, and an addition."""

    name = "pmac"
    group_cycles = GROUP_SIZE

    def _next(self, step: Ints, bank: Ints, before: Int) -> Int:
        return before + self._word(bank, step) * self._value(step)


class Bmac(Cells):
    """One bit of a weight's magnitude per cycle: the data value shifted, and a signed addition."""

    name = "bmac"
    group_cycles = 8 * GROUP_SIZE

    def _next(self, step: Ints, bank: Ints, before: Int) -> Int:
        number, bit = np.divmod(step, 8)
        weight = self._word(bank, number)
        selected = np.where(np.abs(weight) >> bit & 1, self._value(number) << bit, 0)
        return before + np.where(weight < 0, -selected, selected)


class BmacSerial(Cells):
    """One bit of the 32-bit sum per cycle.

    The data value, sign extended, goes lowest bit first past the weight's magnitude, which waits in parallel: the
    product in carry-save form loses its lowest bit every cycle to a one-bit adder, where it meets the lowest bit of the
    sum, which rotates. For a negative weight the adder subtracts: it inverts the bit and starts with a carry.
    """

    name = "bmac_serial"
    group_cycles = 32 * GROUP_SIZE

    def __init__(self, shape: tuple[int, int, int], alpha: int, beta: int) -> None:
        super().__init__(shape, alpha, beta)
        self.product_sum: Int = np.zeros(shape, np.int32)
        self.product_carry: Int = np.zeros(shape, np.int32)
        self.carry: Int = np.zeros(shape, np.int32)

    def _next(self, step: Ints, bank: Ints, before: Int) -> Int:
        number, bit = np.divmod(step, 32)
        weight = self._word(bank, number)
        minus = (weight < 0).astype(np.int32)
        added = np.where(self._value(number) >> bit & 1, np.abs(weight), 0)
        total: Int = np.where(bit == 0, 0, self.product_sum)
        carries: Int = np.where(bit == 0, 0, self.product_carry)
        digits: Int = total ^ carries ^ added
        self.product_carry = (total & carries) | (added & (total ^ carries))
        self.product_sum = digits >> 1
        ones = (before & 1) + (digits & 1 ^ minus) + np.where(bit == 0, minus, self.carry)
        self.carry = ones >> 1
        rotated = before.view(np.uint32) >> np.uint32(1) | (ones & 1).view(np.uint32) << np.uint32(31)
        return rotated.view(np.int32)


KINDS: dict[str, type[Cells]] = {kind.name: kind for kind in (Mmac, Pmac, Bmac, BmacSerial)}
"""The kinds of cells that the engine can step."""
