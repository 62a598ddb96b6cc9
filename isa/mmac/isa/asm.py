"""Assembly text: programs and their code as text that people can read and edit, and back.

`assemble` and `disassemble` invert each other. One instruction a line, ``mnemonic operand=value …``; an instruction
of one operand is written ``loop 4``. Comments run from ``;`` to the end of the line. Lines that start with a dot hold
the rest of the program: a directive and one JSON value.

    .program, .image, .host     the program; the bulk data follow in .data lines (base64 of a zlib stream)
    .level, .layer              the plan
    .prediction                 what a level costs, and how good it is; as many as levels, or none
    .tensor, .input, .output    names
    .debug                      one entry of the debug map; also shown as a comment at its first instruction
"""

from __future__ import annotations

import base64
import difflib
import json
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

import mmac.isa.table as table
from mmac.isa import records
from mmac.isa.errors import MalformedError
from mmac.isa.operands import operands
from mmac.isa.plan import LayerPlan, Level, Plan
from mmac.isa.program import DebugEntry, HostSegment, Port, Prediction, Program, TensorInfo
from mmac.isa.spec import BY_MNEMONIC, Instr

_INDENT = "  "
_DATA_COLUMNS = 96
_ELSEWHERE = ("plan", "code", "image", "tensors", "inputs", "outputs", "host", "debug", "predictions")
"""Fields of `Program` that have directives of their own."""

_RECORDS: dict[str, type[Any]] = {
    "layer": LayerPlan,
    "prediction": Prediction,
    "tensor": TensorInfo,
    "input": Port,
    "output": Port,
    "debug": DebugEntry,
}
_DIRECTIVES = ("program", "level", *_RECORDS, "host", "image", "data")

T = TypeVar("T")


# ------------------------------------------------------------------------------------------------------------ writing


def disassemble(program: Program, *, data: bool = True) -> str:
    """A program as text; without `data` the image and the host segments are left out, for reading only."""
    lines = [_directive("program", records.to_json(program, skip=_ELSEWHERE))]
    lines += [_directive("level", str(level)) for level in program.plan.levels]
    named = {
        "layer": program.plan.layers,
        "prediction": program.predictions,
        "tensor": program.tensors,
        "input": program.inputs,
        "output": program.outputs,
        "debug": program.debug,
    }
    lines += [_directive(name, records.to_json(record)) for name, group in named.items() for record in group]
    lines += ["", disassemble_code(program.code, program.debug)]
    for part in program.host:
        about = records.to_json(part, skip=("onnx",)) | {"bytes": len(part.onnx)}
        lines += [_directive("host", about), *_data_lines(part.onnx, data)]
    lines += [_directive("image", {"bytes": program.image.size}), *_data_lines(program.image.tobytes(), data)]
    return "\n".join(lines) + "\n"


def disassemble_code(code: Sequence[Instr], debug: Sequence[DebugEntry] = ()) -> str:
    """Code as text, loops indented, with a comment where the instructions of an ONNX node begin."""
    comments: dict[int, list[str]] = {}
    for entry in debug:
        comments.setdefault(entry.start, []).append(_comment(entry))
    lines: list[str] = []
    depth = 0
    for pc, instr in enumerate(code):
        lines += comments.get(pc, [])
        depth -= isinstance(instr, table.End) and depth > 0
        lines.append(_INDENT * depth + format_instr(instr))
        depth += isinstance(instr, table.Loop)
    return "\n".join(lines) + "\n"


def format_instr(instr: Instr) -> str:
    """One instruction as text; operands that have their default value are left out."""
    shown = [(operand.name, operand.format(instr)) for operand in operands(instr.mnemonic)]
    if len(shown) == 1:
        return f"{instr.mnemonic} {shown[0][1]}"
    return " ".join([instr.mnemonic, *(f"{name}={text}" for name, text in shown if text is not None)])


def _comment(entry: DebugEntry) -> str:
    macs = f", {entry.macs} MACs" if entry.macs else ""
    return f"; {entry.start}…{entry.stop - 1}: {json.dumps(entry.op)[1:-1]} {json.dumps(entry.node)}{macs}"


def _directive(name: str, value: Any) -> str:
    return f".{name} {json.dumps(value, allow_nan=False)}"


def _data_lines(data: bytes, shown: bool) -> Iterator[str]:
    if not shown:
        yield f"; {len(data)} bytes left out"
        return
    text = base64.b64encode(zlib.compress(data)).decode()
    for start in range(0, len(text), _DATA_COLUMNS):
        yield f".data {text[start : start + _DATA_COLUMNS]}"


# ------------------------------------------------------------------------------------------------------------ reading


def assemble(text: str, name: str = "program.s") -> Program:
    """Read a whole program; `name` is the file's name in errors.

    Raises:
        MalformedError: with line and column, what was found there and what is allowed.
    """
    parser = _Parser(name)
    for number, line in enumerate(text.split("\n"), 1):
        parser.line(_Line(f"{name}:{number}", line.rstrip("\r")))
    return parser.program()


def assemble_code(text: str, name: str = "code.s") -> tuple[Instr, ...]:
    """Read code without directives.

    Raises:
        MalformedError: with line and column, what was found there and what is allowed.
    """
    lines = (_Line(f"{name}:{number}", line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1))
    return tuple(instr for line in lines if (instr := _instruction(line)) is not None)


@dataclass(frozen=True)
class _Line:
    where: str
    text: str

    def bad(self, column: int, found: str, allowed: str) -> MalformedError:
        return MalformedError(f"{self.where}:{column + 1}", found, allowed)


