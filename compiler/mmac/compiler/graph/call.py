"""What an outlined cluster says about itself: encodings, weights, bias, clamp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mmac.compiler.graph.constants import along, constant_of
from mmac.compiler.graph.edit import Array, attribute
from mmac.compiler.graph.integers import Encoding, clamp
from mmac.compiler.graph.operators import BY_KIND


@dataclass(frozen=True)
class Output:
    """Encoding of a result, and the clamp that its Relu and Clip amount to."""

    scale: float
    zero_point: int
    dtype: ir.DataType
    low: int
    high: int

    def attributes(self) -> dict[str, int]:
        """As attributes of an exact body."""
        return {
            "y_zero_point": self.zero_point,
            "y_min": self.low,
            "y_max": self.high,
            "y_type": int(self.dtype),
        }


class Call:
    """One call of an outlined cluster.

    Attributes:
        node: the call.
        name: its name, which is the layer's.
    """

    def __init__(self, node: ir.Node, model: ir.Model) -> None:
        self.node, self.name = node, node.name or ""
        self._function = model.functions[node.op_identifier()]

    @property
    def operands(self) -> dict[str, ir.Value]:
        """Inputs by role: ``x``, ``x_scale``, …"""
        pairs = zip(self._function.inputs, self.node.inputs, strict=True)
        return {formal.name or "": actual for formal, actual in pairs if actual is not None}

    @property
    def integers(self) -> list[ir.Value]:
        """The integer operands, in order; constant ones included."""
        operands = self.operands
        return [operands[role] for role in BY_KIND[self.node.op_type].roles if role in operands]

    def core(self, op_type: str) -> ir.Node:
        """The node of `op_type` in the body."""
        return next(node for node in self._function if node.op_type == op_type)

    def has(self, op_type: str) -> bool:
        """Whether the body has a node of `op_type`."""
        return any(node.op_type == op_type for node in self._function)

    def encoding(self, role: str) -> Encoding:
        """Encoding of an integer operand or, as ``y``, of the result."""
        value = self.node.outputs[0] if role == "y" else self.operands[role]
        zero = self._array(f"{role}_zero_point")
        scale = self._array(f"{role}_scale")
        return Encoding(
            float(scale.item()) if scale is not None else 1.0,
            0 if zero is None else int(zero.item()),
            value.dtype or ir.DataType.UINT8,
        )

    def output(self) -> Output:
        """Encoding and clamp of the result."""
        code = self.encoding("y")
        low, high = clamp(self._function, code, lambda bound: self._array(bound.name or ""))
        return Output(code.scale, code.zero_point, code.dtype, low, high)

    def weights(self) -> Array:
        """Integer weights minus their zero point: [O, I/g, …] of a Conv, [K, N] of a MatMul."""
        integers = self._array("w")
        if integers is None:
            raise ValueError(f"{self.name} has no weights")
        zero = self._array("w_zero_point")
        if zero is not None and zero.any():
            dq = next(node for node in self._function if node.inputs[0] is not None and node.inputs[0].name == "w")
            axis = attribute(dq, "axis", 1)
            integers = integers.astype(np.int16) - along(zero.astype(np.int16), integers.ndim, axis)
        if self.has("Gemm") and attribute(self.core("Gemm"), "transB", 0):
            integers = integers.T
        return integers.astype(np.int8, copy=False)

    def vector(self, role: str) -> Array:
        """A constant scalar or vector as a vector."""
        array = self._array(role)
        return np.zeros(1, np.float32) if array is None else array.reshape(-1)

    def bias(self, scale: Array) -> Array:
        """Bias int32 [O] in steps of `scale`, which is x_scale · w_scale of each channel."""
        integers = self._array("bias")
        if integers is None:
            return np.zeros(scale.shape, np.int32)
        own = np.broadcast_to(self.vector("bias_scale").astype(np.float64), scale.shape)
        integers = np.broadcast_to(integers.reshape(-1), scale.shape)
        if np.allclose(own, scale, rtol=1e-5, atol=0):
            return np.ascontiguousarray(integers.astype(np.int32))
        steps = np.rint(integers * own / scale.astype(np.float64))
        return np.clip(steps, -(2**31) + 1, 2**31 - 1).astype(np.int32)

    def _array(self, role: str) -> Array | None:
        value = self.operands.get(role)
        return None if value is None else constant_of(value)
