"""A model under many plans side by side: what each makes of the outputs, with the correction that `compile` fits.

Corrections are fitted to some samples and errors measured on others: a fit to few samples hides errors in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.bodies import DOMAIN
from mmac.compiler.graph.budget import ALPHA, BETA, LEVELS
from mmac.compiler.graph.call import Call
from mmac.compiler.graph.correct import bias_room, corrected, fit
from mmac.compiler.graph.edit import Array
from mmac.compiler.graph.layer_sums import LayerKernel, Products
from mmac.compiler.graph.stepwise import Values, walk
from mmac.compiler.graph.terms import Terms
from mmac.isa.plan import FULL, Level

Feeds = Sequence[Mapping[str, Array]]
Float64 = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is."""

_MEMORY_BYTES = 1 << 30
"""What the results of one layer in all variants of a walk may take."""
_BYTES_PER_VALUE = 4


@dataclass(frozen=True, eq=False)
class Setting:
    """How a layer works in a variant: its budgets, and its bias and scale if they are corrected."""

    level: Level
    bias: Array | None = None
    scale: Array | None = None


Variant = Mapping[str, Setting]
"""The settings of some layers by name; the others keep all terms."""


@dataclass(frozen=True)
class Measured:
    """A variant with what it gives: the model's outputs on the samples to measure, [samples, …] each."""

    variant: Variant
    outputs: list[Array]


class Variants:
    """Runs a partitioned model on samples in many variants.

    Args:
        model: a partitioned model; its plan does not matter.
        fitted: samples to fit corrections to; none leaves constants alone.
        measured: samples to measure errors on.
    """

    def __init__(self, model: ir.Model, fitted: Feeds, measured: Feeds) -> None:
        full = model.clone()
        full.metadata_props[LEVELS] = str(FULL)
        for node in full.graph:
            if ALPHA in node.metadata_props:
                node.metadata_props.update({ALPHA: str(FULL.alpha), BETA: str(FULL.beta)})
        self._exact = Terms().apply(full)
        self._calls = {node.name or "": Call(node, full) for node in full.graph if node.domain == DOMAIN}
        self._fitted, self._measured = fitted, measured
        self._largest = max(
            (math.prod(static_shape(v) or ()) for node in self._exact.graph for v in node.outputs), default=1
        )
        self.whole = self._walk(measured, [{}])[0]
        """Outputs without truncation."""

    def errors(
        self, variants: Sequence[Variant], of: Sequence[Array] | None = None, progress: Progress | None = None
    ) -> Float64:
        """Error energy of each variant, summed over outputs and samples: against `of`, or the untruncated outputs."""
        errors: list[float] = []
        most = self._most(len(self._measured))
        for start in range(0, len(variants), most):
            if progress is not None:
                progress(start, len(variants))
            errors += [
                energy(of or self.whole, outputs)
                for outputs in self._walk(self._measured, variants[start : start + most])
            ]
        return np.array(errors)

    def fit(self, plans: Sequence[Mapping[str, Level]], progress: Progress | None = None) -> list[Measured]:
        """Each plan with its corrections, as the pass `correct` fits them."""
        found: list[Measured] = []
        feeds = [*self._fitted, *self._measured]
        most = max(1, self._most(len(feeds)) - 1)
        for start in range(0, len(plans), most):
            if progress is not None:
                progress(start, len(plans))
            layers = _Fit(self._calls, plans[start : start + most], len(self._fitted))
            outputs = walk(self._exact, feeds, 1 + len(layers.plans), layers)
            found += [
                Measured(settings, [values[1 + number][len(self._fitted) :] for values in outputs.values()])
                for number, settings in enumerate(layers.settings)
            ]
        return found

    def probe(
        self, wanted: Mapping[str, Sequence[Level]], progress: Progress | None = None
    ) -> dict[str, list[tuple[Setting, float]]]:
        """What levels do to each layer's own result, in squared steps; its data are not truncated before.

        For each layer a setting, with its correction, and the error for each of the wanted levels.
        """
        layers = _Probe(self._calls, wanted, len(self._fitted), progress)
        walk(self._exact, [*self._fitted, *self._measured], 1, layers)
        return layers.found

    def _walk(self, feeds: Feeds, variants: Sequence[Variant]) -> list[list[Array]]:
        outputs = walk(self._exact, feeds, len(variants), _Run(self._calls, variants))
        return [[values[number] for values in outputs.values()] for number in range(len(variants))]

    def _most(self, samples: int) -> int:
        """Variants that one walk has memory for."""
        return max(1, _MEMORY_BYTES // (_BYTES_PER_VALUE * self._largest * samples))


def energy(expected: Sequence[Array], found: Sequence[Array] | None = None) -> float:
    """Sum of squares, of the difference if there are two."""
    others: Sequence[Array | float] = [0.0] * len(expected) if found is None else found
    return sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in zip(expected, others, strict=True))


