"""Reading a partitioned graph: units, types, shapes, constants and attributes, with errors instead of None."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmac.compiler.frontend import is_numeric, type_name
from mmac.compiler.graph import UNIT
from mmac.compiler.graph.integers import SCALE, ZERO_POINT
from mmac.isa.errors import MalformedError, UnsupportedError
from mmac.isa.program import DTYPES


def unit_of(node: ir.Node) -> str:
    """Where partition put a node: array, vector, layout, io or host."""
    return node.metadata_props.get(UNIT, "host")


def dtype_of(value: ir.Value) -> str:
    """numpy name of the element type."""
    if value.dtype is None:
        raise MalformedError(f"value {value.name}", "its element type is unknown")
    if not is_numeric(value):
        raise UnsupportedError(
            f"value {value.name!r} between the device and onnxruntime",
            f"is {type_name(value)}",
            f"tensors of {', '.join(sorted(DTYPES))}",
        )
    return str(value.dtype.numpy())


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """The static shape."""
    if value.shape is None or not value.shape.is_static():
        raise MalformedError(f"value {value.name}", "its shape is unknown", "", "bind its dimensions with --dim NAME=N")
    return tuple(int(d) for d in value.shape)  # type: ignore[arg-type]


def quantization_of(value: ir.Value) -> tuple[float | None, int | None]:
    """Scale and zero point that partition noted on the value, if any."""
    scale, zero = value.metadata_props.get(SCALE), value.metadata_props.get(ZERO_POINT)
    return (None if scale is None else float(scale), None if zero is None else int(zero))


def constant_array(value: ir.Value | None) -> npt.NDArray[np.generic]:
    """An initializer's value."""
    if value is None or value.const_value is None:
        raise MalformedError(f"value {None if value is None else value.name}", "not a constant")
    return np.asarray(value.const_value.numpy())


def attribute(node: ir.Node, name: str, default: object = None) -> object:
    """An attribute's value."""
    attr = node.attributes.get(name)
    return default if attr is None else attr.value


def ints(node: ir.Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """An attribute that is a list of integers."""
    value = attribute(node, name)
    return tuple(default) if value is None else tuple(int(v) for v in value)  # type: ignore[attr-defined]


def axis_of(node: ir.Node, rank: int, default: int = 0) -> int:
    """The `axis` attribute, counted from the front."""
    return int(attribute(node, "axis", default)) % rank  # type: ignore[call-overload, no-any-return]


def natural_order(value: ir.Value) -> list[int]:
    """Axes from outermost to innermost: channels last, unless a matrix product reads or makes the value."""
    rank = len(shape_of(value))
    around = [value.producer(), *(node for node, _ in value.uses())]
    types = {node.op_type for node in around if node is not None and unit_of(node) in ("array", "vector")}
    if rank < 3 or "MatMul" in types or (rank == 3 and not types & {"Conv", "MaxPool", "AveragePool"}):
        return list(range(rank))
    return [0, *range(2, rank), 1]
