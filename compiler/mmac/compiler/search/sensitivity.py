"""How much error each layer causes with each of its candidates, measured on calibration samples.

What a candidate does to the layer's own output is measured for all of them, in one walk through the model: there
are many values in it, so that a few samples are enough. What that does to the model's output is taken to be in
proportion; the factor (*gain*) of a layer is measured with few candidates, the whole model behind it running. Errors of
different layers, and those of weights and data of one layer, are taken to add up. Neither holds at large errors, so
`contributions` measures what layers really contribute to the error of a plan, the rest of the plan being in force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmac.compiler.graph.edit import Array
from mmac.compiler.search.space import Layer
from mmac.compiler.search.variants import Choice, Variants, energy
from mmac.isa.plan import FULL, MAX_ALPHA, MAX_BETA, Level

Float64 = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]

_ALPHA, _BETA = 6, 1
"""Candidates with which gains are measured: coarse, so that their error stands out of the rounding noise."""


@dataclass(frozen=True)
class Sensitivity:
    """Errors at the model's output, as sums of squares over all outputs and samples.

    Attributes:
        errors: [options] of each layer: what it adds alone.
        power: of the float model's outputs.
        floor: of the quantized model without truncation, against the float model.
    """

    errors: list[Float64]
    power: float
    floor: float


def local_errors(variants: Variants, layers: Sequence[Layer], progress: Progress) -> list[tuple[Float64, Float64]]:
    """Of each layer, [options] error of its own result by what it drops of weights, and by what it drops of data.

    In squared steps of the result, which other layers see full data.
    """
    wanted = {layer.name: _axes(layer) for layer in layers}
    found = variants.local_errors(wanted, progress)
    return [_split(layer, found[layer.name]) for layer in layers]


def _axes(layer: Layer) -> list[Level]:
    """Candidates that drop terms of weights only, and of data only."""
    alphas = dict.fromkeys(Level(option.alpha, MAX_BETA) for option in layer.options)
    betas = dict.fromkeys(Level(MAX_ALPHA, option.beta) for option in layer.options)
    return [*alphas, *betas]


def _split(layer: Layer, found: Mapping[Level, float]) -> tuple[Float64, Float64]:
    weights = _falling({o.alpha: found[Level(o.alpha, MAX_BETA)] for o in layer.options})
    data = _falling({o.beta: found[Level(MAX_ALPHA, o.beta)] for o in layer.options})
    weights[layer.full.alpha] = data[layer.full.beta] = 0.0
    return np.array([weights[o.alpha] for o in layer.options]), np.array([data[o.beta] for o in layer.options])


def _falling(errors: dict[int, float]) -> dict[int, float]:
    """The same, but never more error with more terms."""
    order = sorted(errors, reverse=True)
    least = np.maximum.accumulate([errors[budget] for budget in order])
    return dict(zip(order, least.tolist(), strict=True))


def gains(
    variants: Variants,
    layers: Sequence[Layer],
    local: Sequence[tuple[Float64, Float64]],
    progress: Progress,
) -> Float64:
    """[layers, 2] error at the model's output per error at the layer's, for what it drops of weights and of data."""
    found = np.zeros((len(layers), 2))
    tried = [
        (number, axis, Level(_ALPHA, MAX_BETA) if axis == 0 else Level(MAX_ALPHA, _BETA))
        for number, layer in enumerate(layers)
        for axis in (0, 1)
        if len(layer.options) > 1
    ]
    errors = variants.errors([{layers[number].name: level} for number, _, level in tried], progress=progress)
    for (number, axis, level), error in zip(tried, errors, strict=True):
        layer = layers[number]
        budget, full = (level.alpha, layer.full.alpha) if axis == 0 else (level.beta, layer.full.beta)
        options = [o.alpha if axis == 0 else o.beta for o in layer.options]
        own = local[number][axis][options.index(min(budget, full))]
        found[number, axis] = error / own if own > 0 else 0.0
    return found


def contributions(
    variants: Variants, layers: Sequence[Layer], plan: Choice, outputs: Sequence[Array], progress: Progress
) -> tuple[float, Float64]:
    """The error of a plan against `outputs`, and [layers] by how much less it is if one layer keeps all its terms."""
    names = [layer.name for layer in layers if plan.get(layer.name, FULL) not in (FULL, layer.full)]
    choices = [plan, *({**plan, name: FULL} for name in names)]
    whole, *others = variants.errors(choices, outputs, progress)
    saved = dict(zip(names, (whole - other for other in others), strict=True))
    return float(whole), np.array([saved.get(layer.name, 0.0) for layer in layers])
