"""From layers to steps, for one level: which kernel, which table before it, and what needs no step at all.

Truncation of data, clamps, table operations and the change between int8 and uint8 are all functions of one byte. They
are carried along as tables beside the arrays, and composed; one step applies them just before a kernel reads, unless
the composition changes nothing. Copies that keep the order of elements only give an array another place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.isa import terms
from mmac.isa.program import Program, TensorInfo
from mmac.runtime.engines.fast import convolutions, kernels, lift, steps
from mmac.runtime.engines.fast.dataflow import Dataflow, Piece, Read, Writer
from mmac.runtime.engines.fast.kernels import Interleave, Operand, Task, Unfold, Values
from mmac.runtime.engines.fast.layers import Binary, Convolution, Copy, Layer, Lookup, Opaque, Pool, Window, codes
from mmac.runtime.engines.fast.operands import fit_data
from mmac.runtime.engines.fast.regions import Access
from mmac.runtime.engines.fast.steps import (
    Action,
    Array,
    Assemble,
    Call,
    Fetch,
    Keep,
    Part,
    Put,
    Replace,
    Run,
    Step,
    Translate,
)
from mmac.runtime.engines.fast.weights import weights
from mmac.runtime.memory import Bytes

Mask = npt.NDArray[np.bool_]

_SAME: Bytes = np.arange(256, dtype=np.uint8)
_ANY: Mask = np.ones(256, np.bool_)


@dataclass(frozen=True)
class Value:
    """A result of a layer: an array, and the DRAM byte that each byte in it stands for.

    `present` are the bytes that can occur in the array.
    """

    array: Array
    shape: tuple[int, ...]
    table: Bytes
    present: Mask

    @property
    def possible(self) -> Mask:
        """DRAM bytes that can occur."""
        return _image(self.table, self.present)


Cache = dict[tuple[int, int | None], tuple[Task, ...]]
"""Tasks that compute a layer, by layer and level (None if the level does not matter)."""


@dataclass
class Schedule:
    """Collects the steps of one segment at one level.

    Attributes:
        program: the program.
        layers: of the segment, with what `dataflow.analyse` found out about them.
        level: number of the level.
        cache: kernels that exist already; new ones are added.
        threads: for kernels.
        execute: makes the action of an opaque layer.
    """

    program: Program
    layers: Sequence[Layer]
    flow: Dataflow
    level: int
    cache: Cache
    threads: int
    execute: Callable[[Opaque], Action]

    def run(self) -> list[Step]:
        """All steps, in order."""
        self.steps: list[Step] = []
        self.values: dict[Writer, Value] = {}
        self.operands: dict[object, Array] = {}
        for number, layer in enumerate(self.layers):
            for result, value in enumerate(self._layer(number, layer, self.flow.reads[number])):
                self.values[number, result] = value
                if (number, result) in self.flow.stored:
                    region = layer.writings[result]
                    self.steps.append(Put(value.array, _bytes(value.table, value.present), region))
            for name, read in self.flow.kept[number].items():
                self._keep(self.program.tensor[name], read)
        return self.steps

    def _layer(self, number: int, layer: Layer, reads: tuple[Read, ...]) -> Sequence[Value]:
        match layer:
            case Opaque():
                self.steps.append(Call(self.execute(layer)))
                return ()
            case Copy():
                return [self._copy(read) for read in reads]
            case Lookup():
                value = self._copy(reads[0])
                return [Value(value.array, value.shape, layer.table[value.table], value.present)]
        output = Array(layer.y.size)
        self._compute(self._tasks(number, layer, reads), reads, output)
        present = _ANY
        if isinstance(layer, Pool) and not layer.average:
            present = _image(kernels.shift(layer.quant.a_signed), self._possible(reads[0]))
        return [Value(output, layer.y.shape, _result_table(layer), present)]

    # --------------------------------------------------------------------------------------------------- kernels

    def _tasks(self, number: int, layer: Convolution | Binary | Pool, reads: tuple[Read, ...]) -> tuple[Task, ...]:
        key = (number, self.level if isinstance(layer, Convolution) else None)
        if key not in self.cache:
            match layer:
                case Binary():
                    self.cache[key] = (kernels.binary(layer, self.threads),)
                case Pool():
                    self.cache[key] = (kernels.pool(layer, self.threads),)
                case Convolution():
                    self.cache[key] = self._convolution(layer, self._possible(reads[0]))
        return self.cache[key]

    def _convolution(self, layer: Convolution, possible: Mask) -> tuple[Task, ...]:
        source = layer.source
        beta = self.program.plan.layers[layer.tiles.layer].levels[self.level].beta
        truncated = terms.data_table(source.a_zero, bool(source.a_signed), beta)
        constants = lift.params(self.program, layer.params, layer.y.shape[3], self.level)
        values = weights(self.program, layer, self.level)
        data = fit_data(truncated, possible, codes(source.a_zero, source.a_signed))
        return convolutions.convolution(layer, data, values, constants, self.threads)

    def _compute(self, tasks: tuple[Task, ...], reads: tuple[Read, ...], output: Array) -> None:
        for task in tasks:
            kernel = task.kernel
            inputs = tuple(self._operand(r, o) for r, o in zip(reads, task.operands, strict=True))
            result = output if task.channels is None else Array(math.prod(kernel.output))
            self.steps.append(Run(kernel, inputs, result))
            if task.channels is not None:
                self.steps.append(Replace(result, kernel.output, output, task.channels))

    # -------------------------------------------------------------------------------------------------- operands

    def _possible(self, read: Read) -> Mask:
        """DRAM bytes that a read can see."""
        mask = np.zeros(256, np.bool_)
        for piece in read.pieces:
            mask |= _ANY if piece.writer is None else self.values[piece.writer].possible
        if read.fill is not None:
            mask[read.fill] = True
        return mask

    def _copy(self, read: Read) -> Value:
        """What a read sees, as a value: the value that it reads if it reads all of one."""
        if read.is_alias:
            value = self._source(read.pieces[0])
            return Value(value.array, read.shape, value.table, value.present)
        return Value(self._through(read, _SAME), read.shape, _SAME, self._possible(read))

    def _operand(self, read: Read, operand: Operand | Values) -> Array:
        """An array with what a read sees, as a kernel wants it."""
        if isinstance(operand, Values):
            value = self._copy(read)
            output = Array(4 * math.prod(read.shape))
            self.steps.append(steps.Values(value.array, output, operand.table[value.table]))
            return output
        match operand.form:
            case Unfold() as form:
                return self._unfold(read, operand, form)
            case Interleave() as form:
                return self._interleave(read, operand, form)
        return self._through(read, operand.tables[0])

    def _unfold(self, read: Read, operand: Operand, form: Unfold) -> Array:
        n, h, w, c = read.shape
        top, left, bottom, right = form.pads
        padded = (n, top + h + bottom, left + w + right, c)
        kernel = form.window.kernel
        values, again = kernel[0] * kernel[1] * c, len(form.again)
        shape = (n, *form.outputs, (values + again) * len(operand.tables))
        output = Array(math.prod(shape))
        parts = []
        for i, codes_of in enumerate(operand.tables):
            source, begin = self._through(read, codes_of), i * (values + again)
            if padded != read.shape:
                inner = Array(math.prod(padded))
                whole = Part(source, read.shape, _all, None, None, (_inside(form.pads, h, w),))
                self.steps.append(Assemble((whole,), inner, padded, np.uint8(operand.zero)))
                source = inner
            pick, place = _windows(form.window, form.outputs), _blocks(form.window, c, begin)
            parts.append(Part(source, padded, pick, None, None, (place,)))
            if again:
                place = _channels(begin + values, again)
                parts.append(Part(output, shape, _all, form.again + begin, None, (place,)))
        self.steps.append(Assemble(tuple(parts), output, shape, None))
        return output

    def _interleave(self, read: Read, operand: Operand, form: Interleave) -> Array:
        n, h, w, c = read.shape
        count = len(operand.tables) * form.repeat
        shape = (n, h, count, w, c if form.channels is None else len(form.channels))
        parts = []
        for i, codes_of in enumerate(operand.tables):
            places = tuple(_row(number) for number in range(i * form.repeat, (i + 1) * form.repeat))
            parts.append(Part(self._through(read, codes_of), read.shape, _all, form.channels, None, places))
        output = Array(math.prod(shape))
        self.steps.append(Assemble(tuple(parts), output, shape, None))
        return output

    def _through(self, read: Read, change: Bytes) -> Array:
        """An array with what a read sees, through a table of DRAM bytes."""
        if read.is_alias:
            value = self._source(read.pieces[0])
            if _bytes(change[value.table], value.present) is None:
                return value.array
        if read.key is None:
            return self._assemble(read, change)
        key = read.key, change.tobytes()
        if key not in self.operands:
            self.operands[key] = self._assemble(read, change)
        return self.operands[key]

    def _assemble(self, read: Read, change: Bytes) -> Array:
        output = Array(math.prod(read.shape))
        if read.is_alias:
            value = self._source(read.pieces[0])
            self.steps.append(Translate(value.array, output, change[value.table].tobytes()))
            return output
        sources = [self._source(piece) for piece in read.pieces]
        if read.in_dram and read.fill is None and _bytes(change, _ANY) is None:
            return sources[0].array
        parts = []
        for piece, value in zip(read.pieces, sources, strict=True):
            table = _bytes(change[value.table], value.present)
            parts.append(Part(value.array, value.shape, piece.source, None, table, (piece.place,)))
        fill = None if read.fill is None else change[read.fill]
        self.steps.append(Assemble(tuple(parts), output, read.shape, fill))
        return output

    def _source(self, piece: Piece) -> Value:
        if piece.writer is not None:
            return self.values[piece.writer]
        array = Array(piece.region.size)
        self.steps.append(Fetch(piece.region, array))
        return Value(array, piece.region.shape, _SAME, _ANY)

    def _keep(self, tensor: TensorInfo, read: Read) -> None:
        self.steps.append(Keep(tensor.name, self._through(read, _SAME), tensor.shape, tensor.dtype))


def _image(change: Bytes, present: Mask) -> Mask:
    mask = np.zeros(256, np.bool_)
    mask[change[present]] = True
    return mask


def _bytes(change: Bytes, present: Mask) -> bytes | None:
    """A table as bytes; None if it changes none of the bytes that are present."""
    return None if (change == _SAME)[present].all() else change.tobytes()


def _result_table(layer: Convolution | Binary | Pool) -> Bytes:
    """The byte that each code of a kernel's result stands for: clamp, and back to int8."""
    quant = layer.result if isinstance(layer, Convolution) else layer.quant
    if isinstance(layer, Pool) and not layer.average:
        return kernels.shift(quant.a_signed)
    low, high = codes(quant.y_min, quant.y_signed), codes(quant.y_max, quant.y_signed)
    return kernels.shift(quant.y_signed)[np.clip(_SAME, low, high)]


