"""Pass `correct`: bias and requantization scale of every array layer at every level, fitted to calibration data."""

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
from mmac.compiler.graph.layer_sums import LayerKernel, Products, Real
from mmac.compiler.graph.level_constants import BIAS, SCALE, to_metadata
from mmac.compiler.graph.stepwise import Values, walk
from mmac.compiler.graph.terms import Terms
from mmac.compiler.passes import Pass
from mmac.isa.plan import FULL
from mmac.isa.terms import MAX_DATA

_SAMPLES = 16
"""Calibration samples that are used: there are many pixels in each."""
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
    them.

    Before: ``mmac.Conv "c1" {mmac.alpha: "8,64"}``. After: ``… mmac.level_bias: …, mmac.level_scale: …``.

    Args:
        data: calibration samples, an array [n, ...] for each input; None corrects nothing.
    """

    name: ClassVar[str] = "correct"
    data: Mapping[str, Array] | None = None

    def apply(self, model: ir.Model, /) -> ir.Model:
        """The model with its constants per level.

        Raises:
            MalformedError: calibration data that do not fit the model's inputs.
        """
        result = model.clone()
        if self.data is None or any(
            BIAS in node.metadata_props or SCALE in node.metadata_props for node in result.graph
        ):
            return result
        full = untruncated(model)
        layers = _Layers(result, full)
        exact = Terms().apply(full)
        per_sample = layers.variants * _BYTES_PER_VALUE * _largest(exact)
        samples = min(_SAMPLES, max(1, _MEMORY_BYTES // per_sample))
        walk(exact, list(itertools.islice(batches(model, self.data), samples)), layers.variants, layers)
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
    return full


class _Layers:
    """Computes each array layer in all variants (nothing dropped, then level by level), and corrects it before."""

    def __init__(self, model: ir.Model, full: ir.Model) -> None:
        self._calls, self._full = (
            {node.name or "": Call(node, m) for node in m.graph if node.domain == DOMAIN} for m in (model, full)
        )
        self.variants = 1 + len(model.metadata_props[LEVELS].split(","))

    def __call__(self, node: ir.Node, data: Values) -> Values:
        call, full = self._calls[node.name or ""], self._full[node.name or ""]
        kernel, whole = LayerKernel(full), Products.of(full, 0)
        sums = kernel.sums(data[0], whole)
        target, results = kernel.sample(sums), [kernel.requantize(sums, whole)]
        at_levels: list[Products] = []
        for level, x in enumerate(data[1:]):
            own = Products.of(call, level)
            if x is data[0] and own.are_those_of(whole):
                results.append(results[0])
            else:
                sums = kernel.sums(x, own)
                own = corrected(own, *fit(target, kernel.sample(sums), *kernel.visible(whole)))
                results.append(kernel.requantize(sums, own))
            at_levels.append(own)
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


def corrected(products: Products, gain: Array, offset: Array) -> Products:
    """The same products with constants for which (sum + bias') · scale' = (gain · sum + offset + bias) · scale."""
    bias = np.rint((products.bias + offset) / gain)
    room = np.iinfo(np.int32).max - MAX_DATA * products.weight_sums()
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
