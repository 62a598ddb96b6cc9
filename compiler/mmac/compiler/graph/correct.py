"""Pass `correct`: bias and scale of every array layer at every level, fitted to calibration data; SQNR per level.

The samples that the constants are fitted to also tell how good each level is, since they run through it anyway.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.bodies import DOMAIN
from mmac.compiler.graph.budget import ALPHA, BETA, LEVELS
from mmac.compiler.graph.calibrate import batches
from mmac.compiler.graph.call import Call
from mmac.compiler.graph.edit import Array
from mmac.compiler.graph.group_budgets import GROUPS
from mmac.compiler.graph.layer_sums import LayerKernel, Products, Real
from mmac.compiler.graph.level_constants import BIAS, SCALE, to_metadata
from mmac.compiler.graph.quality import note_sqnr, original_results
from mmac.compiler.graph.stepwise import Values, walk
from mmac.compiler.graph.terms import Terms
from mmac.compiler.passes import Pass
from mmac.isa.plan import FULL
from mmac.isa.terms import MAX_DATA

_SAMPLES = 16
"""Calibration samples that are used: there are many pixels in each."""
_MEASURED = 4
"""Those that are used if nothing is fitted, but for the signal-to-noise ratio."""
_MEMORY_BYTES = 1 << 31
"""What all samples of a large layer may take; fewer samples are used if they would need more."""
_HIDDEN = 0.1
"""Weight of sums that the clamp of the result hides at both levels."""
_PRIOR = 8.0
"""How many sums the belief counts that nothing has to be corrected."""
_GAIN = 4.0
"""Largest change of a scale, either way."""


@dataclass(frozen=True)
class Correct(Pass[ir.Model, ir.Model]):
    """Undo what dropping terms does to the mean and the spread of each channel.

    Dropping terms shrinks sums and shifts them. Weights are the same at all levels, but bias and scale of a channel
    may differ: at each level they become those with which its sums come closest (least squares) to the sums without
    truncation. Layer by layer, so that a layer sees its data as corrected layers before it leave them.

    Needs: a partitioned model with its plan.

    Guarantees: ``mmac.level_bias`` and ``mmac.level_scale`` on the array layers for which they differ from one level
    to another. Where nothing is dropped, nothing changes. A model that brings such constants (from training) keeps
    them. ``mmac.level_sqnr_db`` on the model, if it knows what it was before quantization: signal-to-noise ratio of
    each level against that, on the samples used.

    Before: ``mmac.Conv "c1" {mmac.alpha: "8,64"}``. After: ``… mmac.level_bias: …, mmac.level_scale: …``.

    Args:
        data: calibration samples, an array [n, ...] for each input; None corrects and measures nothing.
        fit: correct; otherwise only measure.
    """

    name: ClassVar[str] = "correct"
    data: Mapping[str, Array] | None = None
    fit: bool = True

    def apply(self, model: ir.Model, /) -> ir.Model:
        """The model with its constants per level.

        Raises:
            MalformedError: calibration data that do not fit the model's inputs.
            UnsupportedError: onnxruntime fails on a sample.
        """
        result = model.clone()
        if self.data is None:
            return result
        fit = self.fit and not any(key in node.metadata_props for node in result.graph for key in (BIAS, SCALE))
        full = untruncated(model)
        layers = _Layers(result, full, fit)
        exact = Terms().apply(full)
        per_sample = layers.variants * _BYTES_PER_VALUE * _largest(exact)
        samples = min(_SAMPLES if fit else _MEASURED, max(1, _MEMORY_BYTES // per_sample))
        feeds = list(itertools.islice(batches(model, self.data), samples))
        expected = original_results(model, feeds)
        if fit or expected is not None:
            found = walk(exact, feeds, layers.variants, layers)
        if expected is not None:
            note_sqnr(result, expected, {name: values[1:] for name, values in found.items()})
        return result


_BYTES_PER_VALUE = 4
"""Of a layer in one variant: its data and results, and what else waits to be read."""


def _largest(model: ir.Model) -> int:
    """Elements of the largest result of a node."""
    return max((math.prod(static_shape(value) or ()) for node in model.graph for value in node.outputs), default=1)


def untruncated(model: ir.Model) -> ir.Model:
    """The same model with one level, at which nothing is dropped."""
    full = model.clone()
    full.metadata_props[LEVELS] = str(FULL)
    for node in full.graph:
        if ALPHA in node.metadata_props:
            node.metadata_props.update({ALPHA: str(FULL.alpha), BETA: str(FULL.beta)})
            node.metadata_props.pop(GROUPS, None)
        for key in (BIAS, SCALE):
            node.metadata_props.pop(key, None)
    return full


class _Layers:
    """Computes each array layer in all variants (nothing dropped, then level by level), and may correct it before."""

    def __init__(self, model: ir.Model, full: ir.Model, fit: bool) -> None:
        self._fit = fit
        self._calls, self._full = (
            {node.name or "": Call(node, m) for node in m.graph if node.domain == DOMAIN} for m in (model, full)
        )
        self.variants = 1 + len(model.metadata_props[LEVELS].split(","))

    def __call__(self, node: ir.Node, data: Values) -> Values:
        call, full = self._calls[node.name or ""], self._full[node.name or ""]
        kernel, whole = LayerKernel(full), Products.of(full, 0)
        sums = kernel.sums(data[0], whole)
        target, results = kernel.sample(sums), [kernel.requantize(sums, whole)]
        room = bias_room(whole)
        at_levels: list[Products] = []
        for level, x in enumerate(data[1:]):
            own = Products.of(call, level)
            if x is data[0] and own.are_those_of(whole):
                results.append(results[0])
            else:
                sums = kernel.sums(x, own)
                if self._fit:
                    own = corrected(own, *fit(target, kernel.sample(sums), *kernel.visible(whole)), room)
                results.append(kernel.requantize(sums, own))
            at_levels.append(own)
        if self._fit:
            _note(call.node, whole, at_levels)
        return results


def fit(target: Real, sums: Real, low: Real, high: Real) -> tuple[Array, Array]:
    """Gain and offset per channel with which `sums` come closest to `target`.

    Args:
        target: [channels, n] what sums ought to be.
        sums: [channels, n] what they are.
        low, high: [channels] between them, sums are not hidden by the clamp of the result.

    Returns:
        float64 [channels] each: target ≈ gain · sums + offset.
    """
    low, high = low[:, None], high[:, None]
    seen = ((target > low) & (target < high)) | ((sums > low) & (sums < high))
    weight = np.where(seen, np.float32(1), np.float32(_HIDDEN))
    total = weight.sum(axis=1, dtype=np.float64)

    def mean(array: Real) -> Array:
        average: Array = np.einsum("cn,cn->c", weight, array, dtype=np.float64) / total
        return average

    target_mean, sums_mean = mean(target), mean(sums)
    target, sums = target - target_mean[:, None].astype(np.float32), sums - sums_mean[:, None].astype(np.float32)
    variance, covariance = mean(sums * sums), mean(sums * target)
    # A few sums cannot speak for all: as if there were _PRIOR more, at which nothing is wrong.
    trust = total / (total + _PRIOR)
    slope = np.divide(covariance, variance, out=np.ones_like(variance), where=variance > 0)
    gain = np.clip(1 + trust * (slope - 1), 1 / _GAIN, _GAIN)
    return gain, sums_mean + trust * (target_mean - sums_mean) - gain * sums_mean


def bias_room(whole: Products) -> Array:
    """[channels] largest magnitude of a bias with which no sum of a layer can overflow, at whatever level."""
    room: Array = np.iinfo(np.int32).max - MAX_DATA * whole.largest_sums()
    return room


def corrected(products: Products, gain: Array, offset: Array, room: Array) -> Products:
    """The same products with constants for which (sum + bias') · scale' = (gain · sum + offset + bias) · scale.

    Args:
        products: of a layer at a level.
        gain, offset: [channels] as from `fit`.
        room: [channels] of the biases, from `bias_room`.
    """
    bias = np.rint((products.bias + offset) / gain)
    return replace(
        products,
        bias=np.clip(bias, -room, room).astype(np.int32),
        scale=(products.scale * gain).astype(np.float32),
    )


def _note(node: ir.Node, whole: Products, at_levels: list[Products]) -> None:
    """Write the constants on a node if they are not the same at all levels anyway."""
    for key, role in ((BIAS, "bias"), (SCALE, "scale")):
        arrays = [getattr(products, role) for products in at_levels]
        if any(not np.array_equal(array, getattr(whole, role)) for array in arrays):
            node.metadata_props[key] = to_metadata(np.stack(arrays), key)
