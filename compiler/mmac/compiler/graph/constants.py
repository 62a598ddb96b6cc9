"""What counts as a constant: an initializer, or an initializer behind a DequantizeLinear."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mmac.compiler.graph.edit import Array, attribute, constant_array


def is_constant(value: ir.Value | None) -> bool:
    """True for initializers and for DequantizeLinear of initializers."""
    if value is None:
        return False
    node = value.producer()
    if node is None:
        return value.is_initializer() and value.const_value is not None
    return node.op_type == "DequantizeLinear" and all(is_constant(v) for v in node.inputs if v is not None)


def constant_of(value: ir.Value | None) -> Array | None:
    """The numbers of a constant, dequantized if need be, or None if `value` is not one."""
    if value is None or not is_constant(value):
        return None
    node = value.producer()
    if node is None:
        return constant_array(value)
    quantized, scale, *zero = (constant_of(v) for v in node.inputs if v is not None)
    if quantized is None or scale is None:
        return None
    axis = attribute(node, "axis", 1)
    wide = minus_zero_point(quantized, zero[0] if zero else None, axis)
    return np.asarray(wide.astype(np.float32) * along(scale, quantized.ndim, axis))


def minus_zero_point(integers: Array, zero: Array | None, axis: int) -> Array:
    """`integers` less their zero points, a scalar or one per index of `axis`; as they are if those are 0."""
    if zero is None or not zero.any():
        return integers
    wide = np.int16 if integers.itemsize == 1 else np.int64
    return np.asarray(integers.astype(wide) - along(zero.astype(wide), integers.ndim, axis))


def along(vector: Array, rank: int, axis: int) -> Array:
    """`vector` shaped so that it lies along `axis` of a tensor of `rank` (scalars stay scalars)."""
    if vector.ndim != 1 or vector.size == 1:
        return vector.reshape(()) if vector.size == 1 else vector
    shape = [1] * rank
    shape[axis] = vector.size
    return vector.reshape(shape)


def is_scalar(value: ir.Value | None) -> bool:
    """True for a constant of one element."""
    array = constant_of(value) if value is not None and is_constant(value) else None
    return array is not None and array.size == 1
