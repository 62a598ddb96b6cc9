"""Tile IR: the network as operations on DRAM buffers, each with its mapping and, once scheduled, its loop nest.

A `TileProgram` goes through `tile` → `pack` → `schedule` → `allocate` → `emit`; each of them fills in fields that
were None before and changes nothing else. `mmac.compiler.tile.text` prints it and parses it back,
`mmac.compiler.tile.check` verifies it.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingT
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.plan import Plan
from mmac.isa.program import HostSegment, Port
from mmac.isa.spec import Instr

Ints = TypeVar("Ints", int, npt.NDArray[np.int64])

Dims = tuple[int, int, int, int]
"""Sizes, strides or extents in (n, h, w, c) order."""


@dataclass(frozen=True)
class Buffer:
    """Bytes of memory: of the global buffer if `on_chip`, else of DRAM.

    `constant` ones are part of the program image and hold `TileProgram.data[name]`.
    """

    name: str
    size_bytes: int
    constant: bool = False
    on_chip: bool = False
    base: int | None = None


@dataclass(frozen=True)
class View:
    """A 4-D window on a buffer: element (n, h, w, c) is at ``offset + Σ index·stride`` bytes."""

    buffer: str
    offset: int
    shape: Dims
    strides: Dims
    elem: int = 1


@dataclass(frozen=True)
class Tensor:
    """A named ONNX tensor: where its bytes are (`strides` per ONNX dimension), or nowhere if only the host has it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    buffer: str | None = None
    offset: int = 0
    strides: tuple[int, ...] = ()
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class Window:
    """Kernel, stride, dilation as (h, w), and the padding before the first row and column."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)

    def rows(self, outputs: Ints) -> Ints:
        """Input rows that so many output rows read."""
        return (outputs - 1) * self.stride[0] + (self.kernel[0] - 1) * self.dilation[0] + 1

    def columns(self, outputs: Ints) -> Ints:
        """Input columns that so many output columns read."""
        return (outputs - 1) * self.stride[1] + (self.kernel[1] - 1) * self.dilation[1] + 1


@dataclass(frozen=True)
class ArrayMapping:
    """How an array layer is cut into tiles and spread over blocks.

    A tile is `batch` × `rows` × `columns` output pixels by `channels` output channels by `reduction` input channels;
    `weights_outer` says whether a weight tile stays while all pixels pass (else an activation tile stays while all
    weight tiles pass). `split_*` are the blocks that share pixels (m), channels (n) and the reduction (k).
    `multipliers` are the levels at which the multipliers form the sums, and not the array; `format` is the one
    that the weights were expected to have: `pack` stores integers only if it is ``RAW``, or no level needs them ranked.
    `cycles` is what the cost model expects at the highest level that it compared, `why` a sentence for people.
    """

    batch: int
    rows: int
    columns: int
    channels: int
    reduction: int
    weights_outer: bool
    split_m: int
    split_n: int
    split_k: int
    multipliers: tuple[int, ...] = ()
    format: table.TermFormat = table.TermFormat.PLAIN
    cycles: int = 0
    why: str = ""


@dataclass(frozen=True)
class BoxMapping:
    """Tile sizes of a vector operation or move."""

    box: Dims


@dataclass(frozen=True)
class Quantization:
    """Zero points, scales, signedness and clamp, as in the `quant` instruction (scales as float32 values)."""

    a_zero: int = 0
    a_signed: bool = False
    b_zero: int = 0
    b_signed: bool = False
    y_zero: int = 0
    y_signed: bool = False
    y_min: int = 0
    y_max: int = 255
    a_scale: float = 0.0
    b_scale: float = 0.0


@dataclass(frozen=True)
class Streams:
    """A layer's weights as packed by `pack`: term format and the buffers of its streams and directory."""

    format: table.TermFormat
    directory: str
    streams: str
    tiles_k: int
    tiles_n: int
    tile_bytes: int
    """What the scratchpad must hold of the largest tile at the highest level."""


@dataclass(frozen=True)
class ViewRegister:
    """Contents of a tensor register; `walk` is (origin, extent, step, loop depth) per dimension."""

    view: View
    walk: tuple[tuple[int, int, int, int], ...]
    fill: int = 0


@dataclass(frozen=True)
class PointerRegister:
    """Contents of a pointer register; `toggle` is the distance between its two slots."""

    pad: table.Pad
    addr: int
    toggle: int
    mask: int = 0
    phase: int = 0


@dataclass(frozen=True)
class Repeat:
    """A hardware loop."""

    count: int
    body: tuple[Statement, ...]


