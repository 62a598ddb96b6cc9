"""Pass `schedule`: turn each mapped operation into a loop nest with double buffering and tokens.

Needs: mappings (`tile`) and streams (`pack`). Guarantees: every operation has a `nest`; in program order every wait
has had its signal, each loop iteration takes as many tokens as it gives, and rings alternate slots from the first
operation to the last. Before/after (a 1 × 1 convolution whose pixels take four tiles)::

    array "conv" mapping(rows=8, …)      ->   load.terms; load.params; loop 4: load x; mmac; store.acc
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from mmac.compiler.passes import Pass
from mmac.compiler.tile.ir import (
    ArrayLayer,
    ArrayMapping,
    BoxMapping,
    Dims,
    HostCall,
    Move,
    Nest,
    Operation,
    Quantization,
    Statement,
    TileProgram,
    VectorOp,
    View,
    ViewRegister,
    Window,
)
from mmac.compiler.tile.rings import Loops, Rings, Token, WeightRings, give_credits, sync, take_credits, tokens
from mmac.isa import table
from mmac.isa.program import PARAM_DTYPE, directory_dtype
from mmac.isa.spec import LEVEL_LOOP, NONE_LOOP, float_bits
from mmac.runtime.targets import Target

Walk = tuple[int, int, int, int]
PIXELS = ("b", "h", "w")


@dataclass(frozen=True)
class Schedule(Pass[TileProgram, TileProgram]):
    """See the module's docstring."""

    name: ClassVar[str] = "schedule"
    target: Target

    def apply(self, module: TileProgram) -> TileProgram:
        """Fill in every operation's `nest`."""
        rings = Rings(self.target.scratchpads)
        levels = len(module.plan.levels)
        return replace(module, operations=tuple(_schedule(op, rings, levels) for op in module.operations))


def _schedule(op: Operation, rings: Rings, levels: int) -> Operation:
    match op:
        case ArrayLayer():
            return replace(op, nest=_array(op, rings, levels))
        case VectorOp():
            return replace(op, nest=_vector(op, rings))
        case Move():
            return replace(op, nest=_move(op, rings))
        case HostCall():
            body = (*take_credits(), table.Host(segment=op.segment), *give_credits())
            return replace(op, nest=Nest((), (), None, None, body))


# -------------------------------------------------------------------------------------------------------- array layers


def _array(op: ArrayLayer, rings: Rings, levels: int) -> Nest:
    if op.mapping is None or op.streams is None:
        raise ValueError(f"{op.name}: schedule needs tile and pack first")
    loops = array_loops(op, op.mapping)
    inner_x = op.mapping.weights_outer or loops.counts["k"] > 1
    inner_w = not op.mapping.weights_outer or loops.counts["k"] > 1
    outside = [n for n in loops.counts if n != "k"]
    params_at = ["n"] if op.mapping.weights_outer else outside
    held = rings.of_weights(op.streams.tile_bytes, op.mapping.channels * PARAM_DTYPE.itemsize)
    pointers = (
        rings.take("act", loops, [*outside, "k"] if inner_x else list(PIXELS)),
        rings.take(held.weights, loops, [*outside, "k"] if inner_w else ["n"]),
        rings.take(held.constants, loops, params_at),
        rings.take("acc", loops, outside),
    )
    views = _array_views(op, op.mapping, loops, levels)
    body = _array_body(op, loops, held, inner_x, inner_w)
    quant = quant_instruction(op.quantization)
    # a product over part of the channels is a narrower layer to the array
    ic, oc = (op.mapping.reduction, op.mapping.channels) if op.groups == 1 else (op.ic, op.oc)
    return Nest(views, pointers, conv_instruction(op.window, ic, oc), quant, body)


