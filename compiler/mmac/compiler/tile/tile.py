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

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmac.compiler.passes import Pass
from mmac.compiler.tile import (
    mapping,
    operators,  # noqa: F401  (registers the lowerings)
)
from mmac.compiler.tile.allocate import ALIGNMENT, Placement
from mmac.compiler.tile.formats import group_bytes, likely_format
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
from mmac.isa import terms
from mmac.isa.errors import ResourceError
from mmac.isa.plan import Plan
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
        weights_bytes = likely_weights_bytes(module)
        room = self.target.buffer.size_bytes // ALIGNMENT * ALIGNMENT
        if self.target.buffer.prefer == "weights" and weights_bytes <= room:
            room = (room - weights_bytes) // ALIGNMENT * ALIGNMENT
        module = keep_on_chip(module, room)
        on_chip = {b.name for b in module.buffers if b.on_chip}
        resident = _fits_whole(module, weights_bytes, self.target.buffer.size_bytes)
        layer_mapping = cache(lambda shape, name: mapping.search(shape, self.target, name))
        named: dict[mapping.LayerShape, str] = {}
        data = dict(module.data)

        def choose(op: Operation) -> tuple[Operation, ...]:
            match op:
                case ArrayLayer():
                    weights = np.asarray(module.data[op.weights])
                    limits = None if op.limits is None else np.asarray(module.data[op.limits])
                    shape = layer_shape(op, weights, module.plan, limits)
                    x, y = op.x.buffer in on_chip, op.y.buffer in on_chip
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


_DIRECTORY_SHARE = 1.01
"""Bytes of term streams and their directories for each of the streams, about; the tiles are not known yet."""


def likely_weights_bytes(module: TileProgram) -> int:
    """About the bytes of all term streams and directories (`allocate` knows for sure)."""
    total = 0.0
    for op in module.operations:
        if isinstance(op, ArrayLayer):
            alphas = [level.alpha for level in module.plan.usual(op.layer)]
            count = terms.group_term_count(np.asarray(module.data[op.weights], np.int16))
            format = likely_format(count, alphas)
            total += sum(group_bytes(format, min(alphas[-1], terms_of)) * groups
                         for terms_of, groups in enumerate(np.bincount(count.ravel()).tolist()))  # fmt: skip
    return int(_DIRECTORY_SHARE * total)


def _fits_whole(module: TileProgram, weights_bytes: int, room_bytes: int) -> bool:
    """Whether all weights and the activations on chip fit the global buffer together (`allocate` knows for sure)."""
    activations = [b for b in module.buffers if b.on_chip]
    bases = Placement.of(module).place(activations, weights_bytes)
    return max((bases[b.name] + b.size_bytes for b in activations), default=weights_bytes) <= room_bytes


def layer_shape(
    op: ArrayLayer, weights: npt.NDArray[np.generic], plan: Plan, limits: npt.NDArray[np.uint8] | None = None
) -> mapping.LayerShape:
    """What the mapping search needs to know of a layer."""
    budgets = tuple((level.alpha, level.beta) for level in plan.usual(op.layer))
    count = terms.group_term_count(weights)
    most = min(int(count.max(initial=1)), plan.layers[op.layer].levels[-1].alpha)
    alphas = [alpha for alpha, _ in budgets]
    own = np.reshape(alphas, (-1, 1, 1)) if limits is None else limits[list(plan.usual_levels)]
    kept = np.minimum(count, own).max(axis=2)  # [levels, channels]
    profile = tuple(map(tuple, kept.tolist())) if (kept != kept[:, :1]).any() else None
    format = likely_format(count, alphas)
    return mapping.LayerShape(op.x.shape, op.y.shape, op.window, op.groups, budgets, most, format, profile)


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