Statement = Instr | Repeat


@dataclass(frozen=True)
class Nest:
    """What the sequencer executes for one operation: register contents (position = register number), then the body."""

    views: tuple[ViewRegister, ...]
    pointers: tuple[PointerRegister, ...]
    conv: table.Conv | None
    quant: table.Quant | None
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class ArrayLayer:
    """Convolution or matrix product; `weights` names int16 data [O, K], K the flattened reduction axis.

    `limits` names the α of each group at each level, uint8 [levels, O, groups], where groups have budgets of their own.
    `layer` is its position in the plan; one layer of the plan may be several operations, one after the other.
    """

    kind: ClassVar[str] = "arraylayer"
    name: str
    x: View
    y: View
    window: Window
    groups: int
    layer: int
    weights: str
    params: View
    quantization: Quantization
    mapping: ArrayMapping | None = None
    streams: Streams | None = None
    nest: Nest | None = None
    limits: str | None = None

    @property
    def ic(self) -> int:
        """Input channels per convolution group."""
        return self.x.shape[3] // self.groups

    @property
    def oc(self) -> int:
        """Output channels per convolution group."""
        return self.y.shape[3] // self.groups

    @property
    def reduction(self) -> int:
        """Values in one output's dot product."""
        return self.ic * self.window.kernel[0] * self.window.kernel[1]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense computation."""
        return int(np.prod(self.y.shape, dtype=object)) * self.reduction


@dataclass(frozen=True)
class VectorOp:
    """One operation of the vector unit: `op` is vadd, vmul (operands a, b), vtable (table), vmax or vavg (window)."""

    name: str
    op: str
    a: View
    y: View
    quantization: Quantization = Quantization()
    b: View | None = None
    table: View | None = None
    window: Window | None = None
    count_pad: bool = False
    fill: int = 0
    mapping: BoxMapping | None = None
    nest: Nest | None = None

    @property
    def kind(self) -> str:
        """What reports call the operation."""
        return self.op


@dataclass(frozen=True)
class Move:
    """A copy: every view of `outs` gets x, read from coordinate `origin` on; outside x, `fill`."""

    kind: ClassVar[str] = "move"
    name: str
    x: View
    outs: tuple[View, ...]
    origin: Dims = (0, 0, 0, 0)
    fill: int = 0
    mapping: BoxMapping | None = None
    nest: Nest | None = None


@dataclass(frozen=True)
class HostCall:
    """Run host segment `segment`. `reads` and `writes` are the DRAM buffers that it touches."""

    kind: ClassVar[str] = "hostcall"
    name: str
    segment: int
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    nest: Nest | None = None


Operation = ArrayLayer | VectorOp | Move | HostCall


@dataclass(frozen=True)
class TileProgram:
    """A whole network. `data` holds bulk arrays (weights, streams, constants) by name; the text form omits them.

    `on_chip` is the range of addresses (base, size) that lies in the global buffer, once `allocate` has set it.
    `sqnr_db` is how good each level is (`mmac.isa.program.Prediction`), if that is known.
    """

    name: str
    target: str
    plan: Plan
    tensors: tuple[Tensor, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    buffers: tuple[Buffer, ...]
    operations: tuple[Operation, ...]
    host: tuple[HostSegment, ...] = ()
    on_chip: tuple[int, int] = (0, 0)
    sqnr_db: tuple[float, ...] = ()
    notes: MappingT[str, str] = field(default_factory=dict)
    data: MappingT[str, npt.NDArray[np.generic]] = field(default_factory=dict, compare=False, repr=False)


def operation_views(op: Operation) -> tuple[tuple[View, ...], tuple[View, ...]]:
    """The views that an operation reads and writes (weights aside)."""
    match op:
        case ArrayLayer():
            return (op.x, op.params), (op.y,)
        case VectorOp():
            return tuple(v for v in (op.a, op.b, op.table) if v is not None), (op.y,)
        case Move():
            return (op.x,), op.outs
        case HostCall():
            return (), ()


def buffers_touched(op: Operation) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the DRAM buffers that an operation reads and writes, weights included."""
    if isinstance(op, HostCall):
        return frozenset(op.reads), frozenset(op.writes)
    reads, writes = operation_views(op)
    names = {v.buffer for v in reads}
    if isinstance(op, ArrayLayer) and op.streams is not None:
        names |= {op.streams.directory, op.streams.streams}
    return frozenset(names), frozenset(v.buffer for v in writes)
