"""Instructions to 128-bit little-endian words and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

import mmac.isa.table  # noqa: F401  (declares the instructions)
from mmac.isa.errors import MalformedError
from mmac.isa.spec import BY_OPCODE, OPCODE_BITS, WORD_BYTES, Bits, Instr

_OPCODE_MASK = (1 << OPCODE_BITS) - 1


def encode(code: Sequence[Instr]) -> npt.NDArray[np.uint8]:
    """Code as words: uint8 [n, 16]."""
    data = b"".join(encode_word(instr).to_bytes(WORD_BYTES, "little") for instr in code)
    return np.frombuffer(data, np.uint8).reshape(-1, WORD_BYTES)


def encode_word(instr: Instr) -> int:
    """One instruction as an unsigned 128-bit number."""
    word = instr.opcode
    for name, bits in instr.layout.items():
        word |= (int(getattr(instr, name)) & _mask(bits)) << bits.low
    return word


def decode(words: npt.NDArray[np.uint8]) -> tuple[Instr, ...]:
    """Code from words, uint8 [n, 16].

    Raises:
        MalformedError: a word that encodes no instruction.
    """
    data = np.ascontiguousarray(words).tobytes()
    if words.dtype != np.uint8 or len(data) % WORD_BYTES:
        raise MalformedError("code", f"{len(data)} bytes of {words.dtype}", f"words of {WORD_BYTES} bytes")
    return tuple(
        decode_word(int.from_bytes(data[start : start + WORD_BYTES], "little"), f"instruction {start // WORD_BYTES}")
        for start in range(0, len(data), WORD_BYTES)
    )


def decode_word(word: int, where: str = "instruction") -> Instr:
    """One instruction from an unsigned 128-bit number; `where` names it in errors.

    Raises:
        MalformedError: unknown opcode, a reserved bit that is set, a value that is not in a field's enumeration.
    """
    cls = BY_OPCODE.get(word & _OPCODE_MASK)
    if cls is None:
        known = ", ".join(f"{opcode:#04x}" for opcode in sorted(BY_OPCODE))
        raise MalformedError(where, f"opcode {word & _OPCODE_MASK:#04x}", known)
    values = {name: _field(word, bits, f"{where} ({cls.mnemonic})", name) for name, bits in cls.layout.items()}
    instr = cls(**values)
    if stray := word ^ encode_word(instr):
        raise MalformedError(
            f"{where} ({cls.mnemonic})", f"reserved bit {stray.bit_length() - 1} is set", "0 in reserved bits"
        )
    return instr


def _field(word: int, bits: Bits, where: str, name: str) -> int:
    value = word >> bits.low & _mask(bits)
    if bits.signed and value > bits.maximum:
        value -= 1 << bits.width
    if bits.choices is None:
        return value
    try:
        return bits.choices(value)
    except ValueError:
        allowed = ", ".join(f"{choice.value} ({choice.name.lower()})" for choice in bits.choices)
        raise MalformedError(where, f"{name} = {value}", allowed) from None


def _mask(bits: Bits) -> int:
    return (1 << bits.width) - 1
