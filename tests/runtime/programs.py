"""Builds small programs by hand: every instruction, any tiling, tokens that order everything one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmac.isa import streams, table
from mmac.isa.plan import LayerPlan, Level, Plan
from mmac.isa.program import (
    PARAM_DTYPE,
    DebugEntry,
    HostSegment,
    Place,
    Port,
    Program,
    TensorInfo,
    directory_dtype,
)
from mmac.isa.spec import LEVEL_LOOP, NONE_LOOP, Instr, Queue, float_bits
from tests.runtime.definition import Array, Quantization, Window

SCRATCHPADS = {"act": 1 << 18, "aux": 1 << 17, "out": 1 << 17, "wgt": 1 << 18, "prm": 1 << 15, "acc": 1 << 19}
SYNC: dict[Queue, type[table.Queued]] = {
    Queue.LOAD: table.SyncLoad,
    Queue.COMPUTE: table.SyncCompute,
    Queue.STORE: table.SyncStore,
    Queue.WEIGHTS: table.SyncWeights,
}

POINT = Window()
PLAIN = Quantization()

Walk = tuple[int, int, int, int]
"""origin, extent, step, loop"""


def tokens(instr: Instr, **fields: int) -> Instr:
    assert isinstance(instr, table.Queued)
    return dataclasses.replace(instr, **fields)


@dataclass(frozen=True)
class Tensor:
    """Bytes of DRAM as (n, h, w, c)."""

    name: str
    base: int
    shape: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]
    elem: int = 1


@dataclass(frozen=True)
class Loop:
    """A hardware loop around statements."""

    count: int
    body: list[Statement]


Statement = table.Queued | Loop
Block = tuple[list[Instr], Queue, Queue]
"""Instructions, and the queues of the first and the last of them."""


@dataclass
class Loops:
    """Perfectly nested loops, those of one iteration left out."""

    counts: dict[str, int]
    depth: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [name for name, count in self.counts.items() if count > 1]
        self.depth = {name: position for position, name in enumerate(names)}

    def walk(self, origin: int, extent: int, step: int, name: str) -> Walk:
        return origin, extent, step, self.depth.get(name, NONE_LOOP)

    def nest(self, body: list[Statement]) -> list[Statement]:
        for name in reversed(self.depth):
            body = [Loop(self.counts[name], body)]
        return body


class _Serial:
    """Gives instructions tokens such that each one waits for the one before it.

    One semaphore per (producer, consumer) pair of queues; a loop carries one from its last to its first.
    """

    def edge(self, producer: Queue, consumer: Queue) -> int:
        return len(SYNC) * (producer - 1) + consumer - 1

    def block(self, statements: Sequence[Statement]) -> Block:
        code: list[Instr] = []
        first: Queue | None = None
        last: Queue | None = None
        for statement in statements:
            part, begin, end = self.one(statement)
            if last is not None:
                self.link(code, part, last, begin)
            first = begin if first is None else first
            code, last = code + part, end
        assert first is not None
        assert last is not None
        return code, first, last

    def one(self, statement: Statement) -> Block:
        if isinstance(statement, Loop):
            return self.loop(statement)
        return [statement], statement.queue, statement.queue

    def link(self, code: list[Instr], part: list[Instr], producer: Queue, consumer: Queue) -> None:
        if producer != consumer:
            code[-1] = tokens(code[-1], signal0=self.edge(producer, consumer))
            part[0] = tokens(part[0], wait0=self.edge(producer, consumer))

    def loop(self, loop: Loop) -> Block:
        body, first, last = self.block(loop.body)
        code: list[Instr] = [table.Loop(count=loop.count), *body, table.End()]
        if first == last:
            return [SYNC[first](), *code, SYNC[first]()], first, first
        carried = self.edge(last, first)
        at = next(i for i, instr in enumerate(code) if isinstance(instr, table.Queued))
        end = max(i for i, instr in enumerate(code) if isinstance(instr, table.Queued))
        code[at] = tokens(code[at], wait1=carried)
        code[end] = tokens(code[end], signal1=carried)
        return [SYNC[last](signal1=carried), *code, SYNC[first](wait1=carried)], last, first


class Builder:
    """Lays out DRAM and collects code, tensors and plan of one program."""

    def __init__(self, levels: Sequence[Level], image_bytes: int = 1 << 18) -> None:
        self.levels = tuple(levels)
        self.image = np.zeros(image_bytes, np.uint8)
        self.used = 0
        self.dram = image_bytes
        self.code: list[Instr] = []
        self.layers: list[LayerPlan] = []
        self.tensors: dict[str, TensorInfo] = {}
        self.debug: list[DebugEntry] = []
        self.segments: list[HostSegment] = []
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.queue_at_end: Queue | None = None

    # ------------------------------------------------------------------------------------------------ DRAM

    def constant(self, array: Array) -> int:
        data = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        base = self.used
        self.image[base : base + data.size] = data
        self.used += -(-data.size // 64) * 64
        return base

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "uint8",
        base: int | None = None,
        scale: float | None = None,
        zero_point: int | None = None,
    ) -> Tensor:
        """An activation, NHWC in DRAM and NCHW to the user; `base` to reuse the bytes of another one."""
        n, h, w, c = shape
        if base is None:
            base, self.dram = self.dram, self.dram + n * h * w * c
        tensor = Tensor(name, base, (n, h, w, c), (h * w * c, w * c, c, 1))
        place = Place(base, (h * w * c, 1, w * c, c))
        self.tensors[name] = TensorInfo(name, dtype, (n, c, h, w), place, scale, zero_point)
        return tensor

    def input(self, name: str, dtype: str, *tensors: str) -> None:
        self.inputs.append(Port(name, dtype, self.tensors[tensors[0]].shape, tensors))

    def output(self, name: str, dtype: str, tensor: str) -> None:
        self.outputs.append(Port(name, dtype, self.tensors[tensor].shape, (tensor,)))

    # ------------------------------------------------------------------------------------------- registers

    def view(self, t: int, tensor: Tensor, walks: Sequence[Walk] = (), fill: int = 0) -> None:
        n, h, w, c = tensor.shape
        self.code.append(table.Tensor(t=t, base=tensor.base, elem=tensor.elem, fill=fill & 255))
        self.code.append(table.Shape(t=t, n=n, h=h, w=w, c=c))
        sn, sh, sw, sc = tensor.strides
        self.code.append(table.Stride(t=t, n=sn, h=sh, w=sw, c=sc))
        for dim, (origin, extent, step, loop) in enumerate(walks):
            self.code.append(table.Walk(t=t, dim=dim, origin=origin, extent=extent, step=step, loop=loop))

    def pointer(self, p: int, pad: table.Pad, size: int, loops: Loops) -> None:
        """Two slots of `size` bytes that alternate with every loop."""
        mask = (1 << len(loops.depth)) - 1
        self.code.append(table.Pointer(p=p, pad=pad, addr=64, toggle=-(-size // 64) * 64, mask=mask, phase=p % 2))

    def quant(self, q: Quantization) -> None:
        values = dataclasses.asdict(q)
        values |= {"a_scale": float_bits(q.a_scale), "b_scale": float_bits(q.b_scale)}
        self.code.append(table.Quant(**values))

    def conv(self, window: Window, ic: int = 1, oc: int = 1, count_pad: bool = False) -> None:
        (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.stride, window.dilation
        sizes = {"kernel_h": kh, "kernel_w": kw, "stride_h": sh, "stride_w": sw, "dilation_h": dh, "dilation_w": dw}
        self.code.append(table.Conv(**sizes, ic=ic, oc=oc, count_pad=int(count_pad)))

    def emit(self, name: str, start: int, statements: list[Statement], *outputs: str) -> None:
        """Add code that begins after everything before it has ended."""
        code, first, last = _Serial().block(statements)
        if self.queue_at_end not in (None, first):
            token = _Serial().edge(self.queue_at_end, first)
            code = [SYNC[self.queue_at_end](signal0=token), SYNC[first](wait0=token), *code]
        self.code += code
        self.queue_at_end = last
        self.debug.append(DebugEntry(start, len(self.code), name, name, 0, outputs))

    # ---------------------------------------------------------------------------------------------- layers

    def array_layer(
        self,
        x: Tensor,
        y: Tensor,
        weights: Array,
        bias: Array,
        scale: Array,
        *,
        window: Window = POINT,
        groups: int = 1,
        q: Quantization = PLAIN,
        budgets: Sequence[Level] | None = None,
        tile: tuple[int, int, int, int] | None = None,
        shift: tuple[int, int, int, int] = (0, 0, 0, 0),
        reduction: int | None = None,
        kind: table.TermFormat = table.TermFormat.PLAIN,
    ) -> None:
        """A layer whose `tile` is the box of y and whose K tiles have `reduction` channels.

        The first box sticks out of y by `shift` elements (of channels: whole convolution groups).
        weights [O, kernel_h, kernel_w, ic]; bias and scale [1 or L, O].
        """
        start = len(self.code)
        budgets = self.levels if budgets is None else tuple(budgets)
        self.layers.append(LayerPlan(f"layer{len(self.layers)}", budgets))
        tb, th, tw, tn = y.shape if tile is None else tile
        ic, oc = weights.shape[3], weights.shape[0] // groups
        tk = ic if reduction is None else reduction
        sb, sh, sw, sn = shift
        counts = [-(-(size + s) // t) for size, s, t in zip(y.shape, shift, (tb, th, tw, tn), strict=True)]
        loops = Loops(dict(zip("bhwn", counts, strict=True)))
        inner = Loops({**loops.counts, "k": -(-ic // tk)})
        outs = np.concatenate([np.zeros((sn, *weights.shape[1:]), weights.dtype), weights])
        directory = self.weight_tiles(outs, tn, tk, [level.alpha for level in budgets], kind)
        params = self.params(bias, scale)
        rows, columns = (self.reach(window, i, t) for i, t in enumerate((th, tw)))
        channels = max(1, tn // oc) * tk
        move = loops.walk(-sn // oc * tk, channels, channels, "n") if groups > 1 else inner.walk(0, channels, tk, "k")
        top, left = window.pads[:2]
        x_walks = [
            loops.walk(-sb, tb, tb, "b"),
            loops.walk(-top - sh * window.stride[0], rows, th * window.stride[0], "h"),
            loops.walk(-left - sw * window.stride[1], columns, tw * window.stride[1], "w"),
            move,
        ]
        y_walks = [loops.walk(-s, t, t, name) for s, t, name in zip(shift, (tb, th, tw, tn), "bhwn", strict=True)]
        self.view(0, x, x_walks, q.a_zero)
        one = (0, 1, 0, NONE_LOOP)
        self.view(1, directory, [one, one, inner.walk(0, 1, 1, "k"), loops.walk(0, 1, 1, "n")])
        level_walk = (0, 1, 1, LEVEL_LOOP) if len(bias) > 1 else one
        self.view(2, params, [level_walk, one, one, loops.walk(-sn, tn, tn, "n")])
        self.view(3, y, y_walks)
        self.pointer(0, table.Pad.ACT, tb * rows * columns * channels, inner)
        depth = window.kernel[0] * window.kernel[1] * tk
        self.pointer(1, table.Pad.WGT, -(-depth // 16) * tn * 65, inner)
        self.pointer(2, table.Pad.PRM, 8 * tn, loops)
        self.pointer(3, table.Pad.ACC, 4 * tb * th * tw * tn, loops)
        self.conv(window, tk, oc)
        self.quant(q)
        first = inner.depth.get("k", NONE_LOOP)
        mmac = table.Mmac(x=0, y=3, act=0, wgt=1, acc=3, layer=len(self.layers) - 1, format=kind, first=first)
        partial: list[Statement] = [table.Load(t=0, p=0), table.LoadTerms(t=1, p=1, format=kind), mmac]
        if first != NONE_LOOP:
            partial = [Loop(inner.counts["k"], partial)]
        finish: list[Statement] = [table.LoadParams(t=2, p=2), table.StoreAcc(t=3, acc=3, prm=2)]
        self.emit("array", start, loops.nest(partial + finish), y.name)

    def reach(self, window: Window, axis: int, outputs: int) -> int:
        """Input rows or columns that so many outputs read."""
        return (outputs - 1) * window.stride[axis] + (window.kernel[axis] - 1) * window.dilation[axis] + 1

    def weight_tiles(self, weights: Array, tn: int, tk: int, alphas: list[int], kind: table.TermFormat) -> Tensor:
        out, kh, kw, ic = weights.shape
        tiles_n, tiles_k = -(-out // tn), -(-ic // tk)
        depth = kh * kw * tk
        padded = np.zeros((tiles_n * tn, kh, kw, tiles_k * tk), np.int16)
        padded[:out, ..., :ic] = weights
        cut = padded.reshape(tiles_n, tn, kh, kw, tiles_k, tk).transpose(4, 0, 1, 2, 3, 5)
        rows = np.zeros((tiles_k * tiles_n, tn, -(-depth // 16) * 16), np.int16)
        rows[..., :depth] = cut.reshape(-1, tn, depth)
        tiles = rows.reshape(-1, tn, rows.shape[2] // 16, 16).transpose(0, 2, 1, 3)
        encoded = streams.encode(kind, tiles, alphas)
        entries = np.zeros(tiles_k * tiles_n, directory_dtype(len(self.levels)))
        entries["offset"] = self.constant(encoded.data) + encoded.offset
        entries["groups"] = tiles.shape[1] * tn
        entries["level"]["bytes"] = encoded.level_bytes
        entries["level"]["alpha"] = encoded.level_alpha
        size = entries.itemsize
        strides = (size * len(entries), size * len(entries), size * tiles_n, size)
        return Tensor("", self.constant(entries), (1, 1, tiles_k, tiles_n), strides, size)

    def params(self, bias: Array, scale: Array) -> Tensor:
        records = np.zeros(bias.shape, PARAM_DTYPE)
        records["bias"], records["scale"] = bias, scale
        levels, channels = bias.shape
        size = 8 * channels
        return Tensor("", self.constant(records), (levels, 1, 1, channels), (size, size, size, 8), 8)

    def elementwise(self, op: str, operands: Sequence[Tensor], y: Tensor, q: Quantization, box: Sequence[int]) -> None:
        """``vadd`` or ``vmul`` of two operands that may be broadcast."""
        start = len(self.code)
        loops = Loops({name: -(-size // t) for name, size, t in zip("bhwn", y.shape, box, strict=True)})
        for t, (operand, pad) in enumerate(zip(operands, (table.Pad.ACT, table.Pad.AUX), strict=True)):
            extents = [1 if size == 1 else extent for size, extent in zip(operand.shape, box, strict=True)]
            walks = [
                loops.walk(0, extent, extent, name) if size > 1 else (0, 1, 0, NONE_LOOP)
                for size, extent, name in zip(operand.shape, extents, "bhwn", strict=True)
            ]
            self.view(t, operand, walks)
            self.pointer(t, pad, int(np.prod(extents)), loops)
        self.view(2, y, [loops.walk(0, t, t, name) for t, name in zip(box, "bhwn", strict=True)])
        self.pointer(2, table.Pad.OUT, int(np.prod(box)), loops)
        self.quant(q)
        cls = {"vadd": table.Vadd, "vmul": table.Vmul}[op]
        body: list[Statement] = [
            table.Load(t=0, p=0),
            table.Load(t=1, p=1),
            cls(a=0, b=1, y=2, pa=0, pb=1, out=2),
            table.Store(t=2, p=2),
        ]
        self.emit(op, start, loops.nest(body), y.name)

    def lookup(self, x: Tensor, y: Tensor, values: Array, box: Sequence[int]) -> None:
        start = len(self.code)
        loops = Loops({name: -(-size // t) for name, size, t in zip("bhwn", y.shape, box, strict=True)})
        walks = [loops.walk(0, t, t, name) for t, name in zip(box, "bhwn", strict=True)]
        self.view(0, x, walks)
        self.view(1, y, walks)
        self.view(2, Tensor("", self.constant(values), (1, 1, 1, 256), (256, 256, 256, 1)))
        self.pointer(0, table.Pad.ACT, int(np.prod(box)), loops)
        self.pointer(1, table.Pad.OUT, int(np.prod(box)), loops)
        self.pointer(2, table.Pad.PRM, 256, Loops({}))
        body = [table.Load(t=0, p=0), table.Vtable(y=1, pa=0, table=2, out=1), table.Store(t=1, p=1)]
        self.emit("vtable", start, [table.Load(t=2, p=2), *loops.nest(list(body))], y.name)

    def pool(
        self,
        op: str,
        x: Tensor,
        y: Tensor,
        window: Window,
        q: Quantization,
        box: Sequence[int],
        fill: int,
        count_pad: bool = False,
    ) -> None:
        """``vmax`` or ``vavg``."""
        start = len(self.code)
        loops = Loops({name: -(-size // t) for name, size, t in zip("bhwn", y.shape, box, strict=True)})
        tb, th, tw, tc = box
        rows, columns = self.reach(window, 0, th), self.reach(window, 1, tw)
        x_walks = [
            loops.walk(0, tb, tb, "b"),
            loops.walk(-window.pads[0], rows, th * window.stride[0], "h"),
            loops.walk(-window.pads[1], columns, tw * window.stride[1], "w"),
            loops.walk(0, tc, tc, "n"),
        ]
        self.view(0, x, x_walks, fill)
        self.view(1, y, [loops.walk(0, t, t, name) for t, name in zip(box, "bhwn", strict=True)])
        self.pointer(0, table.Pad.ACT, tb * rows * columns * tc, loops)
        self.pointer(1, table.Pad.OUT, int(np.prod(box)), loops)
        self.conv(window, count_pad=count_pad)
        self.quant(q)
        cls = {"vmax": table.Vmax, "vavg": table.Vavg}[op]
        body: list[Statement] = [table.Load(t=0, p=0), cls(x=0, y=1, pa=0, out=1), table.Store(t=1, p=1)]
        self.emit(op, start, loops.nest(body), y.name)

    def move(
        self, x: Tensor, y: Tensor, box: Sequence[int], origin: Sequence[int] = (0, 0, 0, 0), fill: int = 0
    ) -> None:
        """Every element of y from x at `origin` on, the fill byte outside."""
        start = len(self.code)
        loops = Loops({name: -(-size // t) for name, size, t in zip("bhwn", y.shape, box, strict=True)})
        self.view(0, x, [loops.walk(o, t, t, name) for o, t, name in zip(origin, box, "bhwn", strict=True)], fill)
        self.view(1, y, [loops.walk(0, t, t, name) for t, name in zip(box, "bhwn", strict=True)])
        self.pointer(0, table.Pad.OUT, int(np.prod(box)) * x.elem, loops)
        body: list[Statement] = [table.Load(t=0, p=0), table.Store(t=1, p=0)]
        self.emit("move", start, loops.nest(body), y.name)

    def host(self, onnx: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.code.append(table.Host(segment=len(self.segments)))
        self.segments.append(HostSegment(onnx, tuple(inputs), tuple(outputs), (("Softmax", "test"),)))

    def build(self, **changes: Any) -> Program:
        program = Program(
            name="test",
            target="vc707",
            plan=Plan(self.levels, tuple(self.layers)),
            scratchpads=SCRATCHPADS,
            code=(*self.code, table.Halt()),
            image=self.image,
            dram_bytes=self.dram,
            tensors=tuple(self.tensors.values()),
            inputs=tuple(self.inputs),
            outputs=tuple(self.outputs),
            host=tuple(self.segments),
            debug=tuple(self.debug),
        )
        return dataclasses.replace(program, **changes)
