"""Builds small programs the way the compiler does: tiled, double buffered, as assembly text that tests can edit.

One method per kind of operation. Each lays out its loops outside in, leaves out those of one iteration, and gives
every ring two slots that alternate from one fill to the next. The tokens are the semaphores named below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa import streams
from mmac.isa.plan import PAPER_LEVELS, LayerPlan, Level, Plan
from mmac.isa.program import PARAM_DTYPE, DebugEntry, HostSegment, Place, Port, Program, TensorInfo, directory_dtype
from mmac.isa.table import TermFormat
from tests.isa.source import (
    ACC_FREE,
    ACC_READY,
    ACT_FREE,
    ACT_READY,
    AUX_FREE,
    CREDITS,
    DEBITS,
    DRAM,
    MOVE_DONE,
    MOVE_READY,
    OUT_FREE,
    OUT_READY,
    PADS,
    PRM_FREE,
    PRM_READY,
    SLOT,
    TABLE_FREE,
    TABLE_READY,
    WGT_FREE,
    WGT_READY,
    Dims,
    Loops,
    Source,
    Tensor,
)

Array = npt.NDArray[Any]

FIXED = "origin=0 extent=1"


@dataclass
class Builder:
    """Collects DRAM contents, code and names."""

    levels: tuple[Level, ...] = PAPER_LEVELS
    image_bytes: int = 1 << 16
    seed: int = 0
    code: list[str] = field(default_factory=list)
    image: Array = field(init=False)
    rng: np.random.Generator = field(init=False)
    used: int = 0
    dram: int = field(init=False)
    layers: list[LayerPlan] = field(default_factory=list)
    tensors: list[TensorInfo] = field(default_factory=list)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    segments: list[HostSegment] = field(default_factory=list)
    debug: list[DebugEntry] = field(default_factory=list)
    filled: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.image = np.zeros(self.image_bytes, np.uint8)
        self.dram = self.image_bytes
        self.rng = np.random.default_rng(self.seed)

    # -------------------------------------------------------------------------------------------------------- DRAM

    def constant(self, array: Array) -> int:
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        base = self.used
        self.image[base : base + data.size] = data
        self.used += -(-data.size // 64) * 64
        return base

    def tensor(self, name: str, shape: Dims, base: int | None = None) -> Tensor:
        """A dense NHWC activation, known to the outside as NCHW."""
        if base is None:
            base, self.dram = self.dram, self.dram + math.prod(shape)
        _, h, w, c = shape
        strides = (h * w * c, w * c, c, 1)
        place = Place(base, (strides[0], strides[3], strides[1], strides[2]))
        self.tensors.append(TensorInfo(name, "uint8", (shape[0], c, h, w), place, 0.5, 128))
        return Tensor(name, base, shape, strides)

    def input(self, name: str, shape: Dims) -> Tensor:
        tensor = self.tensor(name, shape)
        self.inputs.append(Port(name, "float32", self.tensors[-1].shape, (name,)))
        return tensor

    def output(self, tensor: Tensor) -> None:
        n, h, w, c = tensor.shape
        self.outputs.append(Port(tensor.name, "uint8", (n, c, h, w), (tensor.name,)))

    def host(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """A host segment; credits are taken and given around it."""
        names = tuple(t.name for t in inputs), tuple(t.name for t in outputs)
        self.segments.append(HostSegment(b"", *names, (("Softmax", "no vector unit for it"),)))
        self._add("host", f"{DEBITS}host {len(self.segments) - 1}\n{CREDITS}")

    def source(self) -> Source:
        rest = Program(
            name="test",
            target="vc707",
            plan=Plan(self.levels, tuple(self.layers)),
            scratchpads=dict(PADS),
            code=(),
            image=self.image,
            dram_bytes=self.dram,
            tensors=tuple(self.tensors),
            inputs=tuple(self.inputs),
            outputs=tuple(self.outputs),
            host=tuple(self.segments),
            debug=tuple(self.debug),
        )
        return Source(f"{CREDITS}{''.join(self.code)}{DEBITS}halt\n", rest)

    # --------------------------------------------------------------------------------------------------- registers

    def _add(self, op: str, text: str, node: str = "") -> None:
        start = CREDITS.count("\n") + sum(part.count("\n") for part in self.code)
        self.code.append(text)
        self.debug.append(DebugEntry(start, start + text.count("\n"), node or f"{op}{len(self.debug)}", op))

    def _view(self, t: int, tensor: Tensor, walks: Sequence[str] = (), elem: int = 1, fill: int = 0) -> str:
        sizes, strides = (" ".join(f"{d}={v}" for d, v in zip("nhwc", values, strict=True))
                          for values in (tensor.shape, tensor.strides))  # fmt: skip
        lines = [
            f"tensor t=t{t} base={tensor.base} elem={elem} fill={fill}",
            f"shape t=t{t} {sizes}",
            f"stride t=t{t} {strides}",
            *(f"walk t=t{t} dim={dim} {walk}" for dim, walk in zip("nhwc", walks, strict=False)),
        ]
        return "".join(f"{line}\n" for line in lines)

    def _pointer(self, p: int, ring: str, loops: Loops, names: Sequence[str]) -> str:
        """A ring that is filled once per iteration of the named loops, from the slot on that is next."""
        phase = self.filled.get(ring, 0)
        self.filled[ring] = (phase + math.prod(loops.counts[name] for name in names)) % 2
        pad, addr = ("prm", 2 * SLOT["prm"]) if ring == "table" else (ring, 0)
        return f"pointer p=p{p} pad={pad} addr={addr} toggle={SLOT[ring]} mask={loops.mask(names)} phase={phase}\n"

    # ------------------------------------------------------------------------------------------------ array layers

    def array(
        self,
        x: Tensor,
        y: Tensor,
        *,
        tile: Dims,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        reduction: int | None = None,
        weights_outer: bool = True,
        kind: TermFormat = TermFormat.PLAIN,
        per_level: bool = False,
        weights: Array | None = None,
        bias: int = 100,
    ) -> None:
        """A convolution, padded so that y is x over `stride`; `tile` is the box of y.

        `reduction` cuts the input channels (1 × 1 kernels), `weights` [O, kernel, kernel, ic] are random by default.
        Grouped layers keep their weights outside.
        """
        ic, oc = x.shape[3] // groups, y.shape[3] // groups
        tk = ic if reduction is None else reduction
        tb, th, tw, tn = tile
        counts = {name: -(-size // t) for name, size, t in zip("bhwn", y.shape, tile, strict=True)}
        pixels = {name: counts[name] for name in "bhw"}
        order = {"n": counts["n"]} | pixels if weights_outer else pixels | {"n": counts["n"]}
        loops = Loops(order | {"k": -(-ic // tk)})
        rows, columns = ((t - 1) * stride + kernel for t in (th, tw))
        channels = loops.walk("k", tk) if groups == 1 else loops.walk("n", tn // oc * ic)
        pad = (kernel - 1) // 2
        directory = self._directory(weights, (y.shape[3], kernel, kernel, ic), (tn, tk), kind)
        constants = self._constants(y.shape[3], per_level, bias)
        entry = directory_dtype(len(self.levels)).itemsize
        y_walks = [loops.walk(name, t) for name, t in zip("bhwn", tile, strict=True)]
        inner_x = weights_outer or loops.counts["k"] > 1
        inner_w = not weights_outer or loops.counts["k"] > 1
        outside = list(order)
        text = "".join([
            self._view(0, x, [
                loops.walk("b", tb),
                loops.walk("h", rows, th * stride, -pad),
                loops.walk("w", columns, tw * stride, -pad),
                channels,
            ], fill=128),
            self._view(1, directory, [FIXED, FIXED, loops.walk("k", 1), loops.walk("n", 1)], elem=entry),
            self._view(2, constants, [
                f"{FIXED} step=1 loop=level" if per_level else FIXED, FIXED, FIXED, loops.walk("n", tn),
            ], elem=8),
            self._view(3, y, y_walks),
            self._pointer(0, "act", loops, [*outside, "k"] if inner_x else [*"bhw"]),
            self._pointer(1, "wgt", loops, [*outside, "k"] if inner_w else ["n"]),
            self._pointer(2, "prm", loops, ["n"] if weights_outer else outside),
            self._pointer(3, "acc", loops, outside),
            f"conv kernel_h={kernel} kernel_w={kernel} stride_h={stride} stride_w={stride} dilation_h=1 dilation_w=1"
            f" ic={tk} oc={oc}\n",
            "quant a_zero=128 y_zero=3 y_min=0 y_max=255\n",
            self._array_body(loops, weights_outer, inner_x, inner_w, kind),
        ])  # fmt: skip
        self.layers.append(LayerPlan(f"layer{len(self.layers)}", self.levels))
        self._add("conv", text)

    def _array_body(self, loops: Loops, weights_outer: bool, inner_x: bool, inner_w: bool, kind: TermFormat) -> str:
        has_k = loops.counts["k"] > 1
        load_x = f"load t=t0 p=p0 wait={ACT_FREE} signal={ACT_READY}\n"
        load_w = f"load.terms t=t1 p=p1 format={kind.name.lower()} wait={WGT_FREE} signal={WGT_READY}\n"
        load_p = f"load.params t=t2 p=p2 wait={PRM_FREE} signal={PRM_READY}\n"
        waits = [ACT_READY] * inner_x + [WGT_READY] * inner_w + [ACC_FREE] * (not has_k)
        signals = [ACT_FREE] * inner_x + [WGT_FREE] * inner_w + [ACC_READY] * (not has_k)
        mmac = (
            f"mmac x=t0 y=t3 act=p0 wgt=p1 acc=p3 layer={len(self.layers)} format={kind.name.lower()}"
            f" first={loops.depth('k')} {_tokens(waits, signals)}\n"
        )
        product = loops.wrap(["k"], load_x * inner_x + load_w * inner_w + mmac)
        if has_k:
            product = f"sync.compute wait={ACC_FREE}\n{product}sync.compute signal={ACC_READY}\n"
        if weights_outer:
            store = f"store.acc t=t3 acc=p3 prm=p2 wait={ACC_READY} signal={ACC_FREE}\n"
            tile = "".join([
                load_w * (not inner_w), load_p,
                f"sync.compute wait={WGT_READY}\n" * (not inner_w), f"sync.store wait={PRM_READY}\n",
                loops.wrap("bhw", product + store),
                f"sync.compute signal={WGT_FREE}\n" * (not inner_w), f"sync.store signal={PRM_FREE}\n",
            ])  # fmt: skip
            body = loops.wrap("n", tile)
        else:
            store = f"store.acc t=t3 acc=p3 prm=p2 wait={ACC_READY},{PRM_READY} signal={ACC_FREE},{PRM_FREE}\n"
            body = loops.wrap("n", product + load_p + store)
            if not inner_x:
                wait, free = f"sync.compute wait={ACT_READY}\n", f"sync.compute signal={ACT_FREE}\n"
                body = load_x + wait + body + free
            body = loops.wrap("bhw", body)
        return f"sync.load wait={DRAM}\n{body}sync.store signal={DRAM}\n"

    def _directory(self, weights: Array | None, shape: Dims, tile: tuple[int, int], kind: TermFormat) -> Tensor:
        """Streams and directory [K tiles, N tiles] of weights [O, kernel, kernel, ic]; tiles are padded with zeros."""
        out, kh, kw, ic = shape
        if weights is None:
            weights = self.rng.integers(-128, 128, shape)
        tn, tk = tile
        tiles_n, tiles_k = -(-out // tn), -(-ic // tk)
        padded = np.zeros((tiles_n * tn, kh, kw, tiles_k * tk), np.int16)
        padded[:out, ..., :ic] = weights
        depth = kh * kw * tk
        cut = padded.reshape(tiles_n, tn, kh, kw, tiles_k, tk).transpose(4, 0, 1, 2, 3, 5).reshape(-1, tn, depth)
        rows = np.zeros((*cut.shape[:2], -(-depth // 16) * 16), np.int16)
        rows[..., :depth] = cut
        tiles = rows.reshape(*cut.shape[:2], -1, 16).swapaxes(1, 2)
        encoded = streams.encode(kind, tiles, [level.alpha for level in self.levels])
        entries = np.zeros(len(tiles), directory_dtype(len(self.levels)))
        entries["offset"] = self.constant(encoded.data) + encoded.offset
        entries["groups"] = tiles.shape[1] * tn
        entries["level"]["bytes"], entries["level"]["alpha"] = encoded.level_bytes, encoded.level_alpha
        size = entries.itemsize
        strides = (size * len(entries), size * len(entries), size * tiles_n, size)
        return Tensor("", self.constant(entries), (1, 1, tiles_k, tiles_n), strides)

    def _constants(self, channels: int, per_level: bool, bias: int) -> Tensor:
        levels = len(self.levels) if per_level else 1
        records = np.zeros((levels, channels), PARAM_DTYPE)
        records["bias"], records["scale"] = bias, 0.01
        size = 8 * channels
        return Tensor("", self.constant(records), (levels, 1, 1, channels), (size, size, size, 8))

    # ------------------------------------------------------------------------------------------ vector unit, moves

    def add(self, a: Tensor, b: Tensor, y: Tensor, box: Dims) -> None:
        """y = a + b; dimensions of size 1 are broadcast."""
        loops = _box_loops(y, box)
        operands = [[loops.walk(d, 1 if s == 1 else e) if s > 1 else FIXED for d, s, e in
                     zip("bhwc", tensor.shape, box, strict=True)] for tensor in (a, b)]  # fmt: skip
        text = "".join([
            self._view(0, y, [loops.walk(d, e) for d, e in zip("bhwc", box, strict=True)]),
            self._view(1, a, operands[0]), self._view(2, b, operands[1]),
            self._pointer(0, "out", loops, "bhwc"), self._pointer(1, "act", loops, "bhwc"),
            self._pointer(2, "aux", loops, "bhwc"),
            "quant a_scale=0.5 b_scale=0.25 a_zero=128 b_zero=128 y_zero=128\n",
            f"sync.load wait={DRAM}\n",
            loops.wrap("bhwc", f"""\
