"""How an instruction is declared: a class whose annotated fields are bit ranges of one 128-bit word.

Encoder, decoder, assembler text, reference page and the dispatch registries of the engines all follow from the
declaration. Overlapping fields, fields outside the word and duplicate opcodes fail at import.
"""

from __future__ import annotations

import dataclasses
import hashlib
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Annotated, Any, ClassVar, TypeVar, dataclass_transform, get_args, get_origin

import numpy as np

WORD_BITS = 128
WORD_BYTES = WORD_BITS // 8
OPCODE_BITS = 8


class Queue(IntEnum):
    """Where an instruction executes. The sequencer runs loops and configuration; the rest are in-order queues."""

    SEQUENCER = 0
    LOAD = 1
    COMPUTE = 2
    STORE = 3
    WEIGHTS = 4  # term streams and constants of the image; runs ahead of what depends on activations


@dataclass(frozen=True)
class Bits:
    """A field: bits ``high…low`` of the word, inclusive; two's complement if `signed`.

    `kind` says what the value means, for the assembler and the verifier: ``int`` (a plain number), ``tensor`` and
    ``pointer`` (register numbers), ``loop`` (a loop depth or none), ``token`` (a semaphore or none), ``levels`` (a
    bit for each level of the program), ``f32`` (the bits of a binary32), or the name of an enumeration given in
    `choices`.
    """

    high: int
    low: int
    signed: bool = False
    kind: str = "int"
    choices: type[IntEnum] | None = None

    @property
    def width(self) -> int:
        """Number of bits."""
        return self.high - self.low + 1

    @property
    def minimum(self) -> int:
        """Smallest value that the field can hold."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        """Largest value that the field can hold."""
        return (1 << (self.width - 1)) - 1 if self.signed else (1 << self.width) - 1

    @cached_property
    def values(self) -> frozenset[int]:
        """Numbers of the choices; empty if any value of the range will do."""
        return frozenset(choice.value for choice in self.choices or ())


@dataclass(frozen=True, kw_only=True)
class Instr:
    """Base of all instructions; fields are plain integers, with ranges and choices checked on construction."""

    mnemonic: ClassVar[str] = ""
    opcode: ClassVar[int] = -1
    queue: ClassVar[Queue] = Queue.SEQUENCER
    layout: ClassVar[dict[str, Bits]] = {}

    def __post_init__(self) -> None:
        for name, bits in self.layout.items():
            value = getattr(self, name)
            if not bits.minimum <= value <= bits.maximum:
                raise ValueError(
                    f"{self.mnemonic}: {name} = {value} is outside {bits.minimum}…{bits.maximum} ({bits.width} bits)"
                )
            if bits.choices is not None and value not in bits.values:
                allowed = ", ".join(f"{choice.value} ({choice.name.lower()})" for choice in bits.choices)
                raise ValueError(f"{self.mnemonic}: {name} = {value} is none of {allowed}")


NONE_TOKEN = 31
"""Value of a token field that names no semaphore."""

NONE_LOOP = 15
"""Value of a loop field that names no loop."""

LEVEL_LOOP = 14
"""Value of a loop field that names the level register instead of a loop."""

BY_OPCODE: dict[int, type[Instr]] = {}
BY_MNEMONIC: dict[str, type[Instr]] = {}

InstrT = TypeVar("InstrT", bound=Instr)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def instruction(mnemonic: str, opcode: int, queue: Queue) -> Callable[[type[InstrT]], type[InstrT]]:
    """Register a class as an instruction; its annotated fields become the word's layout."""

    def register(cls: type[InstrT]) -> type[InstrT]:
        hints = typing.get_type_hints(cls, include_extras=True)
        layout = {name: _bits(hint) for name, hint in hints.items() if get_origin(hint) is Annotated}
        _check_layout(mnemonic, layout)
        if opcode in BY_OPCODE or mnemonic in BY_MNEMONIC or not 0 <= opcode < 1 << OPCODE_BITS:
            raise TypeError(f"{mnemonic}: opcode {opcode:#x} or mnemonic is taken or out of range")
        cls.mnemonic, cls.opcode, cls.queue, cls.layout = mnemonic, opcode, queue, layout
        made: type[InstrT] = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        BY_OPCODE[opcode] = BY_MNEMONIC[mnemonic] = made
        return made

    return register


def _bits(hint: Any) -> Bits:
    return next(arg for arg in get_args(hint) if isinstance(arg, Bits))


def _check_layout(mnemonic: str, layout: dict[str, Bits]) -> None:
    used = (1 << OPCODE_BITS) - 1
    for name, bits in layout.items():
        if not 0 <= bits.low <= bits.high < WORD_BITS:
            raise TypeError(f"{mnemonic}: field {name} lies outside the word")
        mask = ((1 << bits.width) - 1) << bits.low
        if used & mask:
            raise TypeError(f"{mnemonic}: field {name} overlaps another field")
        used |= mask


def table_digest() -> str:
    """SHA-256 over the whole table: opcodes, mnemonics, queues and fields. Stored in every program."""
    lines = []
    for opcode, cls in sorted(BY_OPCODE.items()):
        fields = [
            f"{n}:{b.high}:{b.low}:{int(b.signed)}:{b.kind}"
            + ("" if b.choices is None else ":" + ",".join(f"{c.name}={c.value}" for c in b.choices))
            for n, b in sorted(cls.layout.items())
        ]
        lines.append(f"{opcode} {cls.mnemonic} {cls.queue.name} {' '.join(fields)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def float_bits(value: float) -> int:
    """Bits of the nearest binary32, for a field of kind ``f32``."""
    return int(np.float32(value).view(np.uint32))


def bits_float(bits: int) -> np.float32:
    """The binary32 that a field of kind ``f32`` holds."""
    return np.uint32(bits).view(np.float32)
