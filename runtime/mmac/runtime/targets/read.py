"""The text of a target, read strictly: nothing missing, nothing unknown, every number in range, all on the part."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints

from mmac.isa.errors import MalformedError, ResourceError
from mmac.isa.table import Pad
from mmac.runtime.targets.design import (
    CONSTANT_SETS,
    MAX_CELLS,
    Array,
    Buffer,
    Cell,
    Clock,
    Component,
    Constants,
    Dram,
    Lanes,
    Multipliers,
    Part,
    Resources,
    Target,
)
from mmac.runtime.targets.packaged import packaged_text, target_names

T = TypeVar("T")


def parse_target(text: str, where: str) -> Target:
    """Build a target from TOML text.

    Args:
        text: the target; with `base`, what differs from a packaged target.
        where: names it in errors.

    Raises as `load_target`.
    """
    document = _document(text, where)
    parts = ("part", "clock", "array", "dram", "buffer", "lanes", "scratchpads", "cells", "resources", "constants")
    _check_keys(document, where, ("name", *parts), ("multipliers",))
    if not isinstance(document["name"], str):
        raise MalformedError(f"{where}: name", f"{document['name']!r}", "a string")
    sections = {key: _table(value, f"{where}: [{key}]") for key, value in document.items() if key != "name"}
    cells = {k: _cell(k, v, f"{where}: [cells.{k}]") for k, v in sections["cells"].items()}
    pads = sections["scratchpads"]
    _check_keys(pads, f"{where}: [scratchpads]", tuple(pad.name.lower() for pad in Pad))
    target = Target(
        name=document["name"],
        part=_read(Part, sections["part"], f"{where}: [part]"),
        clock=_read(Clock, sections["clock"], f"{where}: [clock]"),
        array=_read(Array, sections["array"], f"{where}: [array]"),
        multipliers=(
            _read(Multipliers, sections["multipliers"], f"{where}: [multipliers]")
            if "multipliers" in sections
            else None
        ),
        dram=_read(Dram, sections["dram"], f"{where}: [dram]"),
        buffer=_read(Buffer, sections["buffer"], f"{where}: [buffer]"),
        lanes=_read(Lanes, sections["lanes"], f"{where}: [lanes]"),
        scratchpads={
            k: _checked(v, int, (1, 2**24 - 1), f"{where}: [scratchpads] {k}")
            for k, v in sections["scratchpads"].items()
        },
        cells=cells,
        components={k: _component(v, f"{where}: [resources.{k}]") for k, v in sections["resources"].items()},
        constants=_constant_sets(sections["constants"], cells, f"{where}: [constants"),
    )
    _check_design(target, where)
    return target


def _document(text: str, where: str) -> dict[str, Any]:
    """A target's tables, and those of its base where it has none."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MalformedError(where, f"not TOML: {error}", "a target as in docs/targets.md") from None
    base = document.pop("base", None)
    if base is None:
        return document
    _checked(base, str, None, f"{where}: base")
    if base not in target_names():
        raise MalformedError(f"{where}: base", f"{base!r}", ", ".join(target_names()) + " (a packaged target)")
    inherited = _document(packaged_text(base), base)
    del inherited["name"]  # programs say by name what they are for
    return _merged(inherited, document)


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `own` says in its place, table by table."""
    merged = dict(base)
    for key, value in own.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _check_design(target: Target, where: str) -> None:
    if target.array.cell not in target.cells:
        raise MalformedError(f"{where}: [array] cell", f"{target.array.cell!r}", ", ".join(target.cells))
    if target.cell_count > MAX_CELLS:
        raise MalformedError(f"{where}: [array]", f"{target.cell_count} cells", f"at most {MAX_CELLS}")
    for name, component in target.components.items():
        if component.per not in target.counts:
            raise MalformedError(f"{where}: [resources.{name}] per", f"{component.per!r}", ", ".join(target.counts))
    for name, (needed, available) in target.overflow().items():
        raise ResourceError(
            f"{where}: {name}",
            f"the design needs {needed}",
            f"{target.part.name} has {available}",
            "use fewer blocks, units or lanes, smaller memories, or another part",
        )


def _table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedError(where, f"{value!r}", "a table")
    return value


def _check_keys(table: Mapping[str, Any], where: str, wanted: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    known = (*wanted, *optional)
    if unknown := [key for key in table if key not in known]:
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"did you mean {near[0]!r}?" if near else ""
        raise MalformedError(where, f"unknown key {unknown[0]!r}", "keys " + ", ".join(known), hint)
    if missing := [key for key in wanted if key not in table]:
        raise MalformedError(where, f"{missing[0]!r} is missing", "keys " + ", ".join(known))


def _checked(value: Any, kind: Any, bounds: tuple[float, float] | None, where: str) -> Any:
    """`value` if it is a `kind` within `bounds`; integers pass as floats, booleans never pass as numbers."""
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise MalformedError(where, f"{value!r}", f"a value of type {kind.__name__}")
    if bounds and not (math.isfinite(value) and bounds[0] <= value <= bounds[1]):
        raise MalformedError(where, f"{value!r}", f"{bounds[0]:g}…{bounds[1]:g}")
    return value


def _read(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """Fill dataclass `cls` from a table: every field present, nothing else, numbers within the field's range."""
    specs = fields(cls)  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    _check_keys(table, where, tuple(f.name for f in specs))
    values = {
        f.name: _checked(table[f.name], hints[f.name], f.metadata.get("range"), f"{where} {f.name}") for f in specs
    }
    for spec in specs:
        choices = spec.metadata.get("choices")
        if choices and values[spec.name] not in choices:
            raise MalformedError(f"{where} {spec.name}", f"{values[spec.name]!r}", ", ".join(choices))
    return cls(**values)


