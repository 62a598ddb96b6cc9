"""Pass `tile`: lower the graph to operations on DRAM buffers and choose how each is mapped.

Needs: a model as `terms` leaves it, at its highest level. Guarantees: every array layer, vector operation and move
has a `mapping` whose tiles fit the target's scratchpads twice (double buffering); buffers that stay in the global
buffer are marked and fit it together. A convolution in large groups is an operation for each of them (`groups`).
Before/after::

    %y = mmac::Conv(%x, …)    ->    array "conv" x=… y=… mapping(rows=8, columns=28, channels=64, weights_outer, …)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import onnx_ir as ir

from mmac.compiler.passes import Pass
from mmac.compiler.tile import (
    mapping,
    operators,  # noqa: F401  (registers the lowerings)
)
from mmac.compiler.tile.allocate import ALIGNMENT, Placement
from mmac.compiler.tile.group_terms import GroupTerms, weights_bytes
from mmac.compiler.tile.groups import data_of_parts, map_layer
from mmac.compiler.tile.ir import (
    ArrayLayer,
    ArrayMapping,
    BoxMapping,
    Dims,
    Move,
    Operation,
    TileProgram,
    VectorOp,
)
from mmac.compiler.tile.layout import dims
from mmac.compiler.tile.lower import lower
from mmac.compiler.tile.residency import keep_on_chip
from mmac.compiler.tile.rings import Rings
from mmac.isa.errors import ResourceError
from mmac.runtime.targets import Target

SMALL_TILE_BYTES = 16 * 1024
"""Boxes of the vector unit are cut to an eighth of the tensor so that queues overlap, but not below this."""


@dataclass(frozen=True)
class Tile(Pass[ir.Model, TileProgram]):
    """See the module's docstring."""

    name: ClassVar[str] = "tile"
    target: Target

    def apply(self, model: ir.Model) -> TileProgram:
        """The mapped operations."""
        module = lower(model, self.target.name)
        layers = {op.name: GroupTerms.of(op, module) for op in module.operations if isinstance(op, ArrayLayer)}
        stored_bytes = weights_bytes(layers)
        room = self.target.buffer.size_bytes // ALIGNMENT * ALIGNMENT
        if self.target.buffer.prefer == "weights" and stored_bytes <= room:
            room = (room - stored_bytes) // ALIGNMENT * ALIGNMENT
        module = keep_on_chip(module, room)
        on_chip = {b.name for b in module.buffers if b.on_chip}
        resident = _fits_whole(module, stored_bytes, self.target.buffer.size_bytes)
        layer_mapping = cache(lambda shape, name: mapping.search(shape, self.target, name))
        named: dict[mapping.LayerShape, str] = {}
        data = dict(module.data)

        def choose(op: Operation) -> tuple[Operation, ...]:
            match op:
                case ArrayLayer():
                    x, y = op.x.buffer in on_chip, op.y.buffer in on_chip
                    shape = layer_shape(op, layers[op.name])
                    shape = replace(shape, x_on_chip=x, y_on_chip=y, weights_on_chip=resident)

                    def search(part: ArrayLayer) -> ArrayMapping:
                        profile = shape.profile if part.groups == op.groups else None
                        same = replace(shape, x=part.x.shape, y=part.y.shape, groups=part.groups, profile=profile)
                        return layer_mapping(same, named.setdefault(same, op.name))

                    parts = map_layer(op, search, self.target.array.columns)
                    data.update(data_of_parts(op, parts, module.data))
                    return parts
                case VectorOp():
                    return (replace(op, mapping=BoxMapping(_vector_box(op, Rings(self.target.scratchpads)))),)
                case Move():
                    return (replace(op, mapping=BoxMapping(_move_box(op, Rings(self.target.scratchpads)))),)
                case _:
                    return (op,)

        operations = tuple(part for op in module.operations for part in choose(op))
        return replace(module, operations=operations, data=data)


def _fits_whole(module: TileProgram, stored_bytes: int, room_bytes: int) -> bool:
    """Whether all weights and the activations on chip fit the global buffer together (`allocate` knows for sure)."""
    activations = [b for b in module.buffers if b.on_chip]
    bases = Placement.of(module).place(activations, stored_bytes)
    return max((bases[b.name] + b.size_bytes for b in activations), default=stored_bytes) <= room_bytes


def layer_shape(op: ArrayLayer, terms: GroupTerms) -> mapping.LayerShape:
    """What the mapping search needs to know of a layer."""
    return mapping.LayerShape(
        op.x.shape,
        op.y.shape,
        op.window,
        op.groups,
        terms.budgets,
        terms.usual,
        terms.most,
        terms.format,
        terms.profile,
    )


def _vector_box(op: VectorOp, rings: Rings) -> Dims:
    def fits(box: Dims) -> bool:
        b = op.b is None or _volume(_operand(op.b.shape, box)) <= rings.slot_bytes("aux")
        return b and _volume(_input_box(op, box)) <= rings.slot_bytes("act") and _volume(box) <= rings.slot_bytes("out")

    return _largest(op.y.shape, fits, op.name)


def _input_box(op: VectorOp, box: Dims) -> Dims:
    n, h, w, c = _operand(op.a.shape, box)
    if op.window is None:
        return n, h, w, c
    return n, op.window.rows(box[1]), op.window.columns(box[2]), c


def _move_box(op: Move, rings: Rings) -> Dims:
    return _largest(op.outs[0].shape, lambda box: _volume(box) <= rings.slot_bytes("act"), op.name)


def _operand(shape: Dims, box: Dims) -> Dims:
    return dims([min(size, extent) for size, extent in zip(shape, box, strict=True)])


def _volume(box: Dims) -> int:
    n, h, w, c = box
    return n * h * w * c


def _largest(shape: Dims, fits: Callable[[Dims], bool], name: str) -> Dims:
    """Halve the box, outer dimensions first, until it fits and is small enough to overlap."""
    enough = max(SMALL_TILE_BYTES, _volume(shape) // 8)
    box = list(shape)
    for axis in range(4):
        while box[axis] > 1 and not (fits(dims(box)) and _volume(dims(box)) <= enough):
            box[axis] = -(-box[axis] // 2)
    if not fits(dims(box)):
        raise ResourceError(f"operation {name}", "not even one element's window fits the scratchpads")
    return dims(box)