def _instruction(line: _Line) -> Instr | None:
    words = list(re.finditer(r"\S+", line.text.partition(";")[0]))
    if not words:
        return None
    cls = BY_MNEMONIC.get(words[0][0])
    if cls is None:
        close = difflib.get_close_matches(words[0][0], BY_MNEMONIC) or sorted(BY_MNEMONIC)
        raise line.bad(words[0].start(), f"no instruction {words[0][0]!r}", ", ".join(close))
    known = {operand.name: operand for operand in operands(cls.mnemonic)}
    only = next(iter(known)) if len(known) == 1 else ""
    values: dict[str, int] = {}
    for word in words[1:]:
        name, equals, value = word[0].rpartition("=")
        name = name if equals else only
        if name not in known:
            raise line.bad(word.start(), f"operand {word[0]!r} of {cls.mnemonic}", _form(list(known), only))
        operand = known.pop(name)
        try:
            values |= operand.parse(value)
        except ValueError as error:
            raise line.bad(word.end() - len(value), f"{name} = {value!r}", str(error)) from None
    if missing := [operand.name for operand in known.values() if not operand.defaults]:
        raise line.bad(words[-1].end(), f"{cls.mnemonic} without {', '.join(missing)}", "all operands without default")
    return cls(**values)


def _form(names: Collection[str], only: str) -> str:
    if not names:
        return "no more operands"
    return f"one value ({only})" if only else "each once: " + " ".join(f"{name}=…" for name in names)


@dataclass
class _Blob:
    """Bulk data of a directive, as it comes in."""

    line: _Line
    size: int
    parts: list[str] = field(default_factory=list)

    def content(self) -> bytes:
        try:
            packed = base64.b64decode("".join(self.parts), validate=True)
            unpack = zlib.decompressobj()
            data = unpack.decompress(packed, self.size + 1)
        except (ValueError, zlib.error) as error:
            raise self.line.bad(0, f"data that cannot be unpacked ({error})", "base64 of a zlib stream") from None
        if len(data) != self.size or not unpack.eof or unpack.unused_data:
            raise self.line.bad(0, f"{len(data)} bytes of data", f"{self.size} bytes, in .data lines that follow")
        return data


class _Parser:
    """Collects a program line by line."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.code: list[Instr] = []
        self.about: tuple[_Line, Any] | None = None
        self.levels: list[Level] = []
        self.records: dict[str, list[Any]] = {name: [] for name in _RECORDS}
        self.host: list[tuple[_Line, Any, _Blob]] = []
        self.image: _Blob | None = None
        self.blob: _Blob | None = None

    def line(self, line: _Line) -> None:
        """Take in one line."""
        if match := re.match(r"\s*\.(\w*)\s*", line.text):
            self._directive(line, match[1], match.end())
        elif (instr := _instruction(line)) is not None:
            self.code.append(instr)

    def program(self) -> Program:
        """What has been read."""
        if self.about is None or self.image is None:
            missing = ".program" if self.about is None else ".image"
            raise MalformedError(self.name, f"no {missing} directive", "one .program and one .image")
        line, about = self.about
        return records.from_json(
            Program,
            about,
            line.where,
            plan=Plan(tuple(self.levels), tuple(self.records["layer"])),
            code=tuple(self.code),
            image=np.frombuffer(self.image.content(), np.uint8),
            tensors=tuple(self.records["tensor"]),
            inputs=tuple(self.records["input"]),
            outputs=tuple(self.records["output"]),
            host=tuple(
                records.from_json(HostSegment, part, at.where, onnx=blob.content()) for at, part, blob in self.host
            ),
            debug=tuple(self.records["debug"]),
            predictions=tuple(self.records["prediction"]),
        )

    def _directive(self, line: _Line, name: str, start: int) -> None:
        if name == "data":
            self._data(line, start)
            return
        value = _json(line, start)
        if name in _RECORDS:
            self.records[name].append(records.from_json(_RECORDS[name], value, line.where))
        elif name == "level":
            self.levels.append(records.level_from_json(value, line.where))
        elif name == "program" and self.about is None:
            self.about = line, value
        elif name == "image" and self.image is None:
            self.image = self.blob = self._sized(line, value, start)
        elif name == "host":
            self.blob = self._sized(line, value, start)
            self.host.append((line, value, self.blob))
        else:
            again = name in _DIRECTIVES
            allowed = "once only" if again else ", ".join(f".{directive}" for directive in _DIRECTIVES)
            raise line.bad(0, f"{'another' if again else 'no'} directive .{name}", allowed)

    def _sized(self, line: _Line, value: Any, start: int) -> _Blob:
        size = value.pop("bytes", None) if isinstance(value, dict) else None
        if type(size) is not int or not 0 <= size < 1 << 40:
            raise line.bad(start, "no size", '{"bytes": number}')
        return _Blob(line, size)

    def _data(self, line: _Line, start: int) -> None:
        if self.blob is None:
            raise line.bad(0, "data of nothing", "after .image or .host")
        self.blob.parts.append(line.text[start:].partition(";")[0].strip())


def _json(line: _Line, start: int) -> Any:
    """The JSON value from column `start` on; a comment may follow it."""
    try:
        value, stop = _DECODER.raw_decode(line.text, start)
    except json.JSONDecodeError as error:
        raise line.bad(error.pos, error.msg, "a JSON value on the same line") from None
    except (ValueError, RecursionError) as error:
        raise line.bad(start, str(error), "a JSON value") from None
    rest = line.text[stop:].strip()
    if rest and not rest.startswith(";"):
        raise line.bad(stop, f"{rest[:40]!r} after the value", "a comment or nothing")
    return value


_DECODER = json.JSONDecoder(parse_constant=records.no_constant)
