"""ONNX's own C++ tools (checker, shape inference, version converter) on models of any size."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable

import onnx
import onnx_ir as ir

from mmac.isa.errors import MalformedError
from mmac.isa.program import DTYPES

INLINE_BYTES = 1024
"""Initializers up to this size can matter to shape inference (shapes, axes, scales); larger ones are left out."""


GROWING = frozenset(
    ("ConstantOfShape", "Expand", "Loop", "OneHot", "Pad", "Range", "Resize", "Scan", "Tile", "Upsample")
)
"""Operators whose results can be larger than their operands by any factor, which numbers in operands say."""
_FOLLOWED = 1 << 12
"""Longest vector whose numbers are followed."""


def light_proto(model: ir.Model) -> onnx.ModelProto:
    """`model` with each initializer above `INLINE_BYTES` turned into an input, which keeps the bytes few."""
    light = model.clone()
    for value in list(light.graph.initializers.values()):
        tensor = value.const_value
        if tensor is not None and tensor.dtype != ir.DataType.STRING and tensor.nbytes > INLINE_BYTES:
            value.shape, value.dtype = ir.Shape(tensor.shape), tensor.dtype  # type: ignore[arg-type]
            light.graph.initializers.pop(value.name or "")
            light.graph.inputs.append(value)
    return ir.serde.serialize_model(light)


def infer_shapes(model: ir.Model, where: str) -> None:
    """Set shape and dtype of every value of `model` that can be known; in place.

    Args:
        model: changed in place: shapes and dtypes of the main graph's values.
        where: file or pass that errors name.

    Raises:
        MalformedError: shapes or types that contradict each other.
    """
    _infer(model, where, follow=False)
    if _can_follow(model):
        # onnx adds and subtracts vectors as if they were shapes, and fails if one is longer: then they stay unknown
        with contextlib.suppress(MalformedError):
            _infer(model, where, follow=True)


def _can_follow(model: ir.Model) -> bool:
    """Whether following vectors, which may be shapes, takes onnx little time and memory: it writes them out."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            shape = static_shape(value)
            known = shape is not None or (value.shape is not None and len(value.shape) > 1)
            if node.op_type in GROWING and not known:
                return False
            if shape is not None and len(shape) < 2 and math.prod(shape) > _FOLLOWED:
                return False
    return True


def _infer(model: ir.Model, where: str, *, follow: bool) -> None:
    """Have onnx infer shapes, and take what it finds; `follow` are the values of vectors of numbers."""
    # Operators outside ONNX have no inference function: strict mode would refuse what follows them.
    strict = all(node.domain in ("", "ai.onnx", "mmac") for node in model.graph.all_nodes())
    try:
        proto = onnx.shape_inference.infer_shapes(
            light_proto(model), check_type=strict, strict_mode=strict, data_prop=follow
        )
    except Exception as error:  # onnx raises several unrelated types here
        raise MalformedError(
            where,
            f"shapes or types do not fit: {_first_line(error)}",
            hint="onnx.checker says more; export the model again",
        ) from error
    inferred = ir.convenience.create_value_mapping(ir.serde.deserialize_model(proto).graph)
    for name, value in ir.convenience.create_value_mapping(model.graph).items():
        if (found := inferred.get(name)) is None or value.is_initializer() or value.is_graph_input():
            continue
        if found.type is not None:
            value.type = found.type
        if found.shape is not None:
            value.shape = found.shape


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Shape of `value` if each of its dimensions is a known number."""
    if value is None:
        return None
    if value.const_value is not None:
        return _ints(value.const_value.shape)
    return None if value.shape is None else _ints(value.shape)


def is_numeric(value: ir.Value) -> bool:
    """Whether `value` is a tensor of numbers that numpy has, or may be one as its type is not known."""
    if value.dtype is None and (value.type is None or isinstance(value.type, ir.TensorType)):
        return True
    return isinstance(value.type, ir.TensorType) and str(value.type.dtype.numpy()) in DTYPES


def type_name(value: ir.Value) -> str:
    """What a value is, in words."""
    kinds = {ir.SequenceType: "a sequence", ir.OptionalType: "optional", ir.SparseTensorType: "sparse"}
    kind = next((name for of, name in kinds.items() if isinstance(value.type, of)), None)
    return kind or (value.dtype.name.lower() if value.dtype is not None else "of unknown type")


def _ints(shape: Iterable[object]) -> tuple[int, ...] | None:
    dims = [dim for dim in shape if isinstance(dim, int)]
    return tuple(dims) if len(dims) == len(list(shape)) else None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
