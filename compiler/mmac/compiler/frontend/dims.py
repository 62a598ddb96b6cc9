"""Symbolic dimensions of the inputs get numbers."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

import onnx_ir as ir

from mmac.isa.errors import UsageError

_BATCH = re.compile(r"(.*batch.*|n|b|bs|unk.*|.*dynamicdimension.*)", re.IGNORECASE)
"""Names that exporters give to the batch axis."""


def bind_dims(model: ir.Model, dims: Mapping[str, int]) -> list[str]:
    """Replace every symbolic input dimension by a number, in place, and forget the shapes that depended on it.

    Args:
        model: changed in place: shapes of its inputs; those of inner values and outputs are dropped.
        dims: number for each dimension by its name, or by ``input[axis]`` if it has none.

    Returns:
        One sentence for each dimension that was bound to 1 by default: the batch axis (axis 0 of an input, unnamed
        or named like a batch).

    Raises:
        UsageError: a dimension that has no number, or a number for a dimension that is not there.
    """
    notes: list[str] = []
    known: set[str] = set()
    for value in model.graph.inputs:
        if not isinstance(value.type, ir.TensorType):
            continue
        if value.shape is None:
            raise UsageError(f"input {value.name!r}", "no rank declared", "inputs of known rank", "declare its shape")
        sizes: list[int] = []
        for axis, dim in enumerate(value.shape):
            if isinstance(dim, int) and dim >= 0:
                sizes.append(dim)
                continue
            keys = [key for key in (_name_of(dim), f"{value.name}[{axis}]") if key]
            known.update(keys)
            sizes.append(_size(value.name or "", axis, keys, dims, notes))
        value.shape = ir.Shape(sizes)
    if unknown := sorted(set(dims) - known):
        close = difflib.get_close_matches(unknown[0], known, 3, 0) or ["none: every dimension is fixed"]
        raise UsageError(f"--dim {unknown[0]}", "no input has such a dimension", f"one of {', '.join(close)}")
    if known:
        for node in model.graph:
            for output in node.outputs:
                output.shape = None
    return notes


def _name_of(dim: ir.SymbolicDim | int) -> str | None:
    """Name of a dimension, or None for the placeholders that exporters write for unnamed ones."""
    if isinstance(dim, int):  # some exporters write -1
        return None
    return dim.value if dim.value and re.search(r"\w", dim.value) and dim.value != "None" else None


def _size(name: str, axis: int, keys: list[str], dims: Mapping[str, int], notes: list[str]) -> int:
    for key in keys:
        if key in dims:
            if dims[key] < 1:
                raise UsageError(f"--dim {key}", str(dims[key]), "a positive number")
            return dims[key]
    label = keys[0]
    if axis == 0 and (len(keys) == 1 or _BATCH.fullmatch(label)):
        notes.append(f"input {name!r}: dimension {label!r} of axis 0 is taken as 1 (change it with --dim {label}=N)")
        return 1
    raise UsageError(
        f"input {name!r}, axis {axis}", f"dimension {label!r} has no number", "a positive number", f"--dim {label}=N"
    )
