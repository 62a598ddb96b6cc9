"""Pass `pack`: encode every array layer's weights as term streams, one per weight tile, ordered by increment.

Needs: mappings (`tile`). Guarantees: `streams` of every array layer; the directory and stream bytes in `data` and as
constant buffers. Directory offsets are relative to the stream buffer until `emit`. Before/after::

    array "conv" weights="conv.w"    ->    streams(format=coded, directory="conv.dir", streams="conv.terms", …)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mmac.compiler.passes import Pass
from mmac.compiler.tile.formats import choose
from mmac.compiler.tile.ir import ArrayLayer, Buffer, Operation, Streams, TileProgram
from mmac.isa import terms
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.program import directory_dtype
from mmac.isa.table import TermFormat

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Pack(Pass[TileProgram, TileProgram]):
    """See the module's docstring."""

    name: ClassVar[str] = "pack"

    def apply(self, module: TileProgram) -> TileProgram:
        """Fill in every array layer's `streams`."""
        operations: list[Operation] = []
        buffers = list(module.buffers)
        data = dict(module.data)
        for op in module.operations:
            if isinstance(op, ArrayLayer):
                op, packed = _pack(op, module)
                data |= packed
                buffers += [Buffer(name, array.nbytes, constant=True) for name, array in packed.items()]
            operations.append(op)
        return replace(module, operations=tuple(operations), buffers=tuple(buffers), data=data)


def _pack(op: ArrayLayer, module: TileProgram) -> tuple[ArrayLayer, dict[str, Array]]:
    if op.mapping is None:
        raise ValueError(f"{op.name}: pack needs tile first")
    weights, plan = np.asarray(module.data[op.weights]), module.plan
    groups = terms.to_groups(weights).reshape(len(weights), -1, GROUP_SIZE).swapaxes(0, 1)  # [G, O, 16]
    alphas = [level.alpha for level in plan.layers[op.layer].levels]
    # a reduction tile of a 1 x 1 layer is whole groups; other layers have one
    tile_g = len(groups) if op.mapping.reduction >= op.ic else op.mapping.reduction // GROUP_SIZE
    tile_n = op.mapping.channels
    tiles_k, tiles_n = -(-len(groups) // tile_g), -(-groups.shape[1] // tile_n)
    tiles = _cut(groups, tiles_k, tile_g, tiles_n, tile_n)
    limits = None
    if op.limits is not None:
        of_levels = np.asarray(module.data[op.limits]).transpose(0, 2, 1)[..., None]  # [L, G, O, 1]
        limits = np.stack([_cut(own, tiles_k, tile_g, tiles_n, tile_n)[..., 0] for own in of_levels])
    whole = op.mapping.format == TermFormat.RAW or len(op.mapping.multipliers) == len(alphas)
    kind, encoded = choose(tiles, alphas, plan.usual_levels, limits, raw=whole)
    directory = np.zeros(len(tiles), directory_dtype(len(alphas)))
    directory["offset"] = encoded.offset
    directory["groups"] = tile_g * tile_n
    directory["level"]["bytes"] = encoded.level_bytes
    directory["level"]["alpha"] = encoded.level_alpha
    names = f"{op.name}.directory", f"{op.name}.terms"
    terms_bytes = tile_g * tile_n * (1 + int(encoded.level_alpha.max()))  # as `load.terms` decodes them
    held = terms_bytes if kind == TermFormat.CODED else int(encoded.size.max())
    packed = Streams(kind, *names, tiles_k, tiles_n, held)
    return replace(op, streams=packed), {names[0]: directory, names[1]: encoded.data}


def _cut(groups: Array, tiles_k: int, tile_g: int, tiles_n: int, tile_n: int) -> Array:
    """Tiles [K·N, g, n, …] of [G, O, …]; groups beyond the last group or channel are empty."""
    missing_g, missing_n = tiles_k * tile_g - groups.shape[0], tiles_n * tile_n - groups.shape[1]
    if missing_g or missing_n:
        groups = np.pad(groups, ((0, missing_g), (0, missing_n), (0, 0)))
    tiles = groups.reshape(tiles_k, tile_g, tiles_n, tile_n, -1).swapaxes(1, 2)
    return tiles.reshape(-1, tile_g, tile_n, tiles.shape[-1])
