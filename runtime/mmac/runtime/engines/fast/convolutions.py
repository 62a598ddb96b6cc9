"""Kernels of array layers: which of several exact ones, by what fits into eight bits and what is fast.

Data and weights are coded in eight bits each (`operands`). What does not fit is put beside it, as more values of the
same sum; how depends on the kind of convolution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from mmac.runtime.engines.fast.kernels import (
    MICROSOFT,
    ONE,
    Array,
    Graph,
    Index,
    Interleave,
    Kernel,
    Operand,
    Shape,
    Task,
    Unfold,
    Values,
    zero_point,
)
from mmac.runtime.engines.fast.layers import Convolution, Window
from mmac.runtime.engines.fast.operands import WEIGHT_ZERO, Coefficients, Data, fit_weights
from mmac.runtime.engines.fast.regions import Region
from mmac.runtime.engines.fast.weights import Weights
from mmac.runtime.memory import Bytes


def convolution(
    layer: Convolution, data: Data, weights: Weights, constants: npt.NDArray[np.void], threads: int
) -> tuple[Task, ...]:
    """Sums of products, bias, requantization (without a clamp narrower than the type).

    Args:
        layer: the layer.
        data: its data as codes.
        weights: at a level.
        constants: bias and scale of each channel.
        threads: for the kernels.

    Returns:
        Tasks: the first gives all channels of the result, the next, if any, gives some of them anew.
    """
    builder = _Convolution(layer, data, constants, threads)
    if len(data.tables) > 1 and _fits_binary32(data, weights, constants["bias"]):
        return (builder.real(weights),)
    return (builder.dense(weights),) if layer.groups == 1 else builder.grouped(weights)


def _fits_binary32(data: Data, weights: Weights, bias: Array) -> bool:
    """True if all sums, however ordered, are integers that binary32 holds."""
    sums = np.abs(weights.reshape(len(weights), -1)).sum(axis=1, dtype=np.int64) * int(np.abs(data.values).max())
    return bool((sums + np.abs(bias.astype(np.int64))).max() <= 1 << 24)


_UNFOLDED = 1 << 26
"""Most bytes of an unfolded operand."""
_NARROW = 16
"""Channels up to which unfolding windows in advance is faster."""
_FEW = 4
"""Channels up to which a general kernel is faster than a depthwise one."""
_VECTOR = 8
"""Channels that a depthwise kernel does at once."""


@dataclass(frozen=True)
class _Convolution:
    layer: Convolution
    data: Data
    constants: npt.NDArray[np.void]
    threads: int

    @property
    def geometry(self) -> dict[str, Any]:
        """Attributes of the layer itself."""
        window = self.layer.window
        return {"strides": window.stride, "dilations": window.dilation, "pads": self.layer.pads}

    def dense(self, weights: Weights) -> Task:
        """Rows of input values times columns of weights.

        A value is there twice if a weight needs an extra part. They are few among the values of a window, but with all
        rows and columns of a window they would be many: so the kernel is one of 1 × 1, on unfolded windows. Besides,
        that is faster if there are few channels.
        """
        layer, bias = self.layer, self.constants["bias"]
        o, i, kh, kw = weights.shape
        parts, pixels = len(self.data.tables), math.prod(layer.y.shape[:3])
        if pixels * parts * weights[0].size <= _UNFOLDED:
            fitted = fit_weights(weights.transpose(0, 2, 3, 1).reshape(o, -1, 1, 1), bias)
            if parts > 1 or fitted.extra is not None or (kh * kw > 1 and i <= _NARROW):
                return self._unfolded(fitted, layer.window, layer.pads, layer.y.shape)
            kernel = fitted.main.reshape(o, kh, kw, i).transpose(0, 3, 1, 2).copy()
        else:
            fitted = fit_weights(weights, bias)
            if parts > 1 or fitted.extra is not None:
                return self._unfolded(fitted, _POINT, (0, 0, 0, 0), layer.reading.shape, self.geometry)
            kernel = fitted.main
        return Task(self.build(layer.reading.shape, fitted, kernel, self.geometry), (self.operand(None),))

    def _unfolded(
        self,
        fitted: Coefficients,
        window: Window,
        pads: tuple[int, int, int, int],
        positions: Shape,
        geometry: Mapping[str, Any] | None = None,
    ) -> Task:
        """For every part of the data, all values of a window, and those again that have an extra part of weights."""
        n, h, w, _ = positions
        kernel, again = fitted.main, np.empty(0, np.intp)
        if fitted.extra is not None:
            again = np.flatnonzero(fitted.extra.any(axis=(0, 2, 3)))
            kernel = np.concatenate([kernel, fitted.extra[:, again] + np.uint8(WEIGHT_ZERO)], axis=1)
        kernel = np.concatenate([kernel] * len(self.data.tables), axis=1)
        made = self.build((n, h, w, kernel.shape[1]), fitted, kernel, geometry)
        return Task(made, (self.operand(Unfold(window, pads, (h, w), again)),))

    def real(self, weights: Weights) -> Task:
        """Sums in binary32, which must hold them."""
        layer, constants = self.layer, self.constants
        (n, h, w, c), groups = layer.reading.shape, layer.groups
        kernel, bias, scale = weights.astype(np.float32), constants["bias"].astype(np.float32), constants["scale"]
        if groups == 1 and layer.window == _POINT:
            graph = Graph((n * h * w, c), dtype=np.float32)
            sums = graph.add("Gemm", "x0", kernel[:, :, 0, 0].T.copy(), bias)
            shape: Shape = (n * h * w, len(kernel))
        else:
            graph, shape = Graph((n, h, w, c), dtype=np.float32), layer.y.shape
            data = graph.add("Transpose", "x0", perm=(0, 3, 1, 2))
            sums = graph.add("Conv", data, kernel, bias, group=groups, kernel_shape=kernel.shape[2:], **self.geometry)
            sums = graph.add("Transpose", sums, perm=(0, 2, 3, 1))
        graph.add("QuantizeLinear", graph.add("Mul", sums, scale), ONE, zero_point(layer.result))
        return Task(graph.build(shape, self.threads), (Values(self.data.values),))

    def grouped(self, weights: Weights) -> tuple[Task, ...]:
        """All groups, then those anew that have an extra part of weights; or all with it, if they are many."""
        layer = self.layer
        fitted = fit_weights(weights, self.constants["bias"])
        if fitted.extra is None:
            return (self._interleaved(fitted, [fitted.main]),)
        per_group = np.any(fitted.extra.reshape(layer.groups, -1), axis=1, keepdims=True)[:, 0]
        if len(self.data.tables) == 1 and np.count_nonzero(per_group) * layer.x.shape[3] <= _FEW * layer.groups:
            return self._interleaved(fitted, [fitted.main]), self._summed(fitted, np.flatnonzero(per_group))
        # depthwise kernels are fast for whole vectors of channels
        missing = -np.count_nonzero(per_group) % _VECTOR
        per_group[np.flatnonzero(~per_group)[:missing]] = True
        parts = [fitted.main, fitted.extra + np.uint8(WEIGHT_ZERO)]
        if 2 * np.count_nonzero(per_group) >= layer.groups:
            return (self._interleaved(fitted, parts),)
        return self._interleaved(fitted, parts[:1]), self._interleaved(fitted, parts, np.flatnonzero(per_group))

    def _interleaved(self, fitted: Coefficients, parts: Sequence[Bytes], groups: Index | None = None) -> Task:
        """Every part of the weights for every part of the data: row k·dilation is rows k·dilation·parts + part."""
        layer = self.layer
        inputs, outputs = (
            (None, None) if groups is None else (_members(groups, r, layer.groups) for r in (layer.x, layer.y))
        )
        kernels = [part if outputs is None else part[outputs] for part in parts] * len(self.data.tables)
        number = layer.groups if groups is None else len(groups)
        if (count := len(kernels)) == 1 and groups is None:
            return Task(
                self.build(layer.reading.shape, fitted, kernels[0], self.geometry, number), (self.operand(None),)
            )
        (n, h, w, _), window = layer.reading.shape, layer.window
        o, i, kh, kw = kernels[0].shape
        # rows that a dilation skips are taken with weight 0
        kernel = np.full((o, i, (kh - 1) * window.dilation[0] + 1, count, kw), WEIGHT_ZERO, np.uint8)
        kernel[:, :, :: window.dilation[0]] = np.stack(kernels, axis=3)
        top, left, bottom, right = layer.pads
        geometry = {
            "strides": (window.stride[0] * count, window.stride[1]),
            "dilations": (1, window.dilation[1]),
            "pads": (top * count, left, bottom * count, right),
        }
        shape = (n, h * count, w, number * i)
        made = self.build(shape, fitted, kernel.reshape(o, i, -1, kw), geometry, number, outputs)
        return Task(made, (self.operand(Interleave(inputs, len(parts))),), outputs)

    def _summed(self, fitted: Coefficients, groups: Index) -> Task:
        """Some groups, by adding the sums for both parts of the weights."""
        layer = self.layer
        if fitted.extra is None:
            raise ValueError("nothing to add")
        inputs, outputs = (_members(groups, region, layer.groups) for region in (layer.x, layer.y))
        scale, bias = self._constants(fitted, outputs)
        graph = Graph((*layer.reading.shape[:3], len(inputs)))
        data = graph.add("Transpose", "x0", perm=(0, 3, 1, 2))
        total: str | Array = bias[:, None, None]
        for part in (fitted.main, fitted.extra + np.uint8(WEIGHT_ZERO)):
            sums = graph.add(
                "ConvInteger", data, part[outputs], np.uint8(self.data.zero), np.uint8(WEIGHT_ZERO),
                group=len(groups), kernel_shape=layer.window.kernel, **self.geometry,
            )  # fmt: skip
            total = graph.add("Add", sums, total)
        real = graph.add("Mul", graph.add("Cast", str(total), to=onnx.TensorProto.FLOAT), scale[:, None, None])
        quantized = graph.add("QuantizeLinear", real, ONE, zero_point(layer.result))
        graph.add("Transpose", quantized, perm=(0, 2, 3, 1))
        made = graph.build((*layer.y.shape[:3], len(outputs)), self.threads)
        return Task(made, (self.operand(Interleave(inputs, 1)),), outputs)

    def _constants(self, fitted: Coefficients, channels: Index | None) -> tuple[Array, Array]:
        """Scale and bias of all or some channels of the result."""
        chosen = slice(None) if channels is None else channels
        sign = np.where(fitted.negative, -1, 1)[chosen]
        constants = self.constants[chosen]
        return constants["scale"] * sign.astype(np.float32), (constants["bias"] * sign).astype(np.int32)

    def operand(self, form: Unfold | Interleave | None) -> Operand:
        """The data in some form."""
        return Operand(self.data.tables, self.data.zero, form)

    def build(
        self,
        shape: Shape,
        fitted: Coefficients,
        kernel: Bytes,
        geometry: Mapping[str, Any] | None = None,
        groups: int = 1,
        channels: Index | None = None,
    ) -> Kernel:
        """A kernel of some geometry (None: of one pixel), for all or some channels of the result."""
        scale, bias = self._constants(fitted, channels)
        graph = Graph(shape)
        graph.add(
            "QLinearConv", "x0", ONE, np.uint8(self.data.zero), kernel, scale, np.uint8(WEIGHT_ZERO),
            ONE, zero_point(self.layer.result), bias,
            domain=MICROSOFT, channels_last=1, group=groups, kernel_shape=kernel.shape[2:], **(geometry or {}),
        )  # fmt: skip
        pixels = self.layer.y.shape[:3] if geometry else shape[:3]
        return graph.build((*pixels, len(bias)), self.threads)


_POINT = Window((1, 1), (1, 1), (1, 1), (0, 0))


def _members(groups: Index, region: Region, count: int) -> Index:
    """Channels of a tensor that belong to some of `count` groups."""
    size = region.shape[3] // count
    return (groups[:, None] * size + np.arange(size)).reshape(-1)
