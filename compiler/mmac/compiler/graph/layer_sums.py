"""Sums of products of one array layer on many samples, and what the requantization makes of them.

Made for statistics, and therefore fast: the sums are onnxruntime's in binary32, which are those of the machine up to
2^24 and rounded beyond.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from mmac.compiler.graph.call import Call
from mmac.compiler.graph.edit import Array, attribute, constant_array
from mmac.compiler.graph.execute import session
from mmac.compiler.graph.rewrites import REWRITES, window
from mmac.isa.plan import MAX_BETA
from mmac.isa.terms import truncate_values

Real = npt.NDArray[np.float32]

_SAMPLED = 512
"""Sums per channel, of all samples together, that `LayerKernel.sample` takes."""
_OPSET = 17


@dataclass(frozen=True)
class Products:
    """What an array layer multiplies, and its constants.

    Attributes:
        data: float32 [256] data value of each byte.
        weights: integers, [O, I/g, …] of a Conv, [K, N] of a MatMul.
        bias: int32 [channels].
        scale: float32 [channels].
    """

    data: Real
    weights: Array
    bias: Array
    scale: Array

    @staticmethod
    def of(call: Call, level: int) -> Products:
        """Of a layer at a level."""
        exact = REWRITES[call.node.op_type](call, level)
        arrays = [exact.arrays[role] for role in ("data_table", "terms", "bias", "scale")]
        return Products._of(exact.attributes["digit_weights"], *arrays)

    @staticmethod
    def of_exact(node: ir.Node) -> Products:
        """Of a layer of an exact model."""
        arrays = [array for value in node.inputs[1:] if (array := constant_array(value)) is not None]
        return Products._of(attribute(node, "digit_weights", [1]), *arrays)

    @staticmethod
    def _of(digit_weights: Sequence[int], table: Array, weights: Array, bias: Array, scale: Array) -> Products:
        data: Real = np.array(digit_weights, np.float32) @ table
        return Products(data, weights, bias, scale)

    def are_those_of(self, other: Products) -> bool:
        """Whether the results are the same on any data."""
        names = ("data", "weights", "bias", "scale")
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in names)

    def largest_sums(self) -> npt.NDArray[np.int64]:
        """[channels] not less than the sum of the magnitudes of the weights, however few of their terms are kept."""
        channels = 0 if self.weights.ndim > 2 else 1
        rows = np.moveaxis(_worst()[np.abs(self.weights.astype(np.int16))], channels, 0)
        sums: npt.NDArray[np.int64] = rows.reshape(len(rows), -1).sum(axis=1, dtype=np.int64)
        return sums


@cache
def _worst() -> npt.NDArray[np.int16]:
    """The largest magnitude that truncation can give a value of magnitude 0…256."""
    truncated = [np.abs(truncate_values(np.arange(257), beta)) for beta in range(1, MAX_BETA + 1)]
    worst: npt.NDArray[np.int16] = np.max(truncated, axis=0)
    return worst


class LayerKernel:
    """One layer on samples [batch, …], at any level.

    Args:
        call: an outlined Conv or MatMul.
    """

    def __init__(self, call: Call) -> None:
        self._is_conv = call.node.op_type == "Conv"
        geometry = window(call) if self._is_conv else {}
        self._rank = len(geometry.get("kernel_shape", ()))
        self._y = call.output()
        self._products = _product_session(call.node.op_type, geometry)
        self._rounding = _rounding_session(self._y.dtype)

    def sums(self, samples: Array, products: Products) -> list[Real]:
        """Sums of products, without bias.

        One array per sample (smaller ones are reused by the allocator), float32: [batch, channels, …] of a Conv,
        [batch, …, channels] of a MatMul.
        """
        weights = products.weights.astype(np.float32)
        return [
            self._products.run(None, {"x": products.data.take(x.view(np.uint8), mode="clip"), "w": weights})[0]
            for x in samples
        ]

    def sample(self, sums: Sequence[Real]) -> Real:
        """Some of the sums, always at the same places: [channels, n]."""
        places = self._places(sums[0], max(1, _SAMPLED // len(sums)))
        return np.concatenate([self._flat(array)[places[0], :, places[1]] for array in sums]).T.copy()

    def _places(self, sums: Real, most: int) -> tuple[Array, Array]:
        batch, _, pixels = self._flat(sums).shape
        places = np.arange(batch * pixels)
        if len(places) > most:
            places = np.sort(np.random.default_rng(0).choice(len(places), most, replace=False))
        return np.divmod(places, pixels)

    def _flat(self, sums: Real) -> Real:
        """[batch, channels, pixels], however many axes there were."""
        if self._is_conv:
            return sums.reshape(*sums.shape[:2], -1)
        return sums.reshape(-1, sums.shape[-1], 1)

    def requantize(self, sums: Sequence[Real], products: Products) -> Array:
        """Integers of the result, [samples, *shape]."""
        column = (-1,) + (1,) * self._rank
        constants = {
            "bias": products.bias.astype(np.float32).reshape(column),
            "scale": products.scale.reshape(column),
            "zero": np.array(self._y.zero_point, self._y.dtype.numpy()),
        }
        y = np.stack([self._rounding.run(None, {"sums": array, **constants})[0] for array in sums])
        info = np.iinfo(y.dtype)
        if (self._y.low, self._y.high) != (info.min, info.max):
            np.clip(y, self._y.low, self._y.high, out=y)
        return y

    def visible(self, products: Products) -> tuple[Real, Real]:
        """[channels] sums between which the result moves; below and above, its clamp hides them."""
        low, high = (
            ((edge - self._y.zero_point) / products.scale.astype(np.float64) - products.bias).astype(np.float32)
            for edge in (self._y.low - 0.5, self._y.high + 0.5)
        )
        return low, high


def _product_session(kind: str, geometry: Mapping[str, Any]) -> ort.InferenceSession:
    x, w = (_real(name) for name in "xw")
    return _session(ir.node(kind, [x, w], geometry), [x, w])


@cache
def _rounding_session(dtype: ir.DataType) -> ort.InferenceSession:
    sums, bias, scale = (_real(name) for name in ("sums", "bias", "scale"))
    zero = ir.Value(name="zero", type=ir.TensorType(dtype), shape=ir.Shape([]))
    one = ir.Value(name="one", const_value=ir.tensor(np.float32(1), name="one"))
    biased = ir.node("Add", [sums, bias])
    product = ir.node("Mul", [*biased.outputs, scale])
    last = ir.node("QuantizeLinear", [*product.outputs, one, zero])
    return _session(last, [sums, bias, scale, zero], [biased, product], [one])


def _real(name: str) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT))


def _session(
    last: ir.Node, inputs: list[ir.Value], before: Sequence[ir.Node] = (), constants: Sequence[ir.Value] = ()
) -> ort.InferenceSession:
    """onnxruntime on a few nodes, the last of which gives the result."""
    graph = ir.Graph(
        inputs, last.outputs, nodes=[*before, last], initializers=constants, opset_imports={"": _OPSET}, name="layer"
    )
    return session(ir.Model(graph, ir_version=8), threads=len(os.sched_getaffinity(0)))