load t=t1 p=p1 wait={ACT_FREE}
load t=t2 p=p2 wait={AUX_FREE} signal={ACT_READY}
vadd a=t1 b=t2 y=t0 pa=p1 pb=p2 out=p0 {_tokens([ACT_READY, OUT_FREE], [ACT_FREE, OUT_READY])}
sync.compute signal={AUX_FREE}
store t=t0 p=p0 wait={OUT_READY} signal={OUT_FREE}
"""),
            f"sync.store signal={DRAM}\n",
        ])  # fmt: skip
        self._add("add", text)

    def lookup(self, x: Tensor, y: Tensor, box: Dims) -> None:
        """y = table[x]."""
        loops = _box_loops(y, box)
        walks = [loops.walk(d, e) for d, e in zip("bhwc", box, strict=True)]
        values = Tensor("", self.constant(np.arange(256, dtype=np.uint8)[::-1]), (1, 1, 1, 256), (256, 256, 256, 1))
        text = "".join([
            self._view(0, y, walks), self._view(1, x, walks), self._view(2, values),
            self._pointer(0, "out", loops, "bhwc"), self._pointer(1, "act", loops, "bhwc"),
            self._pointer(2, "table", loops, ""),
            f"load.params t=t2 p=p2 wait={TABLE_FREE} signal={TABLE_READY}\nsync.compute wait={TABLE_READY}\n",
            f"sync.load wait={DRAM}\n",
            loops.wrap("bhwc", f"""\
