"""What a search chooses from: for every array layer, candidates for its (α, β)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from mmac.compiler.graph.layers import array_layers, full_level
from mmac.isa.errors import UnsupportedError
from mmac.isa.plan import MAX_LEVELS, Level

ALPHAS = (*range(2, 17), 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48)
BETAS = (1, 2, 3)
"""Candidates that drop something. A fourth data term is hardly ever missed; whoever wants it takes all."""


@dataclass(frozen=True)
class Layer:
    """An array layer and its candidates.

    Attributes:
        name: of its node.
        at_edge: no array layer is upstream of it, or none downstream.
        full: the budgets at which it drops nothing.
        options: candidates, `full` among them; those with the same β are next to each other.
    """

    name: str
    at_edge: bool
    full: Level
    options: tuple[Level, ...]

    def index(self, level: Level) -> int:
        """Position of an option, lowered to what the layer can use."""
        return self.options.index(_lowered(level, self.full))


def _lowered(level: Level, full: Level) -> Level:
    return Level(min(level.alpha, full.alpha), min(level.beta, full.beta))


def layers_of(model: ir.Model, extra: Sequence[Level] = (), keep_edges: bool = False) -> tuple[Layer, ...]:
    """The array layers of a quantized model with their candidates.

    Args:
        model: what the pass `quantize` gives.
        extra: levels that are to be candidates of all layers.
        keep_edges: the first and last layers of every path keep all terms.

    Raises:
        UnsupportedError: there is no array layer.
    """
    found = array_layers(model.graph)
    if not found:
        raise UnsupportedError(
            f"model {model.graph.name!r}", "no layer runs on the array", "", "see mmac check for the reasons"
        )
    alphas = sorted({*ALPHAS, *(level.alpha for level in extra)})
    layers = []
    for layer in found:
        full = full_level(layer)
        options = (full,) if keep_edges and layer.at_edge else _options(full, alphas, extra)
        layers.append(Layer(layer.name, layer.at_edge, full, options))
    return tuple(layers)


def _options(full: Level, alphas: Sequence[int], extra: Sequence[Level]) -> tuple[Level, ...]:
    """Every α with every β; all data terms without all weight terms only if one of `extra` is like that."""
    own = [*(alpha for alpha in alphas if alpha < full.alpha), full.alpha]
    wanted = {_lowered(level, full) for level in extra} - {full}
    betas = sorted({*(beta for beta in BETAS if beta < full.beta), *(level.beta for level in wanted)})
    return (*(Level(alpha, beta) for beta in betas for alpha in own if (alpha, beta) != (full.alpha, full.beta)), full)


def chains(alphas: Sequence[int]) -> list[list[int]]:
    """Cut α candidates into parts of at most as many as a program has levels, of about equal size."""
    parts = -(-len(alphas) // MAX_LEVELS)
    size = -(-len(alphas) // parts)
    return [list(alphas[start : start + size]) for start in range(0, len(alphas), size)]