def _all(array: Bytes) -> Bytes:
    return array


def _row(number: int) -> Access:
    return lambda array: array[:, :, number]


def _channels(start: int, count: int) -> Access:
    return lambda array: array[..., start : start + count]


def _inside(pads: tuple[int, int, int, int], h: int, w: int) -> Access:
    top, left = pads[:2]
    return lambda array: array[:, top : top + h, left : left + w]


def _windows(window: Window, outputs: tuple[int, int]) -> Access:
    """Windows of an array [n, h, w, c], cut into pieces of consecutive bytes: [n, output h, output w, kernel h, …]."""
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.stride, window.dilation

    def pick(array: Bytes) -> Bytes:
        n, _, _, c = array.shape
        image, row, pixel, _ = array.strides
        pieces, size = (kw, c) if dw > 1 else (1, kw * c)
        strides = (image, sh * row, sw * pixel, dh * row, dw * pixel)
        return np.ndarray((n, *outputs, kh, pieces), f"V{size}", array, 0, strides)

    return pick


def _blocks(window: Window, channels: int, begin: int) -> Access:
    """Where these pieces of an array of so many channels go in [n, output h, output w, values], from `begin` on."""
    (kh, kw), dw = window.kernel, window.dilation[1]

    def place(array: Bytes) -> Bytes:
        pieces, size = (kw, channels) if dw > 1 else (1, kw * channels)
        strides = (*array.strides[:3], kw * channels, size)
        return np.ndarray((*array.shape[:3], kh, pieces), f"V{size}", array, begin, strides)

    return place
