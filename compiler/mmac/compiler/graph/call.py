"""What an outlined cluster says about itself: encodings, weights, bias, clamp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mmac.compiler.graph.constants import constant_of, minus_zero_point
from mmac.compiler.graph.edit import Array, attribute, operand
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
        zero = self.array(f"{role}_zero_point")
        scale = self.array(f"{role}_scale")
        return Encoding(
            float(scale.item()) if scale is not None else 1.0,
            0 if zero is None else int(zero.item()),
            value.dtype or ir.DataType.UINT8,
        )

    def output(self) -> Output:
        """Encoding and clamp of the result."""
        code = self.encoding("y")
        low, high = clamp(self._function, code, self._number)
        return Output(code.scale, code.zero_point, code.dtype, low, high)

    def weights(self) -> Array:
        """Integer weights minus their zero point: [O, I/g, …] of a Conv, [K, N] of a MatMul."""
        dq = next(node for node in self._function if operand(node, 0).name == "w")
        integers = minus_zero_point(self.required("w"), self.array("w_zero_point"), attribute(dq, "axis", 1))
        if self.has("Gemm") and attribute(self.core("Gemm"), "transB", 0):
            integers = integers.T
        return integers.astype(np.int8, copy=False)

    def bias(self, scale: Array) -> Array:
        """Bias int32 [O] in steps of `scale`, which is x_scale · w_scale of each channel."""
        integers, own = self.array("bias"), self.array("bias_scale")
        if integers is None or own is None:
            return np.zeros(scale.shape, np.int32)
        integers, own = (np.broadcast_to(array.reshape(-1), scale.shape) for array in (integers, own))
        if np.allclose(own, scale, rtol=1e-5, atol=0):
            return np.ascontiguousarray(integers, np.int32)
        steps = np.rint(integers * own.astype(np.float64) / scale)
        bias: Array = np.clip(steps, -(2**31) + 1, 2**31 - 1).astype(np.int32)
        return bias

    def array(self, role: str) -> Array | None:
        """A constant operand, or None if there is none of this role."""
        value = self.operands.get(role)
        return None if value is None else constant_of(value)

    def required(self, role: str) -> Array:
        """A constant operand that the operator requires.

        Raises:
            ValueError: it is not there, which partition would have refused.
        """
        array = self.array(role)
        if array is None:
            raise ValueError(f"{self.name} has no {role}")
        return array

    def _number(self, value: ir.Value) -> Array | None:
        """A constant of the body: one of its inputs, maybe behind a DequantizeLinear."""
        node = value.producer()
        if node is None:
            return self.array(value.name or "")
        integers, scale, *zero = (self._number(v) for v in node.inputs if v is not None)
        if node.op_type != "DequantizeLinear" or integers is None or scale is None:
            return None
        return np.asarray(minus_zero_point(integers, zero[0] if zero else None, 0) * scale)
