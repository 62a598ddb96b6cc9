"""Hardware targets: what array, memories and energies a program is timed against.

A target is a TOML file in which every number has its source in a comment (`targets/vc707.toml`). Loading is strict:
unknown or missing keys, numbers of the wrong type or range, and designs that exceed their part are refused.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from mmac.isa.errors import MalformedError, ResourceError, UsageError
from mmac.isa.files import read_text
from mmac.isa.program import Program
from mmac.isa.spec import Queue
from mmac.isa.table import Pad

BRAM36_BYTES = 4096
"""Data bytes of one block RAM (36 Kbit with the parity bits that byte-wide memories leave unused)."""

MAX_CELLS = 1 << 20
"""Largest array; it keeps every count of the timing model inside 64 bits."""

CONSTANT_SETS = ("first_principles", "paper")
"""Sets of energy constants that every target gives; the first is the default."""

T = TypeVar("T")

_PACKAGED = files(__name__)


def _number(low: float, high: float) -> Any:
    """A dataclass field that the loader holds to ``low…high``."""
    return field(metadata={"range": (low, high)})


@dataclass(frozen=True)
class Resources:
    """Amounts of what an FPGA has: 6-input LUTs, flip-flops, 36-Kbit block RAMs, DSP slices."""

    lut: int = _number(0, 1e8)
    ff: int = _number(0, 1e8)
    bram36: int = _number(0, 1e6)
    dsp: int = _number(0, 1e6)

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.lut + other.lut, self.ff + other.ff, self.bram36 + other.bram36, self.dsp + other.dsp)

    def __mul__(self, count: int) -> Resources:
        return Resources(self.lut * count, self.ff * count, self.bram36 * count, self.dsp * count)


@dataclass(frozen=True)
class Part(Resources):
    """The device and all that it has."""

    name: str = ""


@dataclass(frozen=True)
class Clock:
    """One clock for everything."""

    mhz: float = _number(1, 10_000)


@dataclass(frozen=True)
class Array:
    """`blocks` systolic blocks of `rows` (groups of the reduction axis) × `columns` (output channels) cells.

    `cell` names the kind that the array is built of; `encoders` is how many data terms each block finds per
    cycle; `pipeline_cycles` is the latency from the scratchpad to the accumulators outside the cells.
    """

    blocks: int = _number(1, 4095)
    rows: int = _number(1, 4095)
    columns: int = _number(1, 4095)
    encoders: int = _number(1, 65_536)
    pipeline_cycles: int = _number(3, 10_000)
    cell: str = "mmac"


@dataclass(frozen=True)
class Cell:
    """A kind of cell. `group_cycles` is the time of one group dot product, None for the term-pair budget γ."""

    name: str
    group_cycles: int | None
    resources: Resources


@dataclass(frozen=True)
class Multipliers:
    """`units` dot-product units of `taps` multipliers each, whose time does not depend on term budgets."""

    units: int = _number(1, 65_536)
    taps: int = _number(1, 4096)


@dataclass(frozen=True)
class Port:
    """One queue's way to a memory: whole bursts, at a rate, after a latency."""

    burst_bytes: int
    bytes_per_cycle: int
    latency_cycles: int
    on_chip: bool = False


@dataclass(frozen=True)
class Dram:
    """External memory. The load and weights queues take turns at reading, in program order; the store queue writes."""

    capacity_bytes: int = _number(1, 2**40)
    read_bytes_per_cycle: int = _number(1, 65_536)
    write_bytes_per_cycle: int = _number(1, 65_536)
    burst_bytes: int = _number(1, 65_536)
    latency_cycles: int = _number(0, 1_000_000)


@dataclass(frozen=True)
class Buffer:
    """The on-chip global buffer. Each queue has a port of its own; `burst_bytes` is a word. Size 0: there is none."""

    size_bytes: int = _number(0, 2**31)
    read_bytes_per_cycle: int = _number(1, 65_536)
    write_bytes_per_cycle: int = _number(1, 65_536)
    burst_bytes: int = _number(1, 65_536)
    latency_cycles: int = _number(0, 1_000_000)


@dataclass(frozen=True)
class Lanes:
    """The requantizer and the vector unit: values per cycle, and the latency of their pipeline."""

    requant: int = _number(1, 65_536)
    vector: int = _number(1, 65_536)
    pipeline_cycles: int = _number(0, 10_000)


