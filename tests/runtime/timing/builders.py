"""Small programs for the timing model: pipelined layers as the compiler emits them, and random code.

They need no meaningful data: the directory holds sizes and term counts only.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mmac.isa import table
from mmac.isa.plan import PAPER_LEVELS, LayerPlan, Level, Plan
from mmac.isa.program import DebugEntry, Program, directory_dtype
from mmac.isa.spec import NONE_LOOP, NONE_TOKEN, Instr, Queue

PADS = {"act": 1 << 18, "aux": 1 << 16, "out": 1 << 17, "wgt": 3 << 18, "prm": 1 << 16, "acc": 1 << 19}
SYNC: dict[Queue, type[table.Queued]] = {
    Queue.LOAD: table.SyncLoad,
    Queue.COMPUTE: table.SyncCompute,
    Queue.STORE: table.SyncStore,
    Queue.WEIGHTS: table.SyncWeights,
}
Walk = tuple[int, int, int, int]
"""origin, extent, step, loop"""


def directory(tiles: int, levels: int, rng: np.random.Generator) -> np.ndarray:
    """Entries whose sizes and term counts grow with the level."""
    entries = np.zeros(tiles, directory_dtype(levels))
    entries["level"]["bytes"] = np.cumsum(rng.integers(1, 900, (tiles, levels)), axis=1)
    entries["level"]["alpha"] = np.cumsum(rng.integers(0, 4, (tiles, levels)), axis=1) + 1
    return entries


def view(
    t: int, base: int, elem: int, shape: Sequence[int], strides: Sequence[int], walks: Sequence[Walk]
) -> list[Instr]:
    n, h, w, c = shape
    sn, sh, sw, sc = strides
    code: list[Instr] = [
        table.Tensor(t=t, base=base, elem=elem, fill=0),
        table.Shape(t=t, n=n, h=h, w=w, c=c),
        table.Stride(t=t, n=sn, h=sh, w=sw, c=sc),
    ]
    for dim, (origin, extent, step, loop) in enumerate(walks):
        code.append(table.Walk(t=t, dim=dim, origin=origin, extent=extent, step=step, loop=loop))
    return code


def dense(shape: Sequence[int], elem: int = 1) -> tuple[int, int, int, int]:
    n, h, w, c = shape
    return 0 if n == 1 else h * w * c * elem, w * c * elem, c * elem, elem


def program(
    code: Sequence[Instr],
    image: np.ndarray,
    layers: Sequence[Sequence[Level]],
    levels: Sequence[Level],
    debug: Sequence[DebugEntry] = (),
) -> Program:
    plans = tuple(LayerPlan(f"layer{i}", tuple(budgets)) for i, budgets in enumerate(layers))
    return Program(
        name="test",
        target="vc707",
        plan=Plan(tuple(levels), plans),
        scratchpads=PADS,
        code=(*code, table.Halt()),
        image=image.view(np.uint8).reshape(-1),
        dram_bytes=1 << 30,
        tensors=(),
        inputs=(),
        outputs=(),
        debug=tuple(debug),
    )


# ----------------------------------------------------------------------------------------------- pipelined layers

WF, WR, PF, PR, AF, AR, CF, CR = range(8)


@dataclass
class Network:
    """Convolution layers one after the other, double-buffered, weights in the outer or in the inner loop."""

    levels: Sequence[Level] = PAPER_LEVELS
    seed: int = 0
    code: list[Instr] = field(default_factory=list)
    layers: list[Sequence[Level]] = field(default_factory=list)
    debug: list[DebugEntry] = field(default_factory=list)
    entries: list[np.ndarray] = field(default_factory=list)
    address: int = 0

    def conv(
        self,
        size: tuple[int, int],
        channels: tuple[int, int],
        kernel: int,
        tile: tuple[int, int, int],
        *,
        weights_outer: bool = True,
        depthwise: bool = False,
    ) -> None:
        """A stride-1 layer; `tile` is (rows, columns, output channels)."""
        start = len(self.code)
        (height, width), (ic, oc), (th, tw, tn) = size, channels, tile
        counts = {"n": -(-oc // tn), "h": -(-height // th), "w": -(-width // tw)}
        order = "nhw" if weights_outer else "hwn"
        open_loops = [name for name in order if counts[name] > 1]
        depth = {name: i for i, name in enumerate(open_loops)}
        self._registers(size, channels, kernel, tile, depth, counts["n"], depthwise)
        layer = len(self.layers)
        self.layers.append(self.levels)
        mmac = table.Mmac(x=0, y=3, act=0, wgt=1, acc=3, layer=layer, split_m=16, split_n=min(4, -(-tn // 8)))
        body = self._weights_outer(mmac) if weights_outer else self._weights_inner(mmac)
        for queue, semaphore in ((2, WF), (3, PF), (2, AF), (3, CF)):
            body = [SYNC[Queue(queue)](signal0=semaphore)] * 2 + body
        for queue, semaphore in ((4, WF), (4, PF), (1, AF), (2, CF)):
            body = body + [SYNC[Queue(queue)](wait0=semaphore)] * 2
        for item in body:
            if isinstance(item, str):
                if item.lstrip("/") in depth:
                    self.code.append(table.End() if item[0] == "/" else table.Loop(count=counts[item]))
            else:
                self.code.append(item)
        self.debug.append(DebugEntry(start, len(self.code), f"conv{layer}", "Conv", ic * oc))

    def _weights_outer(self, mmac: table.Mmac) -> list[Instr | str]:
        return [
            "n",
            table.LoadTerms(t=1, p=1, wait0=WF, signal0=WR),
            table.LoadParams(t=2, p=2, wait0=PF, signal0=PR),
            table.SyncCompute(wait0=WR),
            table.SyncStore(wait0=PR),
            "h",
            "w",
            table.Load(t=0, p=0, wait0=AF, signal0=AR),
            dataclasses.replace(mmac, wait0=AR, wait1=CF, signal0=AF, signal1=CR),
            table.StoreAcc(t=3, acc=3, prm=2, wait0=CR, signal0=CF),
            "/w",
            "/h",
            table.SyncCompute(signal0=WF),
            table.SyncStore(signal0=PF),
            "/n",
        ]

    def _weights_inner(self, mmac: table.Mmac) -> list[Instr | str]:
        return [
            "h",
            "w",
            table.Load(t=0, p=0, wait0=AF, signal0=AR),
            table.SyncCompute(wait0=AR),
            "n",
            table.LoadTerms(t=1, p=1, wait0=WF, signal0=WR),
            table.LoadParams(t=2, p=2, wait0=PF, signal0=PR),
            dataclasses.replace(mmac, wait0=WR, wait1=CF, signal0=WF, signal1=CR),
            table.StoreAcc(t=3, acc=3, prm=2, wait0=CR, wait1=PR, signal0=CF, signal1=PF),
            "/n",
            table.SyncCompute(signal0=AF),
            "/w",
            "/h",
        ]

    def _registers(
        self,
        size: tuple[int, int],
        channels: tuple[int, int],
        kernel: int,
        tile: tuple[int, int, int],
        depth: dict[str, int],
        tiles: int,
        depthwise: bool,
    ) -> None:
        (height, width), (ic, oc), (th, tw, tn) = size, channels, tile
        at = {name: depth.get(name, NONE_LOOP) for name in "nhw"}
        one, pad = (0, 1, 0, NONE_LOOP), kernel // 2
        x_channels = (0, tn, tn, at["n"]) if depthwise else (0, ic, 0, NONE_LOOP)
        x_walk = [one, (-pad, th + 2 * pad, th, at["h"]), (-pad, tw + 2 * pad, tw, at["w"]), x_channels]
        y_walk = [one, (0, th, th, at["h"]), (0, tw, tw, at["w"]), (0, tn, tn, at["n"])]
        shape_x, shape_y = (1, height, width, ic), (1, height, width, oc)
        rng = np.random.default_rng(self.seed + len(self.layers))
        entries = directory(tiles, len(self.levels), rng)
        self.code += view(0, 0, 1, shape_x, dense(shape_x), x_walk)
        size_ = entries.itemsize
        self.code += view(
            1, self.address, size_, (1, 1, 1, tiles), (0, 0, 0, size_), [one, one, one, (0, 1, 1, at["n"])]
        )
        self.code += view(2, 0, 8, (1, 1, 1, oc), (0, 0, 0, 8), [one, one, one, (0, tn, tn, at["n"])])
        self.code += view(3, 1 << 20, 1, shape_y, dense(shape_y), y_walk)
        masks = {name: 0 if loop == NONE_LOOP else 1 << loop for name, loop in at.items()}
        weight_mask = masks["n"] if at["n"] == NONE_LOOP or at["n"] == 0 else masks["n"] | masks["h"] | masks["w"]
        self.code.append(table.Pointer(p=0, pad=table.Pad.ACT, addr=0, toggle=1 << 18))
        self.code.append(table.Pointer(p=1, pad=table.Pad.WGT, addr=0, toggle=1 << 19, mask=weight_mask))
        self.code.append(table.Pointer(p=2, pad=table.Pad.PRM, addr=0, toggle=1 << 16))
        self.code.append(table.Pointer(p=3, pad=table.Pad.ACC, addr=0, toggle=1 << 19))
        window = {
            "kernel_h": kernel,
            "kernel_w": kernel,
            "stride_h": 1,
            "stride_w": 1,
            "dilation_h": 1,
            "dilation_w": 1,
        }
        self.code.append(table.Conv(**window, ic=1 if depthwise else ic, oc=1 if depthwise else oc))
        self.entries.append(entries)
        self.address += entries.nbytes

    def build(self) -> Program:
        return program(self.code, np.concatenate(self.entries), self.layers, self.levels, self.debug)


# ---------------------------------------------------------------------------------------------------- random code

LEVELS = (Level(4, 1), Level(8, 2), Level(14, 3))
TILES = 24


@dataclass
class Random:
    """Random loop nests over random walks, with random tokens that balance."""

    rng: random.Random
    code: list[Instr] = field(default_factory=list)

    def build(self) -> Program:
        entries = directory(TILES, len(LEVELS), np.random.default_rng(self.rng.randrange(1 << 30)))
        if self.rng.random() < 0.5:  # long runs of equal tiles
            entries[:] = entries[np.arange(TILES) // self.rng.randint(2, 9)]
        debug = []
        for number in range(self.rng.randint(1, 3)):
            start = len(self.code)
            self.configure(entries.itemsize)
            self.nest()
            debug.append(DebugEntry(start, len(self.code), f"node{number}", "Any"))
            if self.rng.random() < 0.2:
                self.code.append(table.Host(segment=0))
        budgets = [LEVELS, [Level(v.alpha, min(5, v.beta + 1)) for v in LEVELS]]
        return program(self.code, entries, budgets, LEVELS, debug)

    def configure(self, entry_bytes: int) -> None:
        """Registers 4d … 4d+3 may depend on the loops outside depth d: x, directory, y, anything."""
        pick = self.rng.randint
        for d in range(4):
            for t in (4 * d, 4 * d + 2, 4 * d + 3):
                shape = [pick(1, 3), pick(1, 30), pick(1, 30), pick(1, 70)]
                strides = dense(shape) if self.rng.random() < 0.6 else [pick(1, 5000) for _ in shape]
                self.code += view(t, 0, pick(1, 2), shape, strides, self.walks(d, shape))
            loops = self.rng.sample(range(d), min(d, 2))
            walks = [(0, 1, 0, NONE_LOOP)] * 2 + [(0, 1, 1, loop) for loop in loops]
            walks += [(pick(0, 2), 1, 0, NONE_LOOP)] * (4 - len(walks))
            shape = [1, 1, 4, 4]
            self.code += view(4 * d + 1, 0, entry_bytes, shape, [0, 0, 4 * entry_bytes, entry_bytes], walks)
            mask = pick(0, (1 << d) - 1)
            for p, pad in ((4 * d, table.Pad.ACT), (4 * d + 1, table.Pad.WGT), (4 * d + 2, table.Pad.ACC)):
                self.code.append(table.Pointer(p=p, pad=pad, addr=1024 * d, toggle=512, mask=mask, phase=pick(0, 1)))
        window = {"kernel_h": pick(1, 3), "kernel_w": pick(1, 3), "stride_h": 1, "stride_w": 1}
        self.code.append(table.Conv(**window, dilation_h=1, dilation_w=1, ic=pick(1, 40), oc=pick(1, 40)))

    def walks(self, depth: int, shape: Sequence[int]) -> list[Walk]:
        loops = [*range(depth), NONE_LOOP, NONE_LOOP, NONE_LOOP, NONE_LOOP]
        self.rng.shuffle(loops)
        walks = []
        for size, loop in zip(shape, loops, strict=False):
            step = 0 if loop == NONE_LOOP else self.rng.randint(-size, size)
            walks.append((self.rng.randint(-size, size), self.rng.randint(1, size + 3), step, loop))
        return walks

    def nest(self) -> None:
        """A nest between the syncs that give its credits and take them back."""
        self.free = list(range(table.SEMAPHORES))
        self.before: list[Instr] = []
        self.after: list[Instr] = []
        body = self.block(0, [])
        self.code += [*self.before, *body, *self.after]

    def block(self, depth: int, loaded: list[int]) -> list[Instr]:
        """Operations and loops at a depth; `loaded` are the depths whose weights are there."""
        parts: list[list[Instr]] = []
        for _ in range(self.rng.randint(1, 4)):
            if depth < 3 and self.rng.random() < 0.5:
                inner = self.block(depth + 1, list(loaded))
                parts.append([table.Loop(count=self.rng.choice((1, 2, 3, 5))), *inner, table.End()])
            else:
                parts.append([self.operation(depth, loaded)])
        singles = [i for i, part in enumerate(parts) if len(part) == 1]
        for _ in range(self.rng.randint(0, 3)):
            self.token(parts, singles)
        return [instr for part in parts for instr in part]

    def operation(self, depth: int, loaded: list[int]) -> Instr:
        x, terms, y, z = range(4 * depth, 4 * depth + 4)
        choices: list[Instr] = [
            table.Load(t=x, p=x),
            table.Load(t=z, p=x),
            table.LoadParams(t=z, p=x),
            table.Store(t=y, p=x),
            table.StoreAcc(t=y, acc=y, prm=x),
            table.Vadd(a=x, b=x, y=y, pa=x, pb=x, out=x),
            table.Vavg(x=x, y=y, pa=x, out=x),
            table.SyncCompute(),
        ]
        if depth not in loaded and self.rng.random() < 0.5:
            loaded.append(depth)
            return table.LoadTerms(t=terms, p=terms)
        if loaded and self.rng.random() < 0.5:
            wgt, layer, split = 4 * self.rng.choice(loaded) + 1, self.rng.randint(0, 1), self.rng.choice((1, 2, 5))
            return table.Mmac(x=x, y=y, act=x, wgt=wgt, acc=y, layer=layer, split_m=split, split_n=2, split_k=split)
        return self.rng.choice(choices)

    def token(self, parts: list[list[Instr]], singles: list[int]) -> None:
        """One operation signals another; if the waiting one comes first, it lives on credits."""
        if not singles or not self.free:
            return
        giver, taker = self.rng.choice(singles), self.rng.choice(singles)
        give, take = parts[giver][0], parts[taker][0]
        slots = [f for f in ("signal0", "signal1") if getattr(give, f) == NONE_TOKEN]
        waits = [f for f in ("wait0", "wait1") if getattr(take, f) == NONE_TOKEN]
        if not slots or not waits:
            return
        semaphore = self.free.pop()
        parts[giver][0] = dataclasses.replace(parts[giver][0], **{slots[0]: semaphore})
        parts[taker][0] = dataclasses.replace(parts[taker][0], **{waits[0]: semaphore})
        for _ in range(self.rng.randint(0, 2) if taker > giver else self.rng.randint(1, 3)):
            self.before.append(SYNC[give.queue](signal0=semaphore))
            self.after.append(SYNC[take.queue](wait0=semaphore))