def _cell(name: str, value: object, where: str) -> Cell:
    table = dict(_table(value, where))
    _check_keys(table, where, ("cycles_per_group", "lut", "ff", "dsp"))
    cycles = table.pop("cycles_per_group")
    if cycles != "gamma":
        _checked(cycles, int, (1, 100_000), f"{where} cycles_per_group")
    return Cell(name, None if cycles == "gamma" else cycles, _read(Resources, table | {"bram36": 0}, where))


def _component(value: object, where: str) -> Component:
    table = dict(_table(value, where))
    _check_keys(table, where, ("per", "lut", "ff", "bram36", "dsp"))
    per = _checked(table.pop("per"), str, None, f"{where} per")
    return Component(per, _read(Resources, table, where))


def _constant_sets(table: Mapping[str, Any], cells: Mapping[str, Cell], where: str) -> dict[str, Constants]:
    _check_keys(table, f"{where}]", CONSTANT_SETS)
    first, *others = CONSTANT_SETS
    base = _table(table[first], f"{where}.{first}]")
    sets = {first: _constants(base, cells, f"{where}.{first}]")}
    for name in others:
        sets[name] = _constants(_overridden(base, table[name], f"{where}.{name}]"), cells, f"{where}.{name}]")
    return sets


def _overridden(base: Mapping[str, Any], value: object, where: str) -> dict[str, Any]:
    """A set of constants with what another one says in its place; energies per cell one by one."""
    table = dict(_table(value, where))
    for key in _PER_CELL:
        table[key] = {**base[key], **_table(table.get(key, {}), f"{where} {key}")}
    return {**base, **table}


def _constants(table: Mapping[str, Any], cells: Mapping[str, Cell], where: str) -> Constants:
    specs = [f for f in fields(Constants) if f.metadata]
    _check_keys(table, where, (*(f.name for f in specs), *_PER_CELL))
    values: dict[str, Any] = {
        f.name: _checked(table[f.name], float, f.metadata["range"], f"{where} {f.name}") for f in specs
    }
    for key in _PER_CELL:
        energies = _table(table[key], f"{where} {key}")
        _check_keys(energies, f"{where} {key}", tuple(cells))
        values[key] = {k: _checked(v, float, (0, 1e6), f"{where} {key} {k}") for k, v in energies.items()}
    return Constants(**values)


_PER_CELL = ("arithmetic_pj_per_cycle", "movement_pj_per_cycle")
