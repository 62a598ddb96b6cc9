"""Programs with one layer that is not what the compiler made, and that the verifier passes all the same."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from mmac.isa import streams
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.program import PARAM_DTYPE, Program, directory_dtype
from mmac.runtime.engines.fast.constants import convolutions
from mmac.runtime.engines.fast.layers import Convolution


def negated(program: Program, name: str) -> Program:
    """With all weights of an array layer times -1: as many terms at the same places, so streams as long as before."""
    image = program.image.copy()
    for layer in _parts(program, name):
        tiles, window = layer.tiles, layer.window
        entry = directory_dtype(len(program.plan.levels))
        entries = image[tiles.entries.reshape(-1, 1) + np.arange(entry.itemsize)].view(entry)[:, 0]
        alphas = [level.alpha for level in program.plan.layers[tiles.layer].levels]
        groups = -(-math.prod(window.kernel) * tiles.reduction // GROUP_SIZE)
        for offset, size in zip(entries["offset"].tolist(), entries["level"]["bytes"][:, -1].tolist(), strict=True):
            found = streams.decode(tiles.format, image[offset : offset + size], (groups, tiles.channels), alphas)
            other = streams.encode(tiles.format, -found.table.values()[None], alphas).data
            assert len(other) == size
            image[offset : offset + size] = other
    return dataclasses.replace(program, image=image)


def scaled(program: Program, name: str, factor: float) -> Program:
    """With all requantization scales of an array layer times a factor, at every level."""
    image = program.image.copy()
    for layer in _parts(program, name):
        view = layer.params
        bases = set()  # levels may share them
        for level in range(len(program.plan.levels)):
            start = [step.start((), level) for step in view.walk[:3]]
            bases.add(view.base + sum(s * stride for s, stride in zip(start, view.strides[:3], strict=True)))
        for base in bases:
            constants = np.ndarray(layer.y.shape[3], PARAM_DTYPE, image, base, (view.strides[3],))
            constants["scale"] *= np.float32(factor)
    return dataclasses.replace(program, image=image)


def _parts(program: Program, name: str) -> Iterator[Convolution]:
    found = [layer for layer in convolutions(program) if program.plan.layers[layer.tiles.layer].name == name]
    assert found, name
    return iter(found)
