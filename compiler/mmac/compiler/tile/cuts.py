"""What a layer is cut into: tiles of full size, smaller ones at the ends, and how many terms each of them has."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmac.compiler.tile.ir import Dims

Ints = npt.NDArray[np.int64]


class Cuts(NamedTuple):
    """The parts that ways to cut a layer give, those alike together.

    Attributes:
        way: [K] by which way it is cut, rising.
        sizes: [K, 5] batch, rows, columns, channels, reduction.
        terms: [K] of its largest weight group.
        number: [K] how many of these parts there are.
    """

    way: Ints
    sizes: Ints
    terms: Ints
    number: Ints


def cut(size: Dims, ways: Ints, terms: Ints) -> Cuts:
    """Cut outputs of this size in each of several ways.

    Args:
        size: (n, h, w, c) of the outputs.
        ways: [T, 5] full sizes of the parts; of n, h and w one at most is cut unevenly. The reduction stays whole.
        terms: [c] of the largest weight group of each output channel.
    """
    pixels = [np.arange(len(ways)), ways, np.prod([size[axis] // ways[:, axis] for axis in range(3)], axis=0)]
    for axis in range(3):
        rest = size[axis] % ways[:, axis]
        (these,) = np.nonzero(rest)
        last = ways[these]
        last[:, axis] = rest[these]
        others = [size[other] // ways[these, other] for other in range(3) if other != axis]
        rows = these, last, np.prod(others, axis=0)
        pixels = [np.concatenate(columns) for columns in zip(pixels, rows, strict=True)]
    way, sizes, number = pixels
    return _by_channels(way, sizes, number, terms)


def _by_channels(way: Ints, sizes: Ints, number: Ints, terms: Ints) -> Cuts:
    found: list[tuple[Ints, ...]] = []
    for channels in np.unique(sizes[:, 3]).tolist():
        starts = np.arange(0, len(terms), channels)
        width, most = np.minimum(channels, len(terms) - starts), np.maximum.reduceat(terms, starts)
        kinds, times = np.unique(width << 32 | most, return_counts=True)
        (these,) = np.nonzero(sizes[:, 3] == channels)
        rows = np.repeat(these, len(kinds))
        parts = sizes[rows]
        parts[:, 3] = np.tile(kinds >> 32, len(these))
        found.append(
            (way[rows], parts, np.tile(kinds & 0xFFFFFFFF, len(these)), number[rows] * np.tile(times, len(these)))
        )
    cuts = [np.concatenate(columns) for columns in zip(*found, strict=True)]
    order = np.argsort(cuts[0], kind="stable")
    return Cuts(*(column[order] for column in cuts))
