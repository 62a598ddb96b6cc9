"""What a search knows of a model: its layers, how they err, and samples to fit to and to measure on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmac.compiler.graph.calibrate import batches
from mmac.compiler.graph.edit import Array
from mmac.compiler.graph.execute import session
from mmac.compiler.graph.level_constants import BIAS, SCALE
from mmac.compiler.pipeline import Options, run_passes
from mmac.compiler.search.prediction import at_level, padded
from mmac.compiler.search.sensitivity import Local, gains, local_errors
from mmac.compiler.search.space import Layer, layers_of
from mmac.compiler.search.state import State
from mmac.compiler.search.variants import Setting, Variants, energy
from mmac.isa.errors import UnsupportedError, UsageError
from mmac.isa.plan import Level

Float64 = npt.NDArray[np.float64]
Step = Callable[[str, int, int], None]
"""Called with what is being done now, its number, and how many there are."""
Data = Mapping[str, Array]

_FITTED = 16
"""Samples to fit corrections to: as many as the pass `correct` uses."""
_MEASURED = (4, 128)
"""Samples to measure errors on, at least and at most (if there are as many)."""
_WORK = 3e9
"""Multiply-accumulates of all samples to measure errors on, about."""


@dataclass(frozen=True)
class Subject:
    """A model as the passes leave it, and samples.

    Attributes:
        quantized, partitioned: after the passes of these names.
        layers: array layers with their candidates.
        data: calibration data to fit to.
        fitted: the inputs of samples to fit to; so many of `data` as are used for it.
        measured: the inputs of samples to measure on.
        expected: the float model's outputs on these, [samples, …] each.
        work: multiply-accumulates of one plan on all of them.
    """

    quantized: ir.Model
    partitioned: ir.Model
    layers: tuple[Layer, ...]
    data: Data
    fitted: list[dict[str, Array]]
    measured: list[dict[str, Array]]
    expected: list[Array]
    work: float

    @property
    def power(self) -> float:
        """Energy of the expected outputs."""
        return energy(self.expected)

    def decibels(self, error: float) -> float:
        """Signal-to-noise ratio for this error energy."""
        return float(10 * np.log10(max(self.power, 1e-30) / max(error, self.least_error)))

    @property
    def least_error(self) -> float:
        """What smaller errors are taken for, as they may be 0."""
        return max(self.power * 1e-30, 1e-30)


def prepare(model: str | Path, options: Options, keep_edges: bool) -> Subject:
    """Quantize and partition a model with the samples that are to be fitted to.

    Args:
        model: an ONNX file.
        options: as for `compile_model`; calibration data are needed. Its levels are candidates of every layer.
        keep_edges: first and last layers keep all terms.

    Raises:
        UsageError: no calibration data.
        UnsupportedError: nothing runs on the array, or the model brings constants per level.
        MmacError: whatever the passes find.
    """
    if options.calibration is None:
        raise UsageError("search", "no calibration data", "samples to measure errors with", "give --calibration")
    stages: dict[str, Any] = {}
    folded, _ = run_passes(model, options, after="fold", observe=stages.__setitem__)
    feeds = list(batches(folded, options.calibration))
    fitted, measured = _split(feeds, folded)
    data = {name: array[: len(array) * len(fitted) // len(feeds)] for name, array in options.calibration.items()}
    run_passes(model, replace(options, calibration=data), after="partition", observe=stages.__setitem__)
    for node in stages["partition"].graph:
        if BIAS in node.metadata_props or SCALE in node.metadata_props:
            raise UnsupportedError(
                f"node {node.name!r}",
                "carries bias or scale per level from training, which belong to the levels it was trained with",
                "a model without mmac.level_bias and mmac.level_scale",
            )
    runner = session(stages["import"])
    expected = [np.stack(column) for column in zip(*(runner.run(None, feed) for feed in measured), strict=True)]
    layers = layers_of(stages["quantize"], options.levels or (), keep_edges)
    work = max(1.0, _size(folded)) * (len(fitted[:_FITTED]) + len(measured))
    return Subject(stages["quantize"], stages["partition"], layers, data, fitted[:_FITTED], measured, expected, work)


def _split(feeds: list[dict[str, Array]], model: ir.Model) -> tuple[list[dict[str, Array]], list[dict[str, Array]]]:
    """Samples to fit to, and others to measure on; few samples do both."""
    low, high = _MEASURED
    wanted = int(np.clip(_WORK / max(1.0, _size(model)), low, high))
    count = min(wanted, max(len(feeds) // 3, len(feeds) - _FITTED))
    if not count:
        return feeds, feeds
    return feeds[:-count], feeds[-count:]


def _size(model: ir.Model) -> float:
    """Multiply-accumulates of a run, from below: each weight once for every place of its result."""
    total = 0.0
    for node in model.graph:
        weights = node.inputs[1] if node.op_type in ("Conv", "Gemm", "MatMul") and len(node.inputs) > 1 else None
        shape = node.outputs[0].shape
        if weights is not None and weights.const_value is not None and shape is not None:
            sizes = [d for d in shape if isinstance(d, int)]
            channels = sizes[1] if node.op_type == "Conv" and len(sizes) > 1 else sizes[-1] if sizes else 1
            total += float(math.prod(weights.const_value.shape.numpy())) * math.prod(sizes) / max(1, channels)
    return total


@dataclass(frozen=True)
class Errors:
    """How a model errs, as error energies at its outputs.

    Attributes:
        options: [layers, options] of one layer alone; infinite beyond its options.
        uniform: [levels] of the uniform plans, against float.
        floor: without truncation, against float.
    """

    options: Float64
    uniform: Float64
    floor: float


def measure(
    subject: Subject, variants: Variants, uniform: Mapping[str, Sequence[Level]], state: State, step: Step
) -> Errors:
    """Measure what `state` does not know yet."""
    local = _locals(subject, state.get("local", lambda: _local_arrays(subject, variants, step)))
    both = np.concatenate([_gains(subject, variants, local, start, state, step) for start in _starts(subject)])
    rows = [gain[0] * own.weights + gain[1] * own.data for gain, own in zip(both, local, strict=True)]
    levels = range(len(next(iter(uniform.values()))))
    found = state.get("uniform", lambda: {"": fit_errors(subject, variants, uniform, levels, step, "uniform levels")})
    return Errors(padded(rows, np.inf), found[""], energy(subject.expected, variants.whole))


_CHUNK = 8
"""Layers whose gains are measured at once, and kept."""


def _starts(subject: Subject) -> range:
    return range(0, len(subject.layers), _CHUNK)


def _gains(
    subject: Subject, variants: Variants, local: Sequence[Local], start: int, state: State, step: Step
) -> Float64:
    part = slice(start, start + _CHUNK)

    def compute() -> dict[str, Float64]:
        step("gains of layers", start, len(subject.layers))
        return {"": gains(variants, subject.layers[part], local[part])}

    return state.get(f"gains {start}", compute)[""]


def _local_arrays(subject: Subject, variants: Variants, step: Step) -> dict[str, Array]:
    """Errors of the layers themselves as arrays; `_locals` reads them."""
    local = local_errors(variants, subject.layers, lambda done, count: step("errors of layers", done, count))
    arrays: dict[str, Array] = {}
    for number, own in enumerate(local):
        arrays |= {f"{number} weights": own.weights, f"{number} data": own.data}
        for axis, tried in enumerate(own.coarse):
            if tried is not None:
                setting, error = tried
                about = [setting.level.alpha, setting.level.beta, error]
                arrays[f"{number} {axis}"] = np.array(about, np.float64)
                if setting.bias is not None and setting.scale is not None:
                    arrays |= {f"{number} {axis} bias": setting.bias, f"{number} {axis} scale": setting.scale}
    return arrays


def _locals(subject: Subject, arrays: Mapping[str, Array]) -> list[Local]:
    def coarse(key: str) -> tuple[Setting, float] | None:
        if key not in arrays:
            return None
        alpha, beta, error = arrays[key].tolist()
        level = Level(int(alpha), int(beta))
        return Setting(level, arrays.get(f"{key} bias"), arrays.get(f"{key} scale")), error

    return [
        Local(arrays[f"{n} weights"], arrays[f"{n} data"], (coarse(f"{n} 0"), coarse(f"{n} 1")))
        for n in range(len(subject.layers))
    ]


def fit_errors(
    subject: Subject,
    variants: Variants,
    plans: Mapping[str, Sequence[Level]],
    levels: Sequence[int],
    step: Step,
    what: str,
) -> Float64:
    """[levels] error energy against float of corrected plans."""
    choices = [at_level(plans, level) for level in levels]
    found = variants.fit(choices, lambda done, count: step(what, done, count))
    return np.array([energy(subject.expected, each.outputs) for each in found])
