"""Text form of the tile IR: constructor expressions, one operation after the other, that parse back.

    TileProgram(
        name='net', target='vc707', …
        operations=(
            ArrayLayer('conv1', View('x', 0, (1, 28, 28, 1), (784, 28, 1, 1)), …),

Fields at their defaults are left out. Bulk data (weights, streams, host models) are not part of the text; `parse`
takes them from the program that they came from.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from mmac.compiler.tile import ir
from mmac.isa import plan, program, table
from mmac.isa.errors import MalformedError
from mmac.isa.spec import BY_OPCODE

_WIDTH = 118
_SHORT = 32

_CLASSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        *(c for c in vars(ir).values() if isinstance(c, type) and dataclasses.is_dataclass(c)),
        *BY_OPCODE.values(),
        plan.Level,
        plan.LayerPlan,
        plan.Plan,
        program.Port,
        program.HostSegment,
    )
    if cls is not ir.Tensor and cls.__name__ != "Tensor"
} | {"Tensor": ir.Tensor}

_ENUMS: dict[str, type[IntEnum]] = {e.__name__: e for e in (table.Pad, table.TermFormat, table.Dim)}


def to_text(module: ir.TileProgram) -> str:
    """Print a tile program."""
    return _format(module, 0) + "\n"


def parse(text: str, bulk: ir.TileProgram) -> ir.TileProgram:
    """Read the text form back; bulk data come from `bulk`.

    Raises:
        MalformedError: not that form; names line and column.
    """
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise MalformedError(f"line {error.lineno}, column {error.offset}", error.msg, "tile IR text") from None
    module = _build(tree)
    if not isinstance(module, ir.TileProgram):
        raise MalformedError("line 1", f"a {type(module).__name__}", "a TileProgram")
    models = [segment.onnx for segment in bulk.host]
    if len(models) != len(module.host):
        raise MalformedError("host", f"{len(module.host)} segments", f"{len(models)}, as the bulk data have")
    host = tuple(dataclasses.replace(s, onnx=m) for s, m in zip(module.host, models, strict=True))
    return dataclasses.replace(module, host=host, data=bulk.data)


def _format(value: Any, indent: int) -> str:
    flat = _flat(value)
    if len(flat) + indent <= _WIDTH and not isinstance(value, ir.TileProgram | ir.Nest):
        return flat
    pad = " " * (indent + 4)
    if isinstance(value, tuple):
        opening, parts, closing = "(", _filled([_format(v, indent + 4) for v in value], indent + 4), ")"
    elif dataclasses.is_dataclass(value):
        opening, closing = f"{type(value).__name__}(", ")"
        parts = [f"{k}={_format(v, indent + 4)}" for k, v in _fields(value)]
    else:
        return flat
    return opening + "".join(f"\n{pad}{part}," for part in parts) + f"\n{' ' * indent}{closing}"


def _filled(items: list[str], indent: int) -> list[str]:
    """Short items share lines."""
    lines: list[str] = []
    for item in items:
        if (
            lines
            and len(item) < _SHORT > len(lines[-1].rpartition(", ")[2])
            and len(lines[-1] + item) < _WIDTH - indent
        ):
            lines[-1] += f", {item}"
        else:
            lines.append(item)
    return lines


def _flat(value: Any) -> str:
    if isinstance(value, IntEnum) and type(value).__name__ in _ENUMS:
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_flat, value)) + ("," if len(value) == 1 else "") + ")"
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}({', '.join(f'{k}={_flat(v)}' for k, v in _fields(value))})"
    return repr(dict(value) if hasattr(value, "items") else int(value) if isinstance(value, IntEnum) else value)


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        if field.name in ("data", "onnx") or content == field.default:
            continue
        yield field.name, content


def _build(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords) if name in _CLASSES:
            values = {k.arg: _build(k.value) for k in keywords if k.arg is not None}
            extra = {"onnx": b""} if name == "HostSegment" else {}
            try:
                return _CLASSES[name](**values, **extra)
            except (TypeError, ValueError) as error:
                raise _bad(node, str(error)) from None
        case ast.Attribute(value=ast.Name(id=name), attr=member) if name in _ENUMS:
            if member not in _ENUMS[name].__members__:
                raise _bad(node, f"no {name} is called {member}")
            return _ENUMS[name][member]
        case ast.Tuple(elts=elements):
            return tuple(_build(e) for e in elements)
        case ast.Dict(keys=keys, values=values):
            return {_build(k): _build(v) for k, v in zip(keys, values, strict=True) if k is not None}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Constant(value=value):
            return value
    raise _bad(node, f"unexpected {ast.unparse(node)[:40]!r}")


def _bad(node: ast.expr, found: str) -> MalformedError:
    return MalformedError(f"line {node.lineno}, column {node.col_offset + 1}", found, "tile IR text")