load t=t1 p=p1 wait={ACT_FREE} signal={ACT_READY}
vtable y=t0 pa=p1 table=p2 out=p0 {_tokens([ACT_READY, OUT_FREE], [ACT_FREE, OUT_READY])}
store t=t0 p=p0 wait={OUT_READY} signal={OUT_FREE}
"""),
            f"sync.compute signal={TABLE_FREE}\nsync.store signal={DRAM}\n",
        ])  # fmt: skip
        self._add("table", text)

    def pool(self, op: str, x: Tensor, y: Tensor, box: Dims, kernel: int = 3, stride: int = 2) -> None:
        """``vmax`` or ``vavg`` over a window padded by one."""
        loops = _box_loops(y, box)
        b, h, w, c = box
        text = "".join([
            self._view(0, y, [loops.walk(d, e) for d, e in zip("bhwc", box, strict=True)]),
            self._view(1, x, [
                loops.walk("b", b),
                loops.walk("h", (h - 1) * stride + kernel, h * stride, -1),
                loops.walk("w", (w - 1) * stride + kernel, w * stride, -1),
                loops.walk("c", c),
            ], fill=128 if op == "vavg" else 0),
            self._pointer(0, "out", loops, "bhwc"), self._pointer(1, "act", loops, "bhwc"),
            f"conv kernel_h={kernel} kernel_w={kernel} stride_h={stride} stride_w={stride} dilation_h=1 dilation_w=1\n",
            "quant a_scale=1.0 a_zero=128 y_zero=128\n",
            f"sync.load wait={DRAM}\n",
            loops.wrap("bhwc", f"""\
