"""Operands of instructions as text: ``t3``, ``p0``, ``d1``, ``act``, ``0.25``, ``wait=3,4``."""

from __future__ import annotations

import dataclasses
import functools
import struct
from dataclasses import dataclass

from mmac.isa.spec import BY_MNEMONIC, LEVEL_LOOP, NONE_LOOP, NONE_TOKEN, Bits, Instr, bits_float

_PREFIX = {"tensor": "t", "pointer": "p", "loop": "d"}
_WORDS = {"loop": {"none": NONE_LOOP, "level": LEVEL_LOOP}, "token": {"none": NONE_TOKEN}}


@dataclass(frozen=True)
class Operand:
    """One ``name=value`` of an instruction: a field, or the fields wait0 and wait1 as the list ``wait``."""

    name: str
    fields: tuple[str, ...]
    bits: Bits
    defaults: tuple[int, ...]
    """Of its fields; empty if the operand has to be given."""

    def format(self, instr: Instr) -> str | None:
        """The value in `instr`, None if it is the default."""
        values = tuple(getattr(instr, field) for field in self.fields)
        if values == self.defaults:
            return None
        while len(values) > 1 and self.defaults and values[-1] == self.defaults[-1]:
            values = values[:-1]
        return ",".join(format_value(self.bits, value) for value in values)

    def parse(self, text: str) -> dict[str, int]:
        """Values of the fields.

        Raises:
            ValueError: not a value of this operand; the message says what is.
        """
        parts = text.split(",")
        if len(parts) > len(self.fields):
            raise ValueError(f"at most {len(self.fields)} values")
        return {field: parse_value(self.bits, part) for field, part in zip(self.fields, parts, strict=False)}


@functools.cache
def operands(mnemonic: str) -> tuple[Operand, ...]:
    """Operands of an instruction in the order in which they are written: its own fields, then wait and signal."""
    cls = BY_MNEMONIC[mnemonic]
    defaults = {
        field.name: field.default for field in dataclasses.fields(cls) if field.default is not dataclasses.MISSING
    }
    groups: dict[str, list[str]] = {}
    for name, bits in sorted(cls.layout.items(), key=lambda item: item[1].kind == "token"):
        groups.setdefault(name.rstrip("0123456789") if bits.kind == "token" else name, []).append(name)
    return tuple(
        Operand(name, tuple(fields), cls.layout[fields[0]], tuple(defaults[f] for f in fields if f in defaults))
        for name, fields in groups.items()
    )


def format_value(bits: Bits, value: int) -> str:
    """A field's value as text, so that `parse_value` gives it back."""
    if bits.kind == "f32":
        return _format_f32(value)
    for word, number in _words(bits).items():
        if value == number:
            return word
    if bits.kind == "levels":
        return f"{value:#x}"
    return f"{_PREFIX.get(bits.kind, '')}{int(value)}"


def parse_value(bits: Bits, text: str) -> int:
    """A field's value from text; numbers may be hexadecimal.

    Raises:
        ValueError: not a value of this field; the message says what is.
    """
    words = _words(bits)
    if text in words:
        return words[text]
    prefix = _PREFIX.get(bits.kind, "")
    try:
        value = _parse_f32(text) if bits.kind == "f32" else int(text.removeprefix(prefix), 0)
    except (ValueError, OverflowError):
        value = bits.maximum + 1
    if bits.minimum <= value <= bits.maximum and text.startswith(prefix) and bits.choices is None:
        return value
    raise ValueError(allowed(bits))


def allowed(bits: Bits) -> str:
    """What can be written for a field, in words."""
    if bits.kind == "f32":
        return "a binary32 number, or 0x and its bits"
    words = _words(bits)
    if bits.choices is not None:
        return ", ".join(words)
    prefix, last = _PREFIX.get(bits.kind, ""), min([bits.maximum + 1, *words.values()]) - 1
    return ", ".join([f"{prefix}{bits.minimum}…{prefix}{last}", *words])


def _words(bits: Bits) -> dict[str, int]:
    """Values that have a name."""
    return _WORDS.get(bits.kind, {}) | {choice.name.lower(): choice.value for choice in bits.choices or ()}


def _format_f32(value: int) -> str:
    text = str(bits_float(value))
    return text if _parse_f32(text) == value else f"{value:#010x}"


def _parse_f32(text: str) -> int:
    if text.startswith("0x"):
        return int(text, 16)
    (bits,) = struct.unpack("<I", struct.pack("<f", float(text)))
    return int(bits)