@dataclass(frozen=True)
class Constants:
    """Energy per action in pJ, and power in W that is there all the time.

    Per kind of cell, `arithmetic_pj_per_cycle` is the energy of its datapath (shifter or multiplier, adder,
    accumulator), `movement_pj_per_cycle` of the registers and multiplexers that bring its operands.
    """

    dram_pj_per_byte: float = _number(0, 1e6)
    buffer_pj_per_byte: float = _number(0, 1e6)
    scratchpad_pj_per_byte: float = _number(0, 1e6)
    term_store_pj: float = _number(0, 1e6)
    data_term_pj: float = _number(0, 1e6)
    multiply_pj: float = _number(0, 1e6)
    requant_pj: float = _number(0, 1e6)
    vector_pj: float = _number(0, 1e6)
    dram_background_w: float = _number(0, 1e4)
    static_w: float = _number(0, 1e4)
    arithmetic_pj_per_cycle: Mapping[str, float] = field(default_factory=dict)
    movement_pj_per_cycle: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """Everything that timing and energy need to know. Sizes in bytes, `scratchpads` keyed by lower-case `Pad` name."""

    name: str
    part: Part
    clock: Clock
    array: Array
    multipliers: Multipliers | None
    dram: Dram
    buffer: Buffer
    lanes: Lanes
    scratchpads: Mapping[str, int]
    cells: Mapping[str, Cell]
    components: Mapping[str, Resources]
    constants: Mapping[str, Constants]

    @property
    def cell_count(self) -> int:
        """Cells of the whole array."""
        return self.array.blocks * self.array.rows * self.array.columns

    def cell(self, name: str) -> Cell:
        """The kind of cell called `name`.

        Raises:
            UsageError: this target has no such cell.
        """
        if name not in self.cells:
            raise UsageError(f"cell {name!r}", f"not in target {self.name}", ", ".join(self.cells))
        return self.cells[name]

    def port(self, queue: Queue, on_chip: bool) -> Port:
        """How the load, weights or store queue reaches the global buffer (`on_chip`) or DRAM."""
        memory = self.buffer if on_chip else self.dram
        writes = queue == Queue.STORE
        rate = memory.write_bytes_per_cycle if writes else memory.read_bytes_per_cycle
        return Port(memory.burst_bytes, rate, memory.latency_cycles, on_chip)

    def energies(self, name: str) -> Constants:
        """The set of energy constants called `name`.

        Raises:
            UsageError: there is no such set.
        """
        if name not in self.constants:
            raise UsageError(f"constants {name!r}", "no such set", ", ".join(self.constants))
        return self.constants[name]

    def used(self, cell: str | None = None) -> Resources:
        """Resources of the whole design if the array were built of `cell` (default: of the one that it is built of)."""
        total = self.cell(cell or self.array.cell).resources * self.cell_count
        brams = sum(-(-size // BRAM36_BYTES) for size in (*self.scratchpads.values(), self.buffer.size_bytes))
        return sum(self.components.values(), total + Resources(0, 0, brams, 0))

    def overflow(self, cell: str | None = None) -> dict[str, tuple[int, int]]:
        """Resources of which the design needs more than the part has: name to (needed, available)."""
        used = self.used(cell)
        pairs = {f.name: (getattr(used, f.name), getattr(self.part, f.name)) for f in fields(Resources)}
        return {name: pair for name, pair in pairs.items() if pair[0] > pair[1]}


def target_names() -> list[str]:
    """Names of the targets that come with the package."""
    return sorted(f.name.removesuffix(".toml") for f in _PACKAGED.iterdir() if f.name.endswith(".toml"))


def load_target(name_or_path: str | Path) -> Target:
    """Load a named target (``vc707``) or a TOML file (anything that ends in ``.toml``).

    Raises:
        UsageError: no target of that name, or no such file.
        MalformedError: not TOML, or a key or number that cannot be.
        ResourceError: the design needs more than its part has.
    """
    text = str(name_or_path)
    if not text.endswith(".toml"):
        if text not in target_names():
            raise UsageError(f"target {text!r}", "no such target", ", ".join(target_names()) + ", or a file FILE.toml")
        return parse_target((_PACKAGED / f"{text}.toml").read_text("utf-8"), text)
    return parse_target(read_text(text, "a TOML file"), text)


def target_for(program: Program, target: Target | str | Path | None) -> Target:
    """The target meant by one, by its name or file, or (None) by what the program was compiled for.

    Raises as `load_target`.
    """
    return target if isinstance(target, Target) else load_target(program.target if target is None else target)


def parse_target(text: str, where: str) -> Target:
    """Build a target from TOML text; `where` names it in errors. Raises as `load_target`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MalformedError(where, f"not TOML: {error}") from None
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


def _check_design(target: Target, where: str) -> None:
    if target.array.cell not in target.cells:
        raise MalformedError(f"{where}: [array] cell", f"{target.array.cell!r}", ", ".join(target.cells))
    if target.cell_count > MAX_CELLS:
        raise MalformedError(f"{where}: [array]", f"{target.cell_count} cells", f"at most {MAX_CELLS}")
    for name, (needed, available) in target.overflow().items():
        raise ResourceError(
            f"{where}: {name}",
            f"the design needs {needed}",
            f"{target.part.name} has {available}",
            "use fewer blocks, smaller scratchpads or another part",
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
    return cls(
        **{f.name: _checked(table[f.name], hints[f.name], f.metadata.get("range"), f"{where} {f.name}") for f in specs}
    )


def _cell(name: str, value: object, where: str) -> Cell:
    table = dict(_table(value, where))
    _check_keys(table, where, ("cycles_per_group", "lut", "ff", "dsp"))
    cycles = table.pop("cycles_per_group")
    if cycles != "gamma":
        _checked(cycles, int, (1, 100_000), f"{where} cycles_per_group")
    return Cell(name, None if cycles == "gamma" else cycles, _read(Resources, table | {"bram36": 0}, where))


def _component(value: object, where: str) -> Resources:
    table = dict(_table(value, where))
    _check_keys(table, where, ("count", "lut", "ff", "bram36", "dsp"))
    count: int = _checked(table.pop("count"), int, (0, 1_000_000), f"{where} count")
    return _read(Resources, table, where) * count


def _constant_sets(table: Mapping[str, Any], cells: Mapping[str, Cell], where: str) -> dict[str, Constants]:
    _check_keys(table, f"{where}]", CONSTANT_SETS)
    return {name: _constants(table[name], cells, f"{where}.{name}]") for name in CONSTANT_SETS}


def _constants(value: object, cells: Mapping[str, Cell], where: str) -> Constants:
    table = dict(_table(value, where))
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
