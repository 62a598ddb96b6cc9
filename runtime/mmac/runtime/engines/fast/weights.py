"""Weights of a whole layer at one level, from the term streams in the program's image."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from mmac.isa import streams, terms
from mmac.isa.errors import MalformedError
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.program import Program, directory_dtype
from mmac.isa.table import TermFormat
from mmac.runtime.engines.fast.layers import Convolution
from mmac.runtime.memory import Bytes

Weights = npt.NDArray[np.int16]


def weights(program: Program, layer: Convolution, level: int) -> Weights:
    """Weights as the array sees them at a level: int16 [O, I per group, kernel h, kernel w]."""
    tiles = layer.tiles
    outputs, inputs = layer.y.shape[3], layer.x.shape[3] // layer.groups
    kh, kw = layer.window.kernel
    result = np.empty((outputs, kh, kw, inputs), np.int16)
    for (k, n), part in _tiles(program, layer, level).items():
        o, i = n * tiles.channels, k * tiles.reduction
        box = result[o : o + tiles.channels, :, :, i : i + tiles.reduction]
        flat = part.swapaxes(0, 1).reshape(part.shape[1], -1)
        depth = flat.shape[1] // (kh * kw)
        box[...] = flat[: len(box), : kh * kw * depth].reshape(-1, kh, kw, depth)[..., : box.shape[3]]
    return np.ascontiguousarray(result.transpose(0, 3, 1, 2))
