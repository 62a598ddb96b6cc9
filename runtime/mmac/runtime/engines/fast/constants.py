"""What a program has of its array layers: biases and scales, and the budgets of groups that have their own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mmac.isa import structure
from mmac.isa.program import Program
from mmac.isa.terms import group_term_count
from mmac.runtime import engines
from mmac.runtime.engines.fast.engine import FastEngine
from mmac.runtime.engines.fast.layers import Convolution
from mmac.runtime.engines.fast.lift import params
from mmac.runtime.engines.fast.weights import is_ragged, weights

Constants = npt.NDArray[np.void]


def channel_constants(program: Program) -> dict[str, Constants]:
    """`PARAM_DTYPE` [levels, channels] of each array layer, by its name in the plan.

    Layers that could not be proved to be convolutions (none that the compiler makes) are left out.

    Args:
        program: a verified program.
    """
    parts: dict[str, list[Constants]] = {}
    for layer in convolutions(program):
        levels = range(len(program.plan.levels))
        found = np.stack([params(program, layer.params, layer.y.shape[3], level) for level in levels])
        parts.setdefault(program.plan.layers[layer.tiles.layer].name, []).append(found)
    # a convolution in large groups is an operation for each of them, in the order of their channels
    return {name: np.concatenate(found, axis=1) for name, found in parts.items()}


def group_alphas(program: Program) -> dict[str, npt.NDArray[np.uint8]]:
    """Terms that each weight group keeps, [levels, channels, groups], of layers whose groups have budgets of their own.

    Args:
        program: a verified program.
    """
    parts: dict[str, list[npt.NDArray[np.uint8]]] = {}
    for layer in convolutions(program):
        if is_ragged(program, layer.tiles):
            own = [weights(program, layer, level) for level in range(len(program.plan.levels))]
            rows = [np.moveaxis(each, 1, -1).reshape(len(each), -1) for each in own]
            counts = np.stack([group_term_count(each) for each in rows]).astype(np.uint8)
            parts.setdefault(program.plan.layers[layer.tiles.layer].name, []).append(counts)
    return {name: np.concatenate(found, axis=1) for name, found in parts.items()}


def convolutions(program: Program) -> Iterator[Convolution]:
    """The array layers of a verified program, in its order; of a convolution in large groups, each of them."""
    engine = FastEngine(program, engines.split(program, structure.parse(program.code)))
    for layers in engine.lifted:
        yield from (layer for layer in layers if isinstance(layer, Convolution))
