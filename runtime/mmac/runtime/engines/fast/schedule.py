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
from mmac.runtime.engines.fast import kernels, lift
from mmac.runtime.engines.fast.dataflow import Dataflow, Piece, Read, Writer
from mmac.runtime.engines.fast.kernels import Convolved
from mmac.runtime.engines.fast.layers import Binary, Convolution, Copy, Layer, Lookup, Opaque, Pool, codes
from mmac.runtime.engines.fast.operands import fit_data, fit_weights
from mmac.runtime.engines.fast.regions import Access
from mmac.runtime.engines.fast.steps import (
    Action,
    Again,
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
    TwiceRows,
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


@dataclass(frozen=True)
class Prepared:
    """Kernels of a layer; for each part of each operand the codes of DRAM bytes; the axis before which parts stand."""

    kernels: Convolved
    tables: tuple[tuple[Bytes, ...], ...]
    axis: int = 3


Cache = dict[tuple[int, int | None], Prepared]
"""Prepared kernels by layer and level, None if the level does not matter."""


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
        key = (number, self.level if isinstance(layer, Convolution) else None)
        if key not in self.cache:
            self.cache[key] = self._prepare(layer, reads)
        prepared = self.cache[key]
        inputs = [
            self._operand(read, tables, prepared.axis) for read, tables in zip(reads, prepared.tables, strict=True)
        ]
        output = self._run(prepared.kernels, inputs, layer.y.size)
        present = _ANY
        if isinstance(layer, Pool) and not layer.average:
            present = _image(prepared.tables[0][0], self._possible(reads[0]))
        return [Value(output, layer.y.shape, _result_table(layer), present)]

    def _run(self, kernels: Convolved, inputs: list[Array], size: int) -> Array:
        (source, *_), shape = inputs, kernels.kernel.inputs[0]
        if kernels.again is not None:
            channels = shape[3] - len(kernels.again)
            inputs = [Array(math.prod(shape))]
            self.steps.append(Again(source, (*shape[:3], channels), kernels.again, inputs[0]))
        output = Array(size)
        self.steps.append(Run(kernels.kernel, tuple(inputs), output))
        if (patch := kernels.patch) is not None:
            wide, part = Array(math.prod(patch.kernel.inputs[0])), Array(math.prod(patch.kernel.output))
            self.steps.append(TwiceRows(source, shape, patch.inputs, wide))
            self.steps.append(Run(patch.kernel, (wide,), part))
            self.steps.append(Replace(part, output, kernels.kernel.output, patch.outputs))
        return output

    # --------------------------------------------------------------------------------------------------- kernels

    def _prepare(self, layer: Convolution | Binary | Pool, reads: tuple[Read, ...]) -> Prepared:
        match layer:
            case Binary():
                shifts = (_shift(layer.quant.a_signed),), (_shift(layer.quant.b_signed),)
                return Prepared(Convolved(kernels.binary(layer, self.threads)), shifts)
            case Pool():
                return Prepared(Convolved(kernels.pool(layer, self.threads)), ((_shift(layer.quant.a_signed),),))
        source, channels = layer.source, layer.y.shape[3]
        beta = self.program.plan.layers[layer.tiles.layer].levels[self.level].beta
        truncated = terms.data_table(source.a_zero, bool(source.a_signed), beta)
        data = fit_data(truncated, self._possible(reads[0]), codes(source.a_zero, source.a_signed))
        constants = lift.params(self.program, layer.params, channels, self.level)
        coefficients = fit_weights(weights(self.program, layer, self.level), constants["bias"])
        convolved = kernels.convolution(layer, data, coefficients, constants, self.threads)
        return Prepared(convolved, (data.tables,), 3 if layer.groups == 1 else 2)

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
        return Value(self._operand(read, (_SAME,), 0), read.shape, _SAME, self._possible(read))

    def _operand(self, read: Read, tables: tuple[Bytes, ...], axis: int) -> Array:
        """An array with what a read sees, through tables of DRAM bytes; several tables make a new axis before `axis`."""
        if read.is_alias and len(tables) == 1:
            value = self._source(read.pieces[0])
            if _bytes(tables[0][value.table], value.present) is None:
                return value.array
        key = read.key and (read.key, axis, tuple(table.tobytes() for table in tables))
        if key in self.operands:
            return self.operands[key]
        output = self._assemble(read, tables, axis)
        if key is not None:
            self.operands[key] = output
        return output

    def _assemble(self, read: Read, tables: tuple[Bytes, ...], axis: int) -> Array:
        count = len(tables)
        sources = [self._source(piece) for piece in read.pieces]
        if count == 1 and read.in_dram and read.fill is None and _bytes(tables[0], _ANY) is None:
            return sources[0].array
        shape = (*read.shape[:axis], count, *read.shape[axis:])
        parts = []
        for number, codes_of in enumerate(tables):
            slot = _slot(axis, number)
            for piece, value in zip(read.pieces, sources, strict=True):
                change = _bytes(codes_of[value.table], value.present)
                parts.append(Part(value.array, value.shape, piece.source, change, _inside(slot, piece.place)))
        fill = None
        if read.fill is not None:
            fill = np.array([t[read.fill] for t in tables], np.uint8).reshape(-1, *[1] * (len(read.shape) - axis))
        output = Array(math.prod(shape))
        self.steps.append(Assemble(tuple(parts), output, shape, fill))
        return output

    def _source(self, piece: Piece) -> Value:
        if piece.writer is not None:
            return self.values[piece.writer]
        array = Array(piece.region.size)
        self.steps.append(Fetch(piece.region, array))
        return Value(array, piece.region.shape, _SAME, _ANY)

    def _keep(self, tensor: TensorInfo, read: Read) -> None:
        array = self._operand(read, (_SAME,), 0)
        self.steps.append(Keep(tensor.name, array, tensor.shape, tensor.dtype))


def _image(change: Bytes, present: Mask) -> Mask:
    mask = np.zeros(256, np.bool_)
    mask[change[present]] = True
    return mask


def _bytes(change: Bytes, present: Mask) -> bytes | None:
    """A table as bytes; None if it changes none of the bytes that are present."""
    return None if (change == _SAME)[present].all() else change.tobytes()


def _shift(signed: int) -> Bytes:
    """Codes of the bytes of a tensor, and back: int8 is shifted by 128."""
    return _SAME ^ np.uint8(0x80 * signed)


def _result_table(layer: Convolution | Binary | Pool) -> Bytes:
    """The byte that each code of a kernel's result stands for: clamp, and back to int8."""
    quant = layer.result if isinstance(layer, Convolution) else layer.quant
    if isinstance(layer, Pool) and not layer.average:
        return _shift(quant.a_signed)
    low, high = codes(quant.y_min, quant.y_signed), codes(quant.y_max, quant.y_signed)
    return _shift(quant.y_signed)[np.clip(_SAME, low, high)]


def _slot(axis: int, number: int) -> Access:
    index = (*[slice(None)] * axis, number)
    return lambda array: array[index]


def _inside(slot: Access, place: Access) -> Access:
    return lambda array: place(slot(array))
