"""How much error each layer causes with each of its candidates, measured on calibration samples.

What a candidate does to the layer's own result is measured for all of them, in one walk through the model: there
are many values in it, so that a few samples are enough. What that does to the model's outputs is taken to be in
proportion; the factor (*gain*) of a layer is measured with two coarse candidates, the whole model behind it running.
Errors of different layers, and those of weights and data of one layer, are taken to add up. Large errors do not: they
drown each other. So plans are measured before they are believed (`choose`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.compiler.search.space import Layer
from mmac.compiler.search.variants import Progress, Setting, Variants
from mmac.isa.plan import MAX_ALPHA, MAX_BETA, Level

Float64 = npt.NDArray[np.float64]

_ALPHAS = (2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 36)
"""α at which a layer's own error is measured; in between its logarithm is taken to be linear."""
_GAIN_ALPHA, _GAIN_BETA = 8, 1
"""Budgets with which gains are measured: coarse, so that their error stands out of the rounding noise."""


@dataclass(frozen=True)
class Local:
    """Error of a layer's own result, in squared steps, and the settings that were tried.

    Attributes:
        weights: [options] by what is dropped of weights.
        data: [options] by what is dropped of data.
        coarse: a setting that drops weights only, and one that drops data only, each with its error; those with which
            gains are measured. None where nothing can be dropped.
    """

    weights: Float64
    data: Float64
    coarse: tuple[tuple[Setting, float] | None, tuple[Setting, float] | None]


def local_errors(variants: Variants, layers: Sequence[Layer], progress: Progress) -> list[Local]:
    """What each layer's candidates do to its own result, other layers keeping all terms."""
    axes = {layer.name: _axes(layer) for layer in layers}
    found = variants.probe({name: [*weights, *data] for name, (weights, data) in axes.items()}, progress)
    return [_local(layer, *axes[layer.name], found[layer.name]) for layer in layers]


def _axes(layer: Layer) -> tuple[list[Level], list[Level]]:
    """Levels that drop terms of weights only, and of data only."""
    if len(layer.options) == 1:
        return [], []
    alphas = [alpha for alpha in _ALPHAS if alpha < layer.full.alpha]
    betas = sorted({option.beta for option in layer.options if option.beta < layer.full.beta})
    return [Level(alpha, MAX_BETA) for alpha in alphas], [Level(MAX_ALPHA, beta) for beta in betas]


def _local(
    layer: Layer, weights: Sequence[Level], data: Sequence[Level], found: Sequence[tuple[Setting, float]]
) -> Local:
    by_alpha = {level.alpha: error for level, (_, error) in zip(weights, found, strict=False)}
    by_beta = {level.beta: error for level, (_, error) in zip(data, found[len(weights) :], strict=True)}
    alphas, betas = found[: len(weights)], found[len(weights) :]
    coarse = (
        min(alphas, key=lambda each: abs(each[0].level.alpha - _GAIN_ALPHA), default=None),
        min(betas, key=lambda each: abs(each[0].level.beta - _GAIN_BETA), default=None),
    )
    return Local(
        _between(by_alpha, layer.full.alpha, [option.alpha for option in layer.options]),
        _between(by_beta, layer.full.beta, [option.beta for option in layer.options]),
        coarse,
    )


_NOTHING = 1e-12
"""Share of the largest error that is as good as none, for logarithms."""


def _between(errors: Mapping[int, float], full: int, wanted: Sequence[int]) -> Float64:
    """Errors at the wanted budgets: not more with more terms, and none with all of them."""
    if not errors:
        return np.zeros(len(wanted))
    budgets = sorted(errors)
    falling = np.maximum.accumulate([errors[budget] for budget in reversed(budgets)])[::-1]
    least = max(float(falling[0]), 1e-30) * _NOTHING
    found = np.exp(np.interp(wanted, budgets, np.log(np.maximum(falling, least))))
    beyond = np.array(wanted) > budgets[-1]  # beyond what was measured, towards nothing at all
    found[beyond] *= (full - np.array(wanted)[beyond]) / (full - budgets[-1])
    return np.where(np.array(wanted) >= full, 0.0, found)


def gains(variants: Variants, layers: Sequence[Layer], local: Sequence[Local]) -> Float64:
    """[layers, 2] error at the model's output per error at the layer's, for what it drops of weights and of data."""
    tried = [
        (number, axis, *tried)
        for number, own in enumerate(local)
        for axis, tried in enumerate(own.coarse)
        if tried is not None and tried[1] > 0
    ]
    errors = variants.errors([{layers[number].name: setting} for number, _, setting, _ in tried])
    found = np.zeros((len(layers), 2))
    for (number, axis, _, own), error in zip(tried, errors, strict=True):
        found[number, axis] = error / own
    return found
