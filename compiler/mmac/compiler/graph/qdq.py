"""Quantization parameters and QuantizeLinear/DequantizeLinear pairs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmac.compiler.graph.edit import Array, Editor
from mmac.isa.plan import MAX_BETA
from mmac.isa.terms import truncate_values

_SMALLEST_SCALE = np.float32(2.0**-100)
"""Scales below it would make products of scales subnormal."""
_COARSER = 1.05
"""How much a scale may grow for the sake of a compact zero point: 0.4 dB, less than between calibration methods."""


@dataclass(frozen=True)
class Affine:
    """real = scale · (q − zero_point), uint8 q."""

    scale: np.float32
    zero_point: int

    @classmethod
    def from_range(cls, low: float, high: float) -> Affine:
        """Parameters that represent 0 exactly and cover `low`…`high`; an empty or infinite range becomes 0…1."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32((high - low) / 255)
        if not (np.isfinite(scale) and scale > _SMALLEST_SCALE):
            return cls(np.float32(1 / 255), 0)
        return cls(scale, int(np.clip(np.rint(-low / float(scale)), 0, 255)))

    @classmethod
    def for_terms(cls, low: float, high: float) -> Affine:
        """Like `from_range`, for data that will be truncated: also then they are 256 consecutive integers at most.

        Truncation can round up, past the end of the type: with zero point 120, the highest value 135 = 2^7 + 2^3 − 2^0
        becomes 136 at β = 2. With one of `compact_zero_points` a byte holds truncated data as it is, and eight-bit
        kernels can run on them. The nearest one is taken, if that makes the steps no more than 5 % coarser.
        """
        affine = cls.from_range(low, high)
        zeros = compact_zero_points()
        if affine.zero_point in zeros:
            return affine
        zeros = zeros[(zeros > 0) & (zeros < 255)]
        scales = np.maximum(-low / zeros, high / (255 - zeros))
        best = int(np.argmin(scales))
        return cls(np.float32(scales[best]), int(zeros[best])) if scales[best] <= _COARSER * affine.scale else affine

    def quantize(self, array: Array) -> Array:
        """uint8, rounded half to even and saturated, as QuantizeLinear does it."""
        steps = np.rint(np.asarray(array, np.float32) / self.scale) + np.float32(self.zero_point)
        integers: Array = np.clip(steps, 0, 255).astype(np.uint8)
        return integers


@cache
def compact_zero_points() -> npt.NDArray[np.int64]:
    """Zero points of uint8 at which data truncated to β = 2 or more terms span no more than 256 consecutive integers.

    (At β = 1 there are but two, 85 and 170.)
    """
    codes = np.arange(256)
    data = codes - codes[:, None]  # [zero point, code]
    spans = [np.ptp(truncate_values(data, beta), axis=1) for beta in range(2, MAX_BETA + 1)]
    return np.flatnonzero(np.max(spans, axis=0) < len(codes))


def insert_pair(editor: Editor, value: ir.Value, affine: Affine, users: Collection[ir.Node] | None) -> None:
    """Round `value` to uint8 and back for some of its users.

    Args:
        editor: of the graph that changes.
        value: an input or a node's output.
        affine: its parameters.
        users: nodes that get the rounded value; None for all of them and the graph outputs.
    """
    name = value.name or ""
    uses = [(node, index) for node, index in value.uses() if users is None or node in users]
    parameters = [
        editor.constant(np.asarray(affine.scale), f"{name}_scale"),
        editor.constant(np.asarray(affine.zero_point, np.uint8), f"{name}_zero_point"),
    ]
    names = editor.fresh(f"{name}_QuantizeLinear"), editor.fresh(f"{name}_DequantizeLinear")
    q = editor.node("QuantizeLinear", [value, *parameters], like=value, dtype=ir.DataType.UINT8, name=names[0])
    dq = editor.node("DequantizeLinear", [q.outputs[0], *parameters], like=value, name=names[1])
    q.outputs[0].name = editor.fresh(f"{name}_quantized")
    dq.outputs[0].name = editor.fresh(f"{name}_dequantized")
    producer = value.producer()
    if producer is None:
        editor.graph.insert_before(editor.graph[0], [q, dq])
    else:
        editor.graph.insert_after(producer, [q, dq])
    for node, index in uses:
        node.replace_input_with(index, dq.outputs[0])
    if users is None and value.is_graph_output():
        outputs = editor.graph.outputs
        outputs[outputs.index(value)] = dq.outputs[0]
        value.name = editor.fresh(f"{name}_float")
        dq.outputs[0].name = name


def dequantized_constant(
    editor: Editor,
    integers: Array,
    scale: Array,
    base: str,
    *,
    zero_point: Array | None = None,
    axis: int | None = None,
) -> ir.Node:
    """A DequantizeLinear of constant integers, outside the graph.

    Args:
        editor: of the graph that gets the initializers.
        integers: int8, uint8 or int32 of any shape.
        scale: float32, a scalar or one per index of `axis`.
        base: name that its parts begin with.
        zero_point: of the type of `integers` and the shape of `scale`; None is 0.
        axis: of the channels.
    """
    quantized = editor.constant(integers, f"{base}_quantized")
    parameters = [editor.constant(scale, f"{base}_scale")]
    if zero_point is not None:
        parameters.append(editor.constant(zero_point, f"{base}_zero_point"))
    attributes = {} if axis is None else {"axis": axis}
    name = editor.fresh(f"{base}_DequantizeLinear")
    inputs = [quantized, *parameters]
    return editor.node("DequantizeLinear", inputs, attributes, like=quantized, dtype=ir.DataType.FLOAT, name=name)
