"""Control of the array: a sequencer at the corner, and the registers through which its tokens hop over the block."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmac.runtime.engines.cell.layout import NONE

Ints = npt.NDArray[np.int64]


class Token(NamedTuple):
    """What enters the block in a cycle; `NONE` for nothing.

    Attributes:
        step: cycle of the beat at which the cell works.
        beat: number of that beat, in all passes together.
        ended: number of the beat that ended in the cycle before.
        word: number of the weight word to store, in all passes together.
    """

    step: int = NONE
    beat: int = NONE
    ended: int = NONE
    word: int = NONE


@dataclass(frozen=True)
class Timing:
    """What the sequencer counts.

    Attributes:
        passes: in all rounds.
        beats: of a pass.
        beat_cycles: of a beat.
        load_cycles: to move a block's weights into a bank, a word per column and cycle.
        encode_cycles: to find the data terms of a block's rows for one beat.
        rank_cycles: to rank the weights of a pass.
    """

    passes: int
    beats: int
    beat_cycles: int
    load_cycles: int
    encode_cycles: int
    rank_cycles: int = 0


class Sequencer:
    """Decides what enters the block in each cycle.

    Four machines run side by side: one ranks the weights of the next pass, one moves them into the bank that is not in
    use as they are ranked, one finds the data terms of the next beat, and one starts beats whose weights and data are
    there.
    """

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.beat = 0
        self.step = NONE
        self.ranked = 0  # cycles spent on ranking, in all passes together
        self.stored = 0  # weight words
        self.encoded = 0  # cycles spent on the next beat

    def next(self) -> Token:
        """What enters in the present cycle."""
        ended = self._end()
        if self.step == NONE and self._is_ready():
            self.step = self.encoded = 0
        self._rank()
        word = self._store()
        self.encoded += 1
        if self.step == NONE:
            return Token(ended=ended, word=word)
        self.step += 1
        return Token(self.step - 1, self.beat, ended, word)

    def _end(self) -> int:
        """The beat that has just ended."""
        if self.step < self.timing.beat_cycles:
            return NONE
        self.beat, self.step = self.beat + 1, NONE
        return self.beat - 1

    def _is_ready(self) -> bool:
        """Whether the next beat can start."""
        timing = self.timing
        number = self.beat // timing.beats
        ranked = self.ranked >= (number + 1) * timing.rank_cycles
        loaded = ranked and self.stored >= (number + 1) * timing.load_cycles
        return number < timing.passes and loaded and self.encoded >= timing.encode_cycles

    def _fillable(self) -> int:
        """Passes whose weights have a bank: those that have started, and the next one."""
        started = self.beat // self.timing.beats + (self.step != NONE)
        return min(started + 1, self.timing.passes)

    def _rank(self) -> None:
        """Rank on: weights of the pass that comes next."""
        self.ranked += self.ranked < self._fillable() * self.timing.rank_cycles

    def _store(self) -> int:
        """The weight word to store: of the pass that comes next, as soon as as much of the pass is ranked."""
        load, rank = self.timing.load_cycles, self.timing.rank_cycles
        if self.stored >= self._fillable() * load:
            return NONE
        number, place = divmod(self.stored, load)
        if (self.ranked - number * rank) * load < (place + 1) * rank:
            return NONE
        self.stored += 1
        return self.stored - 1


class Control:
    """The registers of the tokens: right and down for beats, right for weight words.

    All blocks work in lock step, so that one copy stands for all.

    Attributes:
        step: [row, column] `Token.step`; `beat` and `ended` likewise.
        word: [column] `Token.word`.
    """

    def __init__(self, rows: int, columns: int, delay: int) -> None:
        self._beats: Ints = np.full((3, rows, columns), NONE, np.int64)
        self.step, self.beat, self.ended = self._beats
        self.word: Ints = np.full(columns, NONE, np.int64)
        self._delay = deque([Token()] * (delay - 1))

    def hop(self, token: Token) -> None:
        """Every register takes what the one before it holds; the first one what comes out of the pipeline."""
        self._delay.append(token)
        first = self._delay.popleft()
        self._beats[:, :, 1:] = self._beats[:, :, :-1]
        self._beats[:, 1:, 0] = self._beats[:, :-1, 0]
        self._beats[:, 0, 0] = first[:3]
        self.word[1:] = self.word[:-1]
        self.word[0] = first.word