class _Run:
    """Computes an array layer in all variants; those that see the same data in the same setting are computed once."""

    def __init__(self, calls: Mapping[str, Call], variants: Sequence[Variant]) -> None:
        self._calls, self._variants = calls, variants

    def __call__(self, node: ir.Node, data: Values) -> Values:
        name = node.name or ""
        kernel, products = LayerKernel(self._calls[name]), _Cached(self._calls[name])
        done: dict[tuple[int, int], Array] = {}
        results = []
        for variant, x in zip(self._variants, data, strict=True):
            setting = variant.get(name, _WHOLE)
            key = id(x), id(setting)
            if key not in done:
                own = products.of(setting)
                done[key] = kernel.requantize(kernel.sums(x, own), own)
            results.append(done[key])
        return results


class _Fitting:
    """One array layer on samples of which the first ones are there to fit corrections to."""

    def __init__(self, call: Call, data: Array, fitted: int) -> None:
        self._kernel, self._products, self._fitted = LayerKernel(call), _Cached(call), fitted
        self._data, self._whole = data, self._products[FULL]
        sums = self._kernel.sums(data, self._whole)
        self._visible = self._kernel.visible(self._whole)
        if fitted:
            self._target, self._room = self._kernel.sample(sums[:fitted]), bias_room(self._whole)
        self.result = self._kernel.requantize(sums, self._whole)

    def at(self, level: Level, data: Array) -> tuple[Setting, Array]:
        """The corrected setting, and the result."""
        own = self._products[level]
        if data is self._data and own.are_those_of(self._whole):
            return Setting(level), self.result
        sums = self._kernel.sums(data, own)
        if self._fitted:
            gain, offset = fit(self._target, self._kernel.sample(sums[: self._fitted]), *self._visible)
            own = corrected(own, gain, offset, self._room)
        return Setting(level, own.bias, own.scale), self._kernel.requantize(sums, own)


class _Fit:
    """Computes an array layer without truncation and in all plans, and corrects it before."""

    def __init__(self, calls: Mapping[str, Call], plans: Sequence[Mapping[str, Level]], fitted: int) -> None:
        self._calls, self.plans, self._fitted = calls, plans, fitted
        self.settings: list[dict[str, Setting]] = [{} for _ in plans]

    def __call__(self, node: ir.Node, data: Values) -> Values:
        name = node.name or ""
        layer = _Fitting(self._calls[name], data[0], self._fitted)
        results = [layer.result]
        done: dict[tuple[int, Level], tuple[Setting, Array]] = {}
        for plan, settings, x in zip(self.plans, self.settings, data[1:], strict=True):
            key = id(x), plan.get(name, FULL)
            if key not in done:
                done[key] = layer.at(key[1], x)
            settings[name], result = done[key]
            results.append(result)
        return results


class _Probe:
    """Goes along the untruncated model and tries levels at each layer."""

    def __init__(
        self,
        calls: Mapping[str, Call],
        wanted: Mapping[str, Sequence[Level]],
        fitted: int,
        progress: Progress | None,
    ) -> None:
        self._calls, self._wanted, self._fitted, self._progress = calls, wanted, fitted, progress
        self.found: dict[str, list[tuple[Setting, float]]] = {}

    def __call__(self, node: ir.Node, data: Values) -> Values:
        name = node.name or ""
        if self._progress is not None:
            self._progress(len(self.found), len(self._wanted))
        layer = _Fitting(self._calls[name], data[0], self._fitted)
        self.found[name] = []
        for level in self._wanted.get(name, ()):
            setting, result = layer.at(level, data[0])
            self.found[name].append((setting, energy([layer.result[self._fitted :]], [result[self._fitted :]])))
        return [layer.result]


_WHOLE = Setting(FULL)


class _Cached(dict[Level, Products]):
    """What a layer multiplies at each level."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call

    def __missing__(self, level: Level) -> Products:
        self._call.node.metadata_props.update({ALPHA: str(level.alpha), BETA: str(level.beta)})
        self[level] = Products.of(self._call, 0)
        return self[level]

    def of(self, setting: Setting) -> Products:
        """The same with the constants of a setting."""
        own = self[setting.level]
        if setting.bias is None or setting.scale is None:
            return own
        return replace(own, bias=setting.bias, scale=setting.scale)