def array_loops(op: ArrayLayer, mapping: ArrayMapping) -> Loops:
    """The tile loops of a layer, in its mapping's order."""
    n, h, w, c = op.y.shape
    pixels = {"b": -(-n // mapping.batch), "h": -(-h // mapping.rows), "w": -(-w // mapping.columns)}
    channels = {"n": -(-c // mapping.channels)}
    order = channels | pixels if mapping.weights_outer else pixels | channels
    return Loops(order | {"k": -(-op.ic // mapping.reduction)})


def _array_views(op: ArrayLayer, m: ArrayMapping, loops: Loops, levels: int) -> tuple[ViewRegister, ...]:
    assert op.streams is not None
    w, streams = op.window, op.streams
    channels = _walk(loops, "k", m.reduction) if op.groups == 1 else _walk(loops, "n", m.channels // op.oc * op.ic)
    x_walk = (
        _walk(loops, "b", m.batch),
        _walk(loops, "h", w.rows(m.rows), m.rows * w.stride[0], -w.pad[0]),
        _walk(loops, "w", w.columns(m.columns), m.columns * w.stride[1], -w.pad[1]),
        channels,
    )
    y_walk = (
        _walk(loops, "b", m.batch),
        _walk(loops, "h", m.rows),
        _walk(loops, "w", m.columns),
        _walk(loops, "n", m.channels),
    )
    entry = directory_dtype(levels).itemsize
    total = streams.tiles_k * streams.tiles_n * entry
    shape, strides = (1, 1, streams.tiles_k, streams.tiles_n), (total, total, streams.tiles_n * entry, entry)
    directory = View(streams.directory, 0, shape, strides, entry)
    one: Walk = (0, 1, 0, NONE_LOOP)
    per_level: Walk = (0, 1, 1, LEVEL_LOOP) if op.params.shape[0] > 1 else one
    fill = op.quantization.a_zero & 0xFF
    return (
        ViewRegister(op.x, x_walk, fill),
        ViewRegister(directory, (one, one, _walk(loops, "k", 1), _walk(loops, "n", 1))),
        ViewRegister(op.params, (per_level, one, one, _walk(loops, "n", m.channels))),
        ViewRegister(op.y, y_walk),
    )


def _walk(loops: Loops, loop: str, extent: int, step: int | None = None, origin: int = 0) -> Walk:
    if loops.counts[loop] == 1:
        return (origin, extent, 0, NONE_LOOP)
    return (origin, extent, extent if step is None else step, loops.depth(loop))


def _array_body(op: ArrayLayer, loops: Loops, held: WeightRings, inner_x: bool, inner_w: bool) -> tuple[Statement, ...]:
    assert op.mapping is not None
    assert op.streams is not None
    load_x = table.Load(t=0, p=0, **tokens([Token.ACT_FREE], [Token.ACT_READY]))
    load_w = table.LoadTerms(t=1, p=1, format=op.streams.format, **tokens([held.wgt_free], [held.wgt_ready]))
    load_p = table.LoadParams(t=2, p=2, **tokens([held.prm_free], [held.prm_ready]))
    has_k = loops.counts["k"] > 1
    accumulators = ([], []) if has_k else ([Token.ACC_FREE], [Token.ACC_READY])
    waits = [Token.ACT_READY] * inner_x + [held.wgt_ready] * inner_w + accumulators[0]
    signals = [Token.ACT_FREE] * inner_x + [held.wgt_free] * inner_w + accumulators[1]
    per_k: list[Statement] = [*[load_x] * inner_x, *[load_w] * inner_w, _mmac(op, loops, waits, signals)]
    product = [*loops.wrap(["k"], per_k)]
    if has_k:
        product = [
            *sync(table.SyncCompute, wait=[Token.ACC_FREE]),
            *product,
            *sync(table.SyncCompute, signal=[Token.ACC_READY]),
        ]
    dram = sync(table.SyncLoad, wait=[Token.DRAM_READY])
    done = sync(table.SyncStore, signal=[Token.DRAM_READY])
    if op.mapping.weights_outer:
        store = table.StoreAcc(t=3, acc=3, prm=2, **tokens([Token.ACC_READY], [Token.ACC_FREE]))
        tile = [
            *[load_w] * (not inner_w),
            load_p,
            *([] if inner_w else sync(table.SyncCompute, wait=[held.wgt_ready])),
            *sync(table.SyncStore, wait=[held.prm_ready]),
            *loops.wrap(PIXELS, [*product, store]),
            *([] if inner_w else sync(table.SyncCompute, signal=[held.wgt_free])),
            *sync(table.SyncStore, signal=[held.prm_free]),
        ]
        return (*dram, *loops.wrap(["n"], tile), *done)
    store = table.StoreAcc(
        t=3, acc=3, prm=2, **tokens([Token.ACC_READY, held.prm_ready], [Token.ACC_FREE, held.prm_free])
    )
    # constants wait for an earlier store: the weights, which are needed sooner, go first
    body = loops.wrap(["n"], [*product, load_p, store])
    if not inner_x:
        body = (
            load_x,
            *sync(table.SyncCompute, wait=[Token.ACT_READY]),
            *body,
            *sync(table.SyncCompute, signal=[Token.ACT_FREE]),
        )
    return (*dram, *loops.wrap(PIXELS, body), *done)


def _mmac(op: ArrayLayer, loops: Loops, waits: list[Token], signals: list[Token]) -> table.Mmac:
    assert op.mapping is not None
    assert op.streams is not None
    return table.Mmac(
        x=0,
        y=3,
        act=0,
        wgt=1,
        acc=3,
        layer=op.layer,
        format=op.streams.format,
        first=loops.depth("k"),
        split_m=op.mapping.split_m,
        split_n=op.mapping.split_n,
        split_k=op.mapping.split_k,
        multipliers=sum(1 << level for level in op.mapping.multipliers),
        **tokens(waits, signals),
    )


# -------------------------------------------------------------------------------------------- vector operations, moves


def _box_loops(y: Dims, box: Dims) -> Loops:
    return Loops({name: -(-size // tile) for name, size, tile in zip("bhwc", y, box, strict=True)})


def _box_walk(shape: Dims, box: Dims, loops: Loops, window: Window | None = None) -> tuple[Walk, ...]:
    """Walk of an operand over the box loops; a dimension of size 1 is broadcast."""
    walks = []
    for axis, (name, size, tile) in enumerate(zip("bhwc", shape, box, strict=True)):
        if window is not None and axis in (1, 2):
            extent = window.rows(tile) if axis == 1 else window.columns(tile)
            walks.append(_walk(loops, name, extent, tile * window.stride[axis - 1], -window.pad[axis - 1]))
        elif size == 1:
            walks.append((0, 1, 0, NONE_LOOP))
        else:
            walks.append(_walk(loops, name, tile))
    return tuple(walks)


def _vector(op: VectorOp, rings: Rings) -> Nest:
    box = _mapped(op.mapping, op.name)
    loops = _box_loops(op.y.shape, box)
    names = list(loops.counts)
    y = ViewRegister(op.y, _box_walk(op.y.shape, box, loops))
    a = ViewRegister(op.a, _box_walk(op.a.shape, box, loops, op.window), op.fill)
    act, out = rings.take("act", loops, names), rings.take("out", loops, names)
    before = sync(table.SyncLoad, wait=[Token.DRAM_READY])
    after: list[Statement] = []
    load = [table.Load(t=1, p=1, **tokens([Token.ACT_FREE], [Token.ACT_READY]))]
    waits, signals = [Token.ACT_READY, Token.OUT_FREE], [Token.ACT_FREE, Token.OUT_READY]
    common = tokens(waits, signals)
    views, pointers, extra = [y, a], [out, act], []
    compute: Statement
    if op.b is not None:
        views.append(ViewRegister(op.b, _box_walk(op.b.shape, box, loops)))
        pointers.append(rings.take("aux", loops, names))
        load = [
            table.Load(t=1, p=1, **tokens([Token.ACT_FREE])),
            table.Load(t=2, p=2, **tokens([Token.AUX_FREE], [Token.ACT_READY])),
        ]
        binary = table.Vadd if op.op == "vadd" else table.Vmul
        compute = binary(y=0, out=0, a=1, pa=1, b=2, pb=2, **common)
        extra = sync(table.SyncCompute, signal=[Token.AUX_FREE])
    elif op.table is not None:
        views.append(ViewRegister(op.table, tuple((0, size, 0, NONE_LOOP) for size in op.table.shape)))
        pointers.append(rings.take("table", loops, []))
        before = [
            table.LoadParams(t=2, p=2, **tokens([Token.TABLE_FREE], [Token.TABLE_READY])),
            *sync(table.SyncCompute, wait=[Token.TABLE_READY]),
            *before,
        ]
        after = sync(table.SyncCompute, signal=[Token.TABLE_FREE])
        compute = table.Vtable(y=0, out=0, pa=1, table=2, **common)
    else:
        pool = table.Vmax if op.op == "vmax" else table.Vavg
        compute = pool(y=0, out=0, x=1, pa=1, **common)
    store = table.Store(t=0, p=0, **tokens([Token.OUT_READY], [Token.OUT_FREE]))
    body = (
        *before,
        *loops.wrap(names, [*load, compute, *extra, store]),
        *after,
        *sync(table.SyncStore, signal=[Token.DRAM_READY]),
    )
    conv = None if op.window is None else conv_instruction(op.window, 1, 1, op.count_pad)
    return Nest(tuple(views), tuple(pointers), conv, quant_instruction(op.quantization), body)


def _move(op: Move, rings: Rings) -> Nest:
    box = _mapped(op.mapping, op.name)
    loops = _box_loops(op.outs[0].shape, box)
    names = list(loops.counts)
    walk = _box_walk(op.outs[0].shape, box, loops)
    x_walk = tuple((start, extent, step, loop) for start, (_, extent, step, loop) in zip(op.origin, walk, strict=True))
    views = (ViewRegister(op.x, x_walk, op.fill), *(ViewRegister(y, walk) for y in op.outs))
    last = len(op.outs)
    stores = [
        table.Store(
            t=i,
            p=0,
            **tokens([Token.MOVE_READY] if i == 1 else [], [Token.MOVE_DONE] if i == last else []),
        )
        for i in range(1, last + 1)
    ]
    body = (
        *sync(table.SyncLoad, wait=[Token.DRAM_READY]),
        *loops.wrap(
            names,
            [
                table.Load(t=0, p=0, **tokens([Token.ACT_FREE], [Token.MOVE_READY])),
                *stores,
                # the compute queue hands out the credits of this ring
                *sync(table.SyncCompute, wait=[Token.MOVE_DONE], signal=[Token.ACT_FREE]),
            ],
        ),
        *sync(table.SyncStore, signal=[Token.DRAM_READY]),
    )
    return Nest(views, (rings.take("act", loops, names),), None, None, body)


def _mapped(mapping: BoxMapping | None, name: str) -> Dims:
    if mapping is None:
        raise ValueError(f"{name}: schedule needs tile first")
    return mapping.box


# ---------------------------------------------------------------------------------------------------------- registers


def conv_instruction(window: Window, ic: int, oc: int, count_pad: bool = False) -> table.Conv:
    """The `conv` register contents for a window."""
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.stride, window.dilation
    return table.Conv(
        kernel_h=kh, kernel_w=kw, stride_h=sh, stride_w=sw, dilation_h=dh, dilation_w=dw, ic=ic, oc=oc,
        count_pad=int(count_pad),
    )  # fmt: skip


def quant_instruction(q: Quantization) -> table.Quant:
    """The `quant` register contents."""
    return table.Quant(
        a_scale=float_bits(q.a_scale), b_scale=float_bits(q.b_scale), a_zero=q.a_zero, b_zero=q.b_zero,
        y_zero=q.y_zero, y_min=q.y_min, y_max=q.y_max, a_signed=int(q.a_signed), b_signed=int(q.b_signed),
        y_signed=int(q.y_signed),
    )  # fmt: skip
