"""Dataclasses as JSON values and back, strictly: what comes back has exactly the declared fields and types.

A field is a number, a string, a `Level` (as ``"8x2"``), a dataclass, or an optional, tuple or dict of these.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import operator
import types
import typing
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from mmac.isa.errors import MalformedError, UsageError
from mmac.isa.plan import Level, parse_level

T = TypeVar("T")

_INT_LIMIT = 1 << 63
_EXACT_FLOAT = 1 << 53
_SCALARS: dict[type, Callable[[Any], Any]] = {int: operator.index, float: float, str: str}


def dumps(value: Any) -> str:
    """Canonical JSON text: the same value gives the same characters."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def loads(text: str, where: str) -> Any:
    """Parse JSON text.

    Raises:
        MalformedError: not JSON, nested too deep, or with NaN, infinities or numbers above binary64.
    """
    try:
        return json.loads(text, parse_constant=no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise MalformedError(where, f"not JSON ({error})") from None


def no_constant(name: str) -> None:
    """`parse_constant` of a JSON decoder that refuses NaN and infinities."""
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is above binary64")
    return number


def to_json(record: Any, skip: typing.Collection[str] = ()) -> dict[str, Any]:
    """Fields of a dataclass, except those in `skip`, as a JSON object; numpy numbers become plain ones."""
    fields = _fields(typing.cast(Any, type(record)))
    return {name: _plain(kind, getattr(record, name)) for name, kind in fields if name not in skip}


def _plain(kind: Any, value: Any) -> Any:
    args = typing.get_args(kind)
    if kind is Level:
        return str(value)
    if dataclasses.is_dataclass(kind):
        return to_json(value)
    if _is_optional(kind):
        return None if value is None else _plain(args[0], value)
    if typing.get_origin(kind) is tuple:
        return [_plain(k, v) for k, v in zip(_item_kinds(args, len(value)), value, strict=True)]
    if typing.get_origin(kind) is dict:
        return {str(key): _plain(args[1], item) for key, item in value.items()}
    return _SCALARS[kind](value)


def from_json(cls: type[T], value: Any, where: str, **given: Any) -> T:
    """Build a dataclass from a JSON object; the fields in `given` are not part of the object.

    Raises:
        MalformedError: a field is missing, unknown or ill-typed.
    """
    if not isinstance(value, dict):
        raise _bad(where, value, "an object")
    kinds = {name: kind for name, kind in _fields(typing.cast(Any, cls)) if name not in given}
    for name in kinds:
        if name not in value:
            raise MalformedError(where, f"field {name!r} is missing")
    for name in value:
        if name not in kinds:
            raise MalformedError(where, f"unknown field {name!r}", ", ".join(kinds))
    return cls(**given, **{name: _typed(kind, value[name], f"{where}.{name}") for name, kind in kinds.items()})


def _typed(kind: Any, value: Any, where: str) -> Any:
    args = typing.get_args(kind)
    if kind is Level:
        return level_from_json(value, where)
    if dataclasses.is_dataclass(kind):
        return from_json(typing.cast("type[Any]", kind), value, where)
    if _is_optional(kind):
        return None if value is None else _typed(args[0], value, where)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list) or len(_item_kinds(args, len(value))) != len(value):
            raise _bad(where, value, f"a list{'' if args[-1] is ... else f' of {len(args)} items'}")
        items = zip(_item_kinds(args, len(value)), value, strict=True)
        return tuple(_typed(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(items))
    if typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise _bad(where, value, "an object")
        return {key: _typed(args[1], item, f"{where}.{key}") for key, item in value.items()}
    return _scalar(kind, value, where)


def _scalar(kind: type[Any], value: Any, where: str) -> Any:
    if kind is float and type(value) is int and abs(value) <= _EXACT_FLOAT:
        return float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise _bad(where, value, {int: "an integer", float: "a number", str: "a string"}[kind])
    if kind is str and not _is_unicode(value):
        raise _bad(where, value, "text without lone surrogates")
    if kind is int and not -_INT_LIMIT <= value < _INT_LIMIT:
        raise MalformedError(where, "an integer of more than 64 bits", "64 bits")
    return value


def level_from_json(value: Any, where: str) -> Level:
    """A level from its text.

    Raises:
        MalformedError: not a level.
    """
    try:
        return parse_level(_scalar(str, value, where))
    except UsageError as error:
        raise _bad(where, value, error.allowed) from None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@functools.cache
def _fields(cls: Hashable) -> tuple[tuple[str, Any], ...]:
    hints = typing.get_type_hints(cls)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(typing.cast(Any, cls)))


def _is_optional(kind: Any) -> bool:
    return typing.get_origin(kind) in (types.UnionType, typing.Union)


def _item_kinds(args: tuple[Any, ...], length: int) -> tuple[Any, ...]:
    return args[:1] * length if args[-1] is ... else args


def _bad(where: str, value: Any, allowed: str) -> MalformedError:
    text = repr(value)
    return MalformedError(where, text if len(text) <= 60 else text[:57] + "…", allowed)
