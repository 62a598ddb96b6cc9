"""Ranges of activations, from calibration data or from one synthetic sample."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.edit import Array
from mmac.compiler.graph.execute import session
from mmac.compiler.passes import MmacWarning
from mmac.isa.errors import MalformedError, UnsupportedError, UsageError

METHODS = ("minmax", "entropy", "percentile")
"""How a range follows from samples: the extremes, or one of onnxruntime's histogram calibrators."""
Range = tuple[float, float]

_SEED = 2021
_LARGEST = 1e35
"""Magnitude beyond which products of scales leave binary32."""
_HISTOGRAM: dict[str, dict[str, Any]] = {
    # onnxruntime.quantization.calibrate.create_calibrator's own defaults, but asymmetric.
    "entropy": {"num_bins": 128, "num_quantized_bins": 128, "percentile": None},
    "percentile": {"num_bins": 2048, "num_quantized_bins": 2048, "percentile": 99.999},
}


def calibrate(
    model: ir.Model, values: Sequence[str], data: Mapping[str, Array] | None, method: str
) -> dict[str, Range]:
    """Lowest and highest number to represent for each value.

    Args:
        model: a float model.
        values: names of the inputs and inner values to observe.
        data: for each input an array [n, ...] of n samples, or None for one seeded standard-normal sample.
        method: ``minmax`` takes the extremes, ``entropy`` and ``percentile`` are onnxruntime's histogram calibrators.

    Raises:
        UsageError: no such method.
        MalformedError: calibration data of the wrong name, shape or type, or values that no scale can hold.
    """
    if method not in METHODS:
        raise UsageError(f"calibration method {method!r}", "no such method", ", ".join(METHODS))
    feeds = _synthetic(model) if data is None else batches(model, data)
    inputs = {value.name for value in model.graph.inputs}
    outputs = [value.name for value in model.graph.outputs]
    inner = [name for name in values if name not in inputs and name not in outputs]
    runner = session(model, inner)
    wanted = [name for name in values if name not in inputs]
    collector = _MinMax() if method == "minmax" else _Histogram(method)
    for feed in feeds:
        seen = dict(zip(wanted, run_on(runner, wanted, feed), strict=True)) if wanted else {}
        seen.update({name: feed[name] for name in values if name in inputs})
        collector.collect(seen)
    found = collector.ranges()
    for name, edges in found.items():
        if not np.isfinite(edges).all() or max(map(abs, edges)) > _LARGEST:
            raise MalformedError(
                f"calibration of {name!r}",
                f"values from {edges[0]:g} to {edges[1]:g}",
                f"finite values up to {_LARGEST:g}",
                "calibrate with samples as the model expects them",
            )
    return found


def run_on(runner: ort.InferenceSession, names: list[str], feed: dict[str, Array]) -> list[Array]:
    """What a session of a model gives for a calibration sample.

    Raises:
        UnsupportedError: onnxruntime fails on it.
    """
    try:
        return list(runner.run(names, feed))
    except Exception as error:  # onnxruntime's exceptions have no common base but this one
        raise UnsupportedError(
            "calibration",
            f"onnxruntime fails on a sample: {str(error).strip().splitlines()[0]}",
            "",
            "give samples that the model accepts with --calibration",
        ) from error


class _MinMax:
    def __init__(self) -> None:
        self._ranges: dict[str, Range] = {}

    def collect(self, seen: Mapping[str, Array]) -> None:
        for name, array in seen.items():
            low, high = self._ranges.get(name, (np.inf, -np.inf))
            self._ranges[name] = min(low, float(array.min())), max(high, float(array.max()))

    def ranges(self) -> dict[str, Range]:
        return self._ranges


class _Histogram:
    """onnxruntime's collector, fed one sample at a time so that memory does not grow with the data."""

    def __init__(self, method: str) -> None:
        from onnxruntime.quantization.calibrate import HistogramCollector

        self._collector = HistogramCollector(method=method, symmetric=False, scenario="same", **_HISTOGRAM[method])

    def collect(self, seen: Mapping[str, Array]) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            self._collector.collect({name: [array] for name, array in seen.items()})

    def ranges(self) -> dict[str, Range]:
        with contextlib.redirect_stdout(io.StringIO()):
            found = self._collector.compute_collection_result()
        return {name: (float(entry[0]), float(entry[1])) for name, entry in found.items()}


def _synthetic(model: ir.Model) -> Iterator[dict[str, Array]]:
    warnings.warn(
        "no calibration data: ranges come from one standard-normal sample, so accuracy is not meaningful; "
        "give real samples with --calibration",
        MmacWarning,
        stacklevel=2,
    )
    rng = np.random.default_rng(_SEED)
    feed: dict[str, Array] = {}
    for value in model.graph.inputs:
        shape, dtype = static_shape(value) or (), value.dtype.numpy() if value.dtype else np.dtype(np.float32)
        if np.issubdtype(dtype, np.floating):
            feed[value.name or ""] = rng.standard_normal(shape).astype(dtype)
        else:
            feed[value.name or ""] = np.zeros(shape, dtype)
    yield feed


def batches(model: ir.Model, data: Mapping[str, Array], what: str = "calibration data") -> Iterator[dict[str, Array]]:
    """Cut the arrays into what one run takes (axis 0 of each input), leaving out an incomplete last piece.

    Arrays that are no input of the model, such as labels, do not count.

    Raises:
        MalformedError: arrays of the wrong name, shape or type, or that are not finite; `what` is where they are from.
    """
    names = [value.name or "" for value in model.graph.inputs]
    if missing := [name for name in names if name not in data]:
        there, wanted = (", ".join(map(repr, each)) or "none" for each in (data, names))
        raise MalformedError(
            what,
            f"no array for input {missing[0]!r} among {there}",
            f"an array [samples, …] for each of {wanted}",
            "name the arrays as the model names its inputs",
        )
    pieces = {value.name or "": _pieces(value, data[value.name or ""], what) for value in model.graph.inputs}
    counts = {name: len(array) for name, array in pieces.items()}
    if len(set(counts.values())) != 1:
        raise MalformedError(what, f"different numbers of samples: {counts}", "the same for all")
    for number in range(max(counts.values())):
        yield {name: np.asarray(array[number], order="C") for name, array in pieces.items()}


def _pieces(value: ir.Value, array: Array, what: str) -> Array:
    """`array` as [runs, *shape of the input], after checking that it fits."""
    shape = static_shape(value) or ()
    where = f"{what} {value.name!r}"
    if not array.ndim:
        raise MalformedError(where, "a single number", "an array of samples")
    if array.shape[1:] != shape[1:]:
        raise MalformedError(where, f"samples of shape {list(array.shape[1:])}", f"{list(shape[1:])}")
    if value.dtype is not None and array.dtype != value.dtype.numpy():
        raise MalformedError(where, f"type {array.dtype}", f"{value.dtype.numpy()}")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise MalformedError(where, "NaN or infinite values", "finite values")
    batch = shape[0] if shape else 1
    runs = len(array) // batch
    if not runs:
        raise MalformedError(where, f"{len(array)} samples", f"at least the model's batch of {batch}")
    return array[: runs * batch].reshape(runs, *shape)
