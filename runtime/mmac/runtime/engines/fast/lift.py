"""Proving that a loop nest is one whole-tensor operation.

Everything that is needed follows from linear identities between the walks of its operands: the boxes of the result
tile it, and in every iteration the boxes of the operands start where that box needs them. Nothing is taken from the
debug map. A nest for which this fails stays what it is (`Opaque`), and runs on the reference engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.program import PARAM_DTYPE, Program, directory_dtype
from mmac.isa.spec import LEVEL_LOOP, NONE_LOOP, Instr
from mmac.isa.structure import Node, Op, Step, View
from mmac.runtime.engines.fast.layers import (
    Binary,
    Convolution,
    Copy,
    Layer,
    Lookup,
    Opaque,
    Pool,
    Reading,
    Tiles,
    Window,
    codes,
)
from mmac.runtime.engines.fast.nests import Leaf, Nest, NotProvedError, covers, leaves, moves
from mmac.runtime.engines.fast.regions import Region


def lift(program: Program, nodes: tuple[Node, ...]) -> Layer:
    """What the nodes of one nest (see `nests.cut`) compute."""
    nest = Nest(tuple(leaves(nodes)))
    if not nest.leaves:
        return Copy((), ())
    try:
        layer = _Lift(program, nest).run()
        _check(layer)
    except NotProvedError as reason:
        return opaque(nodes, nest, str(reason))
    return layer


def opaque(nodes: tuple[Node, ...], nest: Nest, reason: str) -> Opaque:
    """A nest that runs on the reference engine."""
    loads = tuple(byte_region(leaf.op.views["t"]) for leaf in nest.all(table.Load))
    stores = (*nest.all(table.Store), *nest.all(table.StoreAcc))
    writings = tuple(byte_region(leaf.op.views["t"]) for leaf in stores)
    return Opaque(nodes, tuple(map(Reading.whole, loads)), writings, reason)


def byte_region(view: View) -> Region:
    """All bytes of a tensor register."""
    if view.elem == 1:
        return Region.of(view)
    return Region(view.base, (*view.shape, view.elem), (*view.strides, 1))


def _check(layer: Layer) -> None:
    """Refuse what whole-tensor execution would not give the meaning of instruction by instruction execution."""
    for y in layer.writings:
        if not y.is_nested:
            raise NotProvedError("elements of the result share bytes")
    outputs = layer.writings
    for y in outputs:
        # an elementwise operation may put each box back in its place, as all boxes of a result are apart
        in_place = Reading.whole(y) if isinstance(layer, Binary | Lookup) else None
        if any(reading != in_place and y.overlaps(reading.region) for reading in layer.readings):
            raise NotProvedError("operand and result overlap")
    if any(y.overlaps(other) for i, y in enumerate(outputs) for other in outputs[:i]):
        raise NotProvedError("results overlap")


class _Lift:
    """One attempt; every method raises NotProvedError if what it needs does not hold."""

    def __init__(self, program: Program, nest: Nest) -> None:
        self.program, self.nest = program, nest

    def run(self) -> Layer:
        """Try what the nest's only computation suggests."""
        compute = [leaf.op.instr for leaf in self.nest.leaves if "out" in leaf.op.rings or "acc" in leaf.op.rings]
        kinds: set[type[Instr]] = {type(instr) for instr in compute if not isinstance(instr, table.StoreAcc)}
        if not kinds:
            return self.copy()
        if len(kinds) > 1:
            raise NotProvedError("several computations")
        match kinds.pop():
            case table.Mmac:
                return self.convolution()
            case table.Vtable:
                return self.lookup()
            case table.Vadd:
                return self.binary(table.Vadd)
            case table.Vmul:
                return self.binary(table.Vmul)
            case table.Vmax:
                return self.pool(table.Vmax)
            case table.Vavg:
                return self.pool(table.Vavg)
        raise NotProvedError("an unknown computation")

    # ------------------------------------------------------------------------------------------------ array layers

    def convolution(self) -> Convolution:
        """Array layer: loads of x, weights and constants, `mmac`, `store.acc`."""
        instr, mmac = self.nest.one(table.Mmac)
        _, store = self.nest.one(table.StoreAcc)
        x, y = mmac.op.views["x"], mmac.op.views["y"]
        conv, source, result = mmac.op.conv, mmac.op.quant, store.op.quant
        if conv is None or source is None or result is None or store.op.views["t"] != y:
            raise NotProvedError("the result is not stored as it is computed")
        covers(self.nest, store, y)
        self._operand(mmac, "act", x)
        self._accumulates(instr, mmac, store)
        constants = self._loaded(store, "prm")
        if constants.box != (1, 1, 1, y.box[3]) or moves(constants.walk[3], y.walk[3]):
            raise NotProvedError("constants of other channels")
        _in_range(source.a_zero, source.a_signed)
        _result(result)
        groups = self._channels(conv, x, y, instr.first)
        if conv.ic * -(-x.shape[3] // conv.ic) != x.shape[3] and x.fill != source.a_zero & 0xFF:
            raise NotProvedError("a last reduction tile that is not filled with zeros")
        self._constants(constants, y.shape[3])
        weights = self.nest.producer(mmac, "wgt").op
        return Convolution(
            x=Region.of(x), y=Region.of(y), window=_window(conv, x, y), fill=x.fill, zero=source.a_zero & 0xFF,
            groups=groups, tiles=self._tiles(weights, instr, y, conv.ic), params=constants,
            source=source, result=result,
        )  # fmt: skip

    def _accumulates(self, instr: table.Mmac, mmac: Leaf, store: Leaf) -> None:
        """The sums that are stored are those of all iterations of the reduction loop, and of no others."""
        if store.op.rings["acc"] != mmac.op.rings["acc"] or mmac.op.pc > store.op.pc:
            raise NotProvedError("accumulators of another operation")
        inner = len(mmac.path) - len(store.path)
        if inner != (instr.first != NONE_LOOP) or (inner and instr.first != len(store.path)):
            raise NotProvedError("sums over a loop other than the innermost")

    def _channels(self, conv: table.Conv, x: View, y: View, reduction: int) -> int:
        """Number of convolution groups; checks which input channels meet which output channels."""
        step, box = x.walk[3], y.box[3]
        if box <= conv.oc and step.loop in (reduction, NONE_LOOP):
            whole = self.nest.count(reduction) * conv.ic
            if step.origin or step.extent != conv.ic or not whole - conv.ic < x.shape[3] <= whole:
                raise NotProvedError("the reduction is not covered")
            if reduction != NONE_LOOP and step.step != step.extent:
                raise NotProvedError("reduction tiles are not consecutive")
            return 1
        groups = y.shape[3] // conv.oc
        scaled = Step(step.origin * conv.oc, 0, step.step * conv.oc, step.loop)
        if moves(scaled, y.walk[3], conv.ic) or reduction != NONE_LOOP:
            raise NotProvedError("channel groups of x and y differ")
        if y.walk[3].origin % conv.oc or box % conv.oc or step.extent != box // conv.oc * conv.ic:
            raise NotProvedError("part of a channel group")
        if (y.shape[3], x.shape[3]) != (groups * conv.oc, groups * conv.ic):
            raise NotProvedError("part of a channel group")
        return groups

    def _tiles(self, weights: Op, instr: table.Mmac, y: View, reduction: int) -> Tiles:
        directory = weights.views["t"]
        if not isinstance(weights.instr, table.LoadTerms):
            raise NotProvedError("weights that are not term streams")
        entry = directory_dtype(len(self.program.plan.levels)).itemsize
        if directory.elem != entry or directory.box != (1, 1, 1, 1):
            raise NotProvedError("a directory of another kind")
        loops = (instr.first, y.walk[3].loop)
        entries = np.full([self.nest.count(loop) for loop in loops], directory.base, np.int64)
        for step, size, stride in zip(directory.walk, directory.shape, directory.strides, strict=True):
            if step.loop not in (NONE_LOOP, *loops):
                raise NotProvedError("weights depend on the pixel")
            starts = step.origin + step.step * np.arange(self.nest.count(step.loop))
            if starts.min() < 0 or starts.max() >= size:
                raise NotProvedError("outside the directory")
            entries += stride * (starts[:, None] if step.loop == loops[0] != NONE_LOOP else starts)
        self._constant(int(entries.min()), int(entries.max()) + entry)
        return Tiles(instr.layer, table.TermFormat(instr.format), entries, y.box[3], -y.walk[3].origin, reduction)

    # -------------------------------------------------------------------------------- vector operations and copies

    def binary(self, kind: type[table.Vadd | table.Vmul]) -> Binary:
        """Two loads, `vadd` or `vmul`, `store`."""
        _, leaf = self.nest.one(kind)
        y = self._stored(leaf)
        quant = leaf.op.quant
        if quant is None:
            raise NotProvedError("no quantization")
        for field, ring in (("a", "pa"), ("b", "pb")):
            view = leaf.op.views[field]
            self._operand(leaf, ring, view)
            _broadcasts(view, y)
        _in_range(quant.a_zero, quant.a_signed)
        _in_range(quant.b_zero, quant.b_signed)
        _result(quant)
        _finite(quant.a_scale, *([quant.b_scale] if kind is table.Vadd else []))
        a, b = (Region.of(leaf.op.views[field]) for field in "ab")
        return Binary(a, b, Region.of(y), kind is table.Vmul, quant)

    def lookup(self) -> Lookup:
        """A table and a tensor loaded, `vtable`, `store`."""
        _, leaf = self.nest.one(table.Vtable)
        y = self._stored(leaf)
        x = self._loaded(leaf, "pa")
        self._operand(leaf, "pa", x)
        _same_boxes(x, y)
        values = self._loaded(leaf, "table")
        if values.elem != 1 or math.prod(values.box) != 256 or any(s.loop != NONE_LOOP for s in values.walk):
            raise NotProvedError("a table that moves")
        start = [step.origin for step in values.walk]
        if any(s < 0 or s + n > size for s, n, size in zip(start, values.box, values.shape, strict=True)):
            raise NotProvedError("a table that is clipped")
        region = Region.of(values).box(start, values.box)
        self._constant(*region.span)
        return Lookup(Region.of(x), Region.of(y), region.window(self.program.image).reshape(256).copy())

    def pool(self, kind: type[table.Vmax | table.Vavg]) -> Pool:
        """A load, `vmax` or `vavg`, `store`."""
        _, leaf = self.nest.one(kind)
        y, x = self._stored(leaf), leaf.op.views["x"]
        conv, quant = leaf.op.conv, leaf.op.quant
        if conv is None or quant is None:
            raise NotProvedError("no geometry")
        self._operand(leaf, "pa", x)
        if moves(x.walk[3], y.walk[3]) or x.shape[3] != y.shape[3]:
            raise NotProvedError("other channels")
        average = kind is table.Vavg
        if average:
            _in_range(quant.a_zero, quant.a_signed)
            _result(quant)
            _finite(quant.a_scale)
            if conv.kernel_h * conv.kernel_w >= 1 << 16:
                raise NotProvedError("a window whose sum binary32 may not hold")
        zero = quant.a_zero & 0xFF if average else 0x80 * quant.a_signed
        if average and zero != x.fill:
            raise NotProvedError("an average with padding that is not zero")
        return Pool(
            x=Region.of(x), y=Region.of(y), window=_window(conv, x, y), fill=x.fill, zero=zero,
            average=average, count_pad=bool(conv.count_pad), quant=quant,
        )  # fmt: skip

    def copy(self) -> Copy:
        """A load and stores of the same box."""
        _, load = self.nest.one(table.Load)
        x = load.op.views["t"]
        stores = self.nest.all(table.Store)
        if x.elem != 1 or len(stores) + 1 != len(self.nest.leaves):
            raise NotProvedError("not a plain copy")
        readings = []
        for leaf in stores:
            y = leaf.op.views["t"]
            covers(self.nest, leaf, y)
            if self.nest.producer(leaf, "p") is not load or x.box != y.box or y.elem != 1:
                raise NotProvedError("load and store differ")
            origin = tuple(moves(a, b) for a, b in zip(x.walk, y.walk, strict=True))
            readings.append(Reading(Region.of(x), origin, y.shape, x.fill))
        return Copy(tuple(readings), tuple(Region.of(leaf.op.views["t"]) for leaf in stores))

    # --------------------------------------------------------------------------------------------------- ingredients

    def _loaded(self, reader: Leaf, field: str) -> View:
        """The view whose current box `reader` finds at a pointer."""
        source = self.nest.producer(reader, field).op
        if not isinstance(source.instr, table.Load):
            raise NotProvedError(f"instruction {reader.op.pc} reads at {field} what was not loaded")
        return source.views["t"]

    def _operand(self, reader: Leaf, field: str, view: View) -> None:
        """What `reader` finds at a pointer is the current box of `view`."""
        if self._loaded(reader, field) != view or view.elem != 1:
            raise NotProvedError(f"instruction {reader.op.pc} takes for {field} what was loaded as something else")

    def _stored(self, leaf: Leaf) -> View:
        """The view that receives the box which `leaf` computes."""
        _, store = self.nest.one(table.Store)
        y = leaf.op.views["y"]
        if self.nest.producer(store, "p") is not leaf or store.op.views["t"] != y or store.path != leaf.path:
            raise NotProvedError("the result is not stored as it is computed")
        if y.elem != 1:
            raise NotProvedError("elements of several bytes")
        covers(self.nest, store, y)
        return y

    def _constants(self, view: View, channels: int) -> None:
        """Biases and scales of every channel and level are in the image, and numbers."""
        levels = range(len(self.program.plan.levels))
        for step, size in zip(view.walk[:3], view.shape[:3], strict=True):
            fixed = step.loop in (NONE_LOOP, LEVEL_LOOP) and step.extent == 1
            if not fixed or not all(0 <= step.start((), level) < size for level in levels):
                raise NotProvedError("constants that depend on the pixel")
        if view.shape[3] < channels or view.elem != PARAM_DTYPE.itemsize:
            raise NotProvedError("constants of another kind")
        self._constant(*byte_region(view).span)
        if not all(np.isfinite(params(self.program, view, channels, level)["scale"]).all() for level in levels):
            raise NotProvedError("a scale that is not a number")

    def _constant(self, low: int, high: int) -> None:
        if low < 0 or high > self.program.image.size:
            raise NotProvedError("constants that are not part of the image")


def params(program: Program, view: View, channels: int, level: int) -> npt.NDArray[np.void]:
    """The constants (`PARAM_DTYPE`) of all channels of a layer at a level."""
    walk = (*view.walk[:3], Step(0, 1))
    start = [step.start((), level) for step in walk]
    base = view.base + sum(s * stride for s, stride in zip(start, view.strides, strict=True))
    values: npt.NDArray[np.void] = np.ndarray(channels, PARAM_DTYPE, program.image, base, (view.strides[3],))
    return values.copy()


def _window(conv: table.Conv, x: View, y: View) -> Window:
    stride = (conv.stride_h, conv.stride_w)
    if x.shape[0] != y.shape[0] or moves(x.walk[0], y.walk[0]):
        raise NotProvedError("batches of x and y differ")
    pad = tuple(-moves(x.walk[d], y.walk[d], s) for d, s in zip((1, 2), stride, strict=True))
    kernel, dilation = (conv.kernel_h, conv.kernel_w), (conv.dilation_h, conv.dilation_w)
    return Window(kernel, stride, dilation, (pad[0], pad[1]))


def _same_boxes(x: View, y: View) -> None:
    if x.shape != y.shape or x.box != y.box or any(moves(a, b) for a, b in zip(x.walk, y.walk, strict=True)):
        raise NotProvedError("boxes of operand and result differ")


def _broadcasts(x: View, y: View) -> None:
    """Each dimension of x has the boxes of y, or is a single element."""
    for size, a, whole, b in zip(x.shape, x.walk, y.shape, y.walk, strict=True):
        single = size == 1 and a == Step(0, 1)
        if not single and (size != whole or a.extent != b.extent or moves(a, b)):
            raise NotProvedError("boxes of operand and result differ")


def _in_range(zero: int, signed: int) -> None:
    if not 0 <= codes(zero, signed) <= 255:
        raise NotProvedError("a zero point outside the type")


def _result(quant: table.Quant) -> None:
    _in_range(quant.y_zero, quant.y_signed)
    low, high = codes(quant.y_min, quant.y_signed), codes(quant.y_max, quant.y_signed)
    if not 0 <= low <= high <= 255:
        raise NotProvedError("a clamp outside the type")


def _finite(*scales: int) -> None:
    values: Sequence[float] = np.array(scales, np.uint32).view(np.float32).tolist()
    if not all(map(math.isfinite, values)):
        raise NotProvedError("a scale that is not a number")