load t=t1 p=p1 wait={ACT_FREE} signal={ACT_READY}
{op} x=t1 y=t0 pa=p1 out=p0 {_tokens([ACT_READY, OUT_FREE], [ACT_FREE, OUT_READY])}
store t=t0 p=p0 wait={OUT_READY} signal={OUT_FREE}
"""),
            f"sync.store signal={DRAM}\n",
        ])  # fmt: skip
        self._add("pool", text)

    def move(self, x: Tensor, y: Tensor, box: Dims, origin: Dims = (0, 0, 0, 0)) -> None:
        """y = x from `origin` on, the fill byte outside."""
        loops = _box_loops(y, box)
        text = "".join([
            self._view(0, x, [loops.walk(d, e, e, o) for d, e, o in zip("bhwc", box, origin, strict=True)], fill=7),
            self._view(1, y, [loops.walk(d, e) for d, e in zip("bhwc", box, strict=True)]),
            self._pointer(0, "act", loops, "bhwc"),
            f"sync.load wait={DRAM}\n",
            loops.wrap("bhwc", f"""\
load t=t0 p=p0 wait={ACT_FREE} signal={MOVE_READY}
store t=t1 p=p0 wait={MOVE_READY} signal={MOVE_DONE}
sync.compute wait={MOVE_DONE} signal={ACT_FREE}
"""),
            f"sync.store signal={DRAM}\n",
        ])  # fmt: skip
        self._add("move", text)


def _box_loops(y: Tensor, box: Dims) -> Loops:
    return Loops({name: -(-size // extent) for name, size, extent in zip("bhwc", y.shape, box, strict=True)})


def _tokens(waits: Sequence[int], signals: Sequence[int]) -> str:
    """Token operands of an instruction; any number of them may be none."""
    return " ".join(
        f"{name}={','.join(map(str, tokens))}" for name, tokens in (("wait", waits), ("signal", signals)) if tokens
    )
