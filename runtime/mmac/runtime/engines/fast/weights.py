"""Weights of a whole layer at one level, from the term streams in the program's image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmac.isa import streams, terms
from mmac.isa.coded import RAGGED
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.program import Program, directory_dtype
from mmac.isa.table import TermFormat
from mmac.runtime.engines.fast.layers import Convolution, Tiles
from mmac.runtime.memory import Bytes

Weights = npt.NDArray[np.int16]


def weights(program: Program, layer: Convolution, level: int) -> Weights:
    """Weights as the array sees them at a level: int16 [O, I per group, kernel h, kernel w]."""
    tiles, (kh, kw) = layer.tiles, layer.window.kernel
    outputs, inputs = layer.y.shape[3], layer.x.shape[3] // layer.groups
    depth = kh * kw * tiles.reduction
    shape = (-(-depth // GROUP_SIZE), tiles.channels)
    alphas = [budget.alpha for budget in program.plan.layers[tiles.layer].levels[: level + 1]]
    values = _values(tiles.format, *_prefixes(program, tiles, level), shape, alphas)
    # [K, N, group, channel, 16] -> [N, channel, K, depth]
    count_k, count_n = tiles.entries.shape
    rows = values.reshape(count_k, count_n, *shape, GROUP_SIZE).transpose(1, 3, 0, 2, 4)
    rows = rows.reshape(count_n * tiles.channels, count_k, -1)[tiles.skip :][:outputs, :, :depth]
    taps = rows.reshape(outputs, count_k, kh * kw, tiles.reduction).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(taps.reshape(outputs, -1, kh, kw)[:, :inputs])


def is_ragged(program: Program, tiles: Tiles) -> bool:
    """Whether weight groups have budgets of their own."""
    first = program.image[_entries(program, tiles)["offset"].astype(np.int64)]
    return tiles.format == TermFormat.CODED and bool((first == RAGGED).any())


def _prefixes(program: Program, tiles: Tiles, level: int) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """What the level reads of all tiles, one after the other, and the bytes of each."""
    image, entries = program.image, _entries(program, tiles)
    offsets, sizes = entries["offset"].astype(np.int64), entries["level"]["bytes"][:, level].astype(np.int64)
    parts = [image[offset : offset + size] for offset, size in zip(offsets.tolist(), sizes.tolist(), strict=True)]
    return np.concatenate(parts), sizes


def _entries(program: Program, tiles: Tiles) -> npt.NDArray[np.void]:
    """The directory entries of all tiles."""
    entry = directory_dtype(len(program.plan.levels))
    where = tiles.entries.reshape(-1, 1) + np.arange(entry.itemsize)
    found: npt.NDArray[np.void] = program.image[where].view(entry)[:, 0]
    return found


def _values(
    kind: TermFormat, data: Bytes, sizes: npt.NDArray[np.int64], shape: tuple[int, int], alphas: list[int]
) -> Weights:
    """int16 [tiles, groups, channels, 16]."""
    if kind == TermFormat.RAW:
        return terms.truncate_groups(data.view(np.int8).reshape(len(sizes), *shape, GROUP_SIZE), alphas[-1])
    return streams.decode(kind, data, (len(sizes), *shape), alphas, sizes).table.values()
