"""Bias and requantization scale that differ by level, as they travel in the metadata of an array layer.

Weights are shared by all levels, but a few bytes per channel need not be: bias correction after truncation and
batch-norm statistics per level (training) live here. A layer may carry ``mmac.level_bias`` and ``mmac.level_scale``:
base64 of little-endian int32 and float32 arrays [levels, output channels], the final bias (steps of the accumulator)
and scale (accumulator to output steps).
"""

from __future__ import annotations

import base64
import binascii

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmac.isa.errors import MalformedError

BIAS, SCALE = "mmac.level_bias", "mmac.level_scale"

_TYPES = {BIAS: np.dtype("<i4"), SCALE: np.dtype("<f4")}


def to_metadata(array: npt.ArrayLike, key: str) -> str:
    """Text for a node's `metadata_props`; `array` is [levels, channels]."""
    return base64.b64encode(np.ascontiguousarray(array, _TYPES[key]).tobytes()).decode("ascii")


def from_metadata(node: ir.Node, key: str, levels: int, channels: int) -> npt.NDArray[np.generic] | None:
    """The array [levels, channels] that a layer carries, or None.

    Raises:
        MalformedError: not base64, of another size, or a scale that is not finite and positive.
    """
    text = node.metadata_props.get(key)
    if text is None:
        return None
    where = f"node {node.name!r}: {key}"
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError(where, "not base64", "base64 of a little-endian array") from None
    size = levels * channels * _TYPES[key].itemsize
    if len(raw) != size:
        raise MalformedError(where, f"{len(raw)} bytes", f"{size}: {levels} levels of {channels} channels")
    array = np.frombuffer(raw, _TYPES[key]).reshape(levels, channels)
    if key == SCALE and not (np.isfinite(array) & (array > 0)).all():
        raise MalformedError(where, "a scale that is not a positive number", "finite and positive")
    return array
