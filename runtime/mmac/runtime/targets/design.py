"""What a target consists of, and what of its part it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from mmac.isa.errors import UsageError
from mmac.isa.spec import Queue

BRAM36_BYTES = 4096
"""Data bytes of one block RAM (36 Kbit with the parity bits that byte-wide memories leave unused)."""

MAX_CELLS = 1 << 20
"""Largest array; it keeps every count of the timing model inside 64 bits."""

CONSTANT_SETS = ("first_principles", "paper")
"""Sets of energy constants that every target gives; the first is the default, and complete: the others say what
differs from it."""

RAM32M_WORDS, RAM32M_BITS = 32, 6
"""What four LUTs hold as memory of one write and one read port."""

WEIGHT_BITS = 9
"""Bits of a truncated weight, -128…128."""


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
class Component:
    """What each of something takes; `per` says of what, a key of `Target.counts`."""

    per: str
    each: Resources


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
    cycle, `rankers` how many weights are ranked and `decoders` how many terms of coded tiles are decoded per cycle for
    all blocks; `pipeline_cycles` is the latency from the scratchpad to the accumulators outside the cells.
    """

    blocks: int = _number(1, 4095)
    rows: int = _number(1, 4095)
    columns: int = _number(1, 4095)
    encoders: int = _number(1, 65_536)
    rankers: int = _number(1, 65_536)
    decoders: int = _number(1, 65_536)
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
    """`units` dot-product units of `taps` multipliers each, whose time does not depend on term budgets.

    Each unit has a store of `words` words of `taps` weights.
    """

    units: int = _number(1, 65_536)
    taps: int = _number(1, 4096)
    words: int = _number(1, 65_536)


@dataclass(frozen=True)
class Port:
    """One queue's way to a memory: whole bursts, at a rate, after a latency."""

    burst_bytes: int
    bytes_per_cycle: int
    latency_cycles: int
    on_chip: bool = False


@dataclass(frozen=True)
class Memory:
    """What all memories behind the queues have: rates, the smallest unit that moves, a latency."""

    read_bytes_per_cycle: int = _number(1, 65_536)
    write_bytes_per_cycle: int = _number(1, 65_536)
    burst_bytes: int = _number(1, 65_536)
    latency_cycles: int = _number(0, 1_000_000)


@dataclass(frozen=True)
class Dram(Memory):
    """External memory. The load and weights queues take turns at reading, in program order; the store queue writes."""

    capacity_bytes: int = _number(1, 2**40)


@dataclass(frozen=True)
class Buffer(Memory):
    """The on-chip global buffer. Each queue has a port of its own; `burst_bytes` is a word. Size 0: there is none.

    `prefer` says what the compiler places there first, ``activations`` or ``weights``.
    """

    size_bytes: int = _number(0, 2**31)
    prefer: str = field(default="activations", metadata={"choices": ("activations", "weights")})


@dataclass(frozen=True)
class Lanes:
    """The requantizer and the vector unit: values per cycle, and the latency of their pipeline."""

    requant: int = _number(1, 65_536)
    vector: int = _number(1, 65_536)
    pipeline_cycles: int = _number(0, 10_000)


@dataclass(frozen=True)
class Constants:
    """Energy per action in pJ, and power in W that is there all the time.

    `control_pj_per_cycle` is the energy of sequencer, DMA and memory controller in every cycle of the latency. Per kind
    of cell, `arithmetic_pj_per_cycle` is the energy of its datapath (shifter or multiplier, adder, accumulator),
    `movement_pj_per_cycle` of the registers and multiplexers that bring its operands.
    """

    dram_pj_per_byte: float = _number(0, 1e6)
    buffer_pj_per_byte: float = _number(0, 1e6)
    scratchpad_pj_per_byte: float = _number(0, 1e6)
    term_store_pj: float = _number(0, 1e6)
    decode_pj: float = _number(0, 1e6)
    data_term_pj: float = _number(0, 1e6)
    multiply_pj: float = _number(0, 1e6)
    requant_pj: float = _number(0, 1e6)
    vector_pj: float = _number(0, 1e6)
    control_pj_per_cycle: float = _number(0, 1e6)
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
    components: Mapping[str, Component]
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
        memory: Memory = self.buffer if on_chip else self.dram
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

    @property
    def counts(self) -> dict[str, int]:
        """How many the design has of what `Component.per` may name."""
        units, taps, words = (m.units, m.taps, m.words) if (m := self.multipliers) else (0, 0, 0)
        return {
            "design": 1,
            "block": self.array.blocks,
            "cell": self.cell_count,
            "cell_pair": -(-self.cell_count // 2),
            "encoder": self.array.blocks * self.array.encoders,
            "ranker": self.array.rankers,
            "decoder": self.array.decoders,
            "unit": units,
            "tap": units * taps,
            "ram32m": units * -(-words // RAM32M_WORDS) * -(-taps * WEIGHT_BITS // RAM32M_BITS),
            "lane": max(self.lanes.requant, self.lanes.vector),
        }

    def used(self, cell: str | None = None) -> Resources:
        """Resources of the whole design if the array were built of `cell` (default: of the one that it is built of)."""
        counts = self.counts
        total = self.cell(cell or self.array.cell).resources * self.cell_count
        brams = sum(-(-size // BRAM36_BYTES) for size in (*self.scratchpads.values(), self.buffer.size_bytes))
        return sum((c.each * counts[c.per] for c in self.components.values()), total + Resources(0, 0, brams, 0))

    def overflow(self, cell: str | None = None) -> dict[str, tuple[int, int]]:
        """Resources of which the design needs more than the part has: name to (needed, available)."""
        used = self.used(cell)
        pairs = {f.name: (getattr(used, f.name), getattr(self.part, f.name)) for f in fields(Resources)}
        return {name: pair for name, pair in pairs.items() if pair[0] > pair[1]}
