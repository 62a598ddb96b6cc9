"""How far the results of each level are from those of the model before quantization, on samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from mmac.compiler.graph.calibrate import run_on
from mmac.compiler.graph.edit import Array
from mmac.compiler.graph.execute import session

SQNR = "mmac.level_sqnr_db"
"""Key of the model's metadata: decibels of each level over all outputs, comma-separated."""

_ORIGINAL = "mmac.original"
"""Key under which a graph carries the model that it was before quantization; not part of any file."""

_MOST_DB = 200.0
"""What stands for results that do not differ at all; its negative for those that are not even numbers."""


def remember_original(model: ir.Model, original: ir.Model) -> None:
    """Let `model`, and what later passes make of it, know what it was made of."""
    model.graph.meta[_ORIGINAL] = original


def original_results(model: ir.Model, feeds: Sequence[Mapping[str, Array]]) -> dict[str, list[Array]] | None:
    """What the model before quantization makes of each sample, by output; None if that model is not known.

    Raises:
        UnsupportedError: onnxruntime fails on a sample.
    """
    original: ir.Model | None = model.graph.meta.get(_ORIGINAL)
    if original is None:
        return None
    names = [value.name or "" for value in original.graph.outputs]
    # node by node, as it is written: fused integer kernels may saturate (`session.x64quantprecision`)
    runner = session(original, optimize=False)
    rows = [run_on(runner, names, dict(feed)) for feed in feeds]
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def note_sqnr(model: ir.Model, expected: Mapping[str, Sequence[Array]], found: Mapping[str, Sequence[Array]]) -> None:
    """Write the signal-to-noise ratio of each level into the model's metadata.

    Args:
        model: changed in place.
        expected: by output, an array for each sample.
        found: by output, for each level an array [samples, …].
    """
    model.metadata_props[SQNR] = ",".join(f"{decibels:.2f}" for decibels in sqnr_db(expected, found))


def noted_sqnr(model: ir.Model) -> tuple[float, ...]:
    """What `note_sqnr` has written; empty if nothing was measured."""
    text = model.metadata_props.get(SQNR, "")
    return tuple(float(number) for number in text.split(",") if number)


def sqnr_db(expected: Mapping[str, Sequence[Array]], found: Mapping[str, Sequence[Array]]) -> list[float]:
    """Signal-to-noise ratio of each level, all outputs and samples together, within ±200 dB.

    Where the expected value is not finite, or not a number at all, nothing is compared.
    """
    signal = 0.0
    noise = np.zeros(len(next(iter(found.values()), ())))
    for name, samples in expected.items():
        wanted = np.stack(samples)
        if not (np.issubdtype(wanted.dtype, np.number) or wanted.dtype == np.bool_):
            continue
        wanted = wanted.astype(np.float64)
        counts = np.isfinite(wanted)
        signal += float(np.square(wanted[counts]).sum())
        noise += [float(np.square(wanted[counts] - array[counts]).sum()) for array in found[name]]
    smallest = 10 ** (-_MOST_DB / 10)
    with np.errstate(divide="ignore"):
        ratio = np.log10(max(signal, smallest)) - np.log10(np.nan_to_num(noise, nan=np.inf))
    return [float(decibels) for decibels in np.clip(10 * ratio, -_MOST_DB, _MOST_DB)]
