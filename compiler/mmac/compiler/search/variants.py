"""A model under many plans side by side: what each makes of the outputs, with the correction that `compile` fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.bodies import DOMAIN
from mmac.compiler.graph.budget import ALPHA, BETA, LEVELS
from mmac.compiler.graph.call import Call
from mmac.compiler.graph.correct import corrected, fit
from mmac.compiler.graph.edit import Array
from mmac.compiler.graph.layer_sums import LayerKernel, Products
from mmac.compiler.graph.stepwise import Values, walk
from mmac.compiler.graph.terms import Terms
from mmac.isa.plan import FULL, Level

Choice = Mapping[str, Level]
"""The (α, β) of some layers by name; the others keep all terms."""

Float64 = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is."""

_MEMORY_BYTES = 1 << 30
"""What the results of one layer in all variants of a walk may take."""
_BYTES_PER_VALUE = 4


class Variants:
    """Runs a partitioned model on samples in many variants.

    Args:
        model: a partitioned model; its plan does not matter.
        feeds: the inputs of each sample.
        correct: fit bias and scale of every layer, as the pass `correct` does.
    """

    def __init__(self, model: ir.Model, feeds: Sequence[Mapping[str, Array]], correct: bool = True) -> None:
        full = model.clone()
        full.metadata_props[LEVELS] = str(FULL)
        for node in full.graph:
            if ALPHA in node.metadata_props:
                node.metadata_props.update({ALPHA: str(FULL.alpha), BETA: str(FULL.beta)})
        self._exact = Terms().apply(full)
        self._calls = {node.name or "": Call(node, full) for node in full.graph if node.domain == DOMAIN}
        self._feeds, self._correct = feeds, correct
        largest = max((math.prod(static_shape(v) or ()) for node in self._exact.graph for v in node.outputs), default=1)
        self.most = max(2, _MEMORY_BYTES // (_BYTES_PER_VALUE * largest * len(feeds)))
        """Variants that one walk has memory for."""

    def outputs(self, choices: Sequence[Choice]) -> list[list[Array]]:
        """Of the model without truncation and then of each choice, the outputs of all samples, [samples, …] each."""
        layers = _Layers(self._calls, choices, self._correct)
        found = walk(self._exact, self._feeds, 1 + len(choices), layers)
        return [[values[number] for values in found.values()] for number in range(1 + len(choices))]

    def errors(
        self, choices: Sequence[Choice], of: Sequence[Array] | None = None, progress: Progress | None = None
    ) -> Float64:
        """Error energy of each choice, summed over outputs and samples: against `of`, or the untruncated outputs."""
        errors: list[float] = []
        for start in range(0, len(choices), self.most - 1):
            if progress is not None:
                progress(start, len(choices))
            whole, *others = self.outputs(choices[start : start + self.most - 1])
            errors += [energy(of or whole, other) for other in others]
        return np.array(errors)

    def local_errors(
        self, wanted: Mapping[str, Sequence[Level]], progress: Progress | None = None
    ) -> dict[str, dict[Level, float]]:
        """What levels do to the result of each layer itself, whose data are not truncated before: squared steps."""
        layers = _Probe(self._calls, wanted, self._correct, progress)
        walk(self._exact, self._feeds, 1, layers)
        return layers.found


def energy(expected: Sequence[Array], found: Sequence[Array] | None = None) -> float:
    """Sum of squares, of the difference if there are two."""
    others: Sequence[Array | float] = [0.0] * len(expected) if found is None else found
    return sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in zip(expected, others, strict=True))


class _Layer:
    """One array layer: its result without truncation, and at any level on any data."""

    def __init__(self, call: Call, data: Array, correct: bool) -> None:
        self._kernel, self._products, self._correct = LayerKernel(call), _Cached(call), correct
        self._data, self._whole = data, self._products[FULL]
        sums = self._kernel.sums(data, self._whole)
        self._target, self._visible = self._kernel.sample(sums), self._kernel.visible(self._whole)
        self.result = self._kernel.requantize(sums, self._whole)

    def at(self, level: Level, data: Array) -> Array:
        """The result, corrected."""
        own = self._products[level]
        if data is self._data and own.are_those_of(self._whole):
            return self.result
        sums = self._kernel.sums(data, own)
        if self._correct:
            own = corrected(own, *fit(self._target, self._kernel.sample(sums), *self._visible))
        return self._kernel.requantize(sums, own)


class _Layers:
    """Computes an array layer in all variants; those that see the same data with the same budgets are computed once."""

    def __init__(self, calls: Mapping[str, Call], choices: Sequence[Choice], correct: bool) -> None:
        self._calls, self._choices, self._correct = calls, choices, correct

    def __call__(self, node: ir.Node, data: Values) -> Values:
        name = node.name or ""
        layer = _Layer(self._calls[name], data[0], self._correct)
        done = {(id(data[0]), FULL): layer.result}
        results = [layer.result]
        for choice, x in zip(self._choices, data[1:], strict=True):
            level = choice.get(name, FULL)
            if (id(x), level) not in done:
                done[id(x), level] = layer.at(level, x)
            results.append(done[id(x), level])
        return results


class _Probe:
    """Goes along the untruncated model and tries levels at each layer."""

    def __init__(
        self,
        calls: Mapping[str, Call],
        wanted: Mapping[str, Sequence[Level]],
        correct: bool,
        progress: Progress | None,
    ) -> None:
        self._calls, self._wanted, self._correct, self._progress = calls, wanted, correct, progress
        self.found: dict[str, dict[Level, float]] = {}

    def __call__(self, node: ir.Node, data: Values) -> Values:
        name = node.name or ""
        if self._progress is not None:
            self._progress(len(self.found), len(self._wanted))
        layer = _Layer(self._calls[name], data[0], self._correct)
        self.found[name] = {
            level: energy([layer.result], [layer.at(level, data[0])]) for level in self._wanted.get(name, ())
        }
        return [layer.result]


class _Cached(dict[Level, Products]):
    """What a layer multiplies at each level."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call

    def __missing__(self, level: Level) -> Products:
        self._call.node.metadata_props.update({ALPHA: str(level.alpha), BETA: str(level.beta)})
        self[level] = Products.of(self._call, 0)
        return self[level]
