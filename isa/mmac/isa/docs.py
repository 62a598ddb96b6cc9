"""The reference page of the instruction set, from its declaration: ``python -m mmac.isa.docs > docs/isa.md``."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import textwrap
from collections.abc import Iterable, Iterator
from enum import IntEnum
from types import ModuleType

from mmac.isa import asm, container, streams, table
from mmac.isa.operands import allowed, format_value
from mmac.isa.spec import BY_OPCODE, OPCODE_BITS, WORD_BITS, Bits, Instr, Queue

_INTRO = """\
# Instruction set

This page is generated from `isa/mmac/isa/table.py` by `python -m mmac.isa.docs`; edit that file instead.

An instruction is one little-endian word of 128 bits. Bits 7…0 hold the opcode; reserved bits are 0."""

_KINDS = {
    "int": "a number; two's complement if its range says so",
    "tensor": "tensor register",
    "pointer": "pointer register",
    "loop": "nesting depth of a loop, `level` for the level register, or `none`",
    "token": "semaphore, or `none`",
    "levels": "levels of the program, a bit each, the lowest level's first",
    "f32": "bits of a binary32",
}


def page() -> str:
    """The whole page as Markdown."""
    sections = [
        _INTRO,
        _prose(table).partition("\n\n")[2],
        "## Fields\n\n" + _table(("kind", "meaning"), _KINDS.items()),
        *(_enumeration(kind) for kind in _enumerations()),
        "## Index\n\n" + _table(("opcode", "instruction", "queue"), _index()),
    ]
    for queue in Queue:
        sections.append(f"## {queue.name.capitalize()} {'instructions' if queue == 0 else 'queue'}")
        sections += [_instruction(cls) for _, cls in sorted(BY_OPCODE.items()) if cls.queue == queue]
    sections += [f"## {title}\n\n{_prose(module)}" for title, module in _FORMATS.items()]
    return "\n\n".join(sections) + "\n"


_FORMATS = {"Term streams": streams, "Assembly text": asm, "Program files": container}


def _prose(module: ModuleType) -> str:
    """A module's docstring as Markdown: an indented block becomes the text of the line above it, or code."""
    return "\n\n".join(_block(block) for block in (inspect.getdoc(module) or "").split("\n\n"))


def _block(block: str) -> str:
    head, _, rest = block.partition("\n")
    if head.startswith("    "):
        return f"```\n{textwrap.dedent(block)}\n```"
    if not rest.startswith("    "):
        return block
    return f"**{head.strip('`')}**\n\n{textwrap.dedent(rest)}"


def _enumerations() -> list[type[IntEnum]]:
    found = {bits.choices: None for _, cls in sorted(BY_OPCODE.items()) for bits in cls.layout.values() if bits.choices}
    return [kind for kind in found if kind is not None]


def _enumeration(kind: type[IntEnum]) -> str:
    rows = [(str(choice.value), f"`{choice.name.lower()}`") for choice in kind]
    return f"### {kind.__name__}\n\n{inspect.getdoc(kind)}\n\n" + _table(("value", "name"), rows)


def _index() -> Iterator[tuple[str, str, str]]:
    for opcode, cls in sorted(BY_OPCODE.items()):
        anchor = cls.mnemonic.replace(".", "")
        yield f"`{opcode:#04x}`", f"[`{cls.mnemonic}`](#{anchor})", cls.queue.name.lower()


def _instruction(cls: type[Instr]) -> str:
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    rows = []
    top = WORD_BITS
    for name, bits in sorted(cls.layout.items(), key=lambda item: -item[1].low):
        if top > bits.high + 1:
            rows.append((_span(top - 1, bits.high + 1), "reserved", "", "0", ""))
        default = defaults[name]
        shown = "" if default is dataclasses.MISSING else f"`{format_value(bits, default)}`"
        rows.append((_span(bits.high, bits.low), f"`{name}`", _kind(bits), allowed(bits), shown))
        top = bits.low
    if top > OPCODE_BITS:
        rows.append((_span(top - 1, OPCODE_BITS), "reserved", "", "0", ""))
    rows.append((_span(OPCODE_BITS - 1, 0), "opcode", "", f"{cls.opcode:#04x}", ""))
    layout = _table(("bits", "field", "kind", "values", "default"), rows)
    return f"### {cls.mnemonic}\n\n{inspect.cleandoc(cls.__doc__ or '')}\n\n{layout}"


def _kind(bits: Bits) -> str:
    return bits.kind if bits.choices is None else bits.choices.__name__


def _span(high: int, low: int) -> str:
    return str(high) if high == low else f"{high}…{low}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(page())
