"""Integer kernels: small onnxruntime graphs over NHWC uint8 tensors, exact bit for bit.

All tensors are codes 0…255 (int8 tensors shifted by 128), weights too: products of uint8 with uint8 are exact on every
processor, whereas onnxruntime's uint8 × int8 kernels saturate at 16 bits where there is no VNNI. Graph optimizations
are off, because several of onnxruntime's fusions would change roundings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from mmac.isa import table
from mmac.runtime.engines.fast.layers import Binary, Convolution, Pool, Window, codes
from mmac.runtime.engines.fast.operands import WEIGHT_ZERO, Coefficients, Data, fit_weights
from mmac.runtime.engines.fast.regions import Region
from mmac.runtime.engines.fast.weights import Weights
from mmac.runtime.memory import Bytes

Array = npt.NDArray[Any]
Index = npt.NDArray[np.intp]
Shape = tuple[int, ...]

_ONE = np.float32(1)
_MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Kernel:
    """A ready session: inputs ``x0``, ``x1`` … of `inputs` shapes, output ``y`` of shape `output`."""

    session: Any
    inputs: tuple[Shape, ...]
    output: Shape


class Graph:
    """A graph in the making."""

    def __init__(self, *inputs: Shape) -> None:
        self.inputs = inputs
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}

    def add(self, op: str, *operands: str | Array | np.generic, domain: str = "", **attributes: Any) -> str:
        """Add a node; arrays become constants. Returns the name of its output."""
        names = [self._constant(v) if not isinstance(v, str) else v for v in operands]
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [output], domain=domain, **attributes))
        return output

    def _constant(self, value: Array | np.generic) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def build(self, shape: Shape, threads: int) -> Kernel:
        """The session that computes the output of the last node, of this shape."""
        self.nodes[-1].output[0] = "y"
        uint8 = onnx.TensorProto.UINT8
        graph = helper.make_graph(
            self.nodes,
            "kernel",
            [helper.make_tensor_value_info(f"x{i}", uint8, s) for i, s in enumerate(self.inputs)],
            [helper.make_tensor_value_info("y", uint8, shape)],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        return Kernel(_session(graph, threads), self.inputs, shape)


def _session(graph: onnx.GraphProto, threads: int) -> Any:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(_MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # many small sessions: threads that wait must not take the processor from the one that works
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Unfold:
    """One row of values for each position of a window (kernel row, kernel column, channel), and some of them again.

    Attributes:
        window: geometry.
        pads: rows and columns of padding: before h, w, after h, w.
        outputs: positions along h, w.
        again: numbers of the values that are there twice.
    """

    window: Window
    pads: tuple[int, int, int, int]
    outputs: tuple[int, int]
    again: Index


@dataclass(frozen=True)
class Interleave:
    """Row by row each part `repeat` times; `channels` of it, None for all."""

    channels: Index | None
    repeat: int


@dataclass(frozen=True)
class Operand:
    """How a kernel wants a tensor [n, h, w, c].

    Attributes:
        tables: code of each DRAM byte; with several tables, the operand has several parts.
        zero: the code of nothing.
        form: how parts are arranged: as they are (then there is one), or in rows, one after the other or interleaved.
    """

    tables: tuple[Bytes, ...]
    zero: int = 0
    form: Unfold | Interleave | None = None


@dataclass(frozen=True)
class Task:
    """A kernel and what it reads. `channels`: those of the layer's result that it gives, None for all."""

    kernel: Kernel
    operands: tuple[Operand, ...]
    channels: Index | None = None


def convolution(
    layer: Convolution, data: Data, weights: Weights, constants: npt.NDArray[np.void], threads: int
) -> tuple[Task, ...]:
    """Sums of products, bias, requantization (without a clamp narrower than the type).

    The first task gives all channels of the result, the next, if any, gives some of them anew.
    """
    builder = _Convolution(layer, data, constants, threads)
    return (builder.dense(weights),) if layer.groups == 1 else builder.grouped(weights)


_UNFOLDED = 1 << 26
"""Most bytes of an unfolded operand."""
_VECTOR = 8
"""Channels that a depthwise kernel does at once."""


@dataclass(frozen=True)
class _Convolution:
    layer: Convolution
    data: Data
    constants: npt.NDArray[np.void]
    threads: int

    @property
    def _geometry(self) -> dict[str, Any]:
        window = self.layer.window
        return {"strides": window.stride, "dilations": window.dilation, "pads": self.layer.pads}

    def dense(self, weights: Weights) -> Task:
        """Rows of input values times columns of weights.

        A value is there twice if a weight needs an extra part. They are few among the values of a window, but with all
        rows and columns of a window they would be many: so the kernel is one of 1 × 1, on unfolded windows.
        """
        layer, tables = self.layer, self.data.tables
        fitted = fit_weights(weights, self.constants["bias"])
        if fitted.extra is None and len(tables) == 1:
            return Task(self._build(layer.reading.shape, fitted, fitted.main), (self._operand(None),))
        n, (h, w) = layer.y.shape[0], layer.y.shape[1:3]
        form, geometry = Unfold(layer.window, layer.pads, (h, w), _NONE), {}
        if n * h * w * weights[0].size <= _UNFOLDED:
            rows = weights.transpose(0, 2, 3, 1).reshape(len(weights), -1, 1, 1)
            fitted = fit_weights(rows, self.constants["bias"])
        else:
            h, w = layer.reading.shape[1:3]
            form, geometry = Unfold(_POINT, (0, 0, 0, 0), (h, w), _NONE), self._geometry
        kernel = [fitted.main]
        if fitted.extra is not None:
            form = replace(form, again=np.flatnonzero(fitted.extra.any(axis=(0, 2, 3))))
            kernel.append(fitted.extra[:, form.again] + np.uint8(WEIGHT_ZERO))
        columns = np.concatenate(kernel * len(tables), axis=1)
        return Task(self._build((n, h, w, columns.shape[1]), fitted, columns, geometry), (self._operand(form),))

    def grouped(self, weights: Weights) -> tuple[Task, ...]:
        """All groups, then those anew that have an extra part of weights; or all with it, if they are many."""
        layer = self.layer
        fitted = fit_weights(weights, self.constants["bias"])
        if fitted.extra is None:
            return (self._interleaved(fitted, [fitted.main]),)
        per_group = np.any(fitted.extra.reshape(layer.groups, -1), axis=1, keepdims=True)[:, 0]
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
            return Task(self._build(layer.reading.shape, fitted, kernels[0], groups=number), (self._operand(None),))
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
        made = self._build(shape, fitted, kernel.reshape(o, i, -1, kw), geometry, number, outputs)
        return Task(made, (self._operand(Interleave(inputs, len(parts))),), outputs)

    def _operand(self, form: Unfold | Interleave | None) -> Operand:
        return Operand(self.data.tables, self.data.zero, form)

    def _build(
        self,
        shape: Shape,
        fitted: Coefficients,
        kernel: Bytes,
        geometry: Mapping[str, Any] | None = None,
        groups: int = 1,
        channels: Index | None = None,
    ) -> Kernel:
        """A kernel of the layer's geometry, or another one, for all or some channels of the result."""
        chosen = slice(None) if channels is None else channels
        sign = np.where(fitted.negative, -1, 1)[chosen]
        scale = self.constants["scale"][chosen] * sign.astype(np.float32)
        bias = (self.constants["bias"][chosen] * sign).astype(np.int32)
        graph = Graph(shape)
        graph.add(
            "QLinearConv", "x0", _ONE, np.uint8(self.data.zero), kernel, scale, np.uint8(WEIGHT_ZERO),
            _ONE, _zero(self.layer.result), bias,
            domain=_MICROSOFT, channels_last=1, group=groups, kernel_shape=kernel.shape[2:],
            **(self._geometry if geometry is None else geometry),
        )  # fmt: skip
        return graph.build((*self.layer.y.shape[:3], len(bias)), self.threads)


_NONE: Index = np.empty(0, np.intp)
_POINT = Window((1, 1), (1, 1), (1, 1), (0, 0))


def _members(groups: Index, region: Region, count: int) -> Index:
    """Channels of a tensor that belong to some of `count` groups."""
    size = region.shape[3] // count
    return (groups[:, None] * size + np.arange(size)).reshape(-1)


def binary(layer: Binary, threads: int) -> Task:
    """Sum or product in binary32, as stated for `vadd` and `vmul` (without the clamp)."""
    quant = layer.quant
    graph = Graph(layer.a.shape, layer.b.shape)
    a_scale, b_scale = _scale(quant.a_scale), _scale(quant.b_scale)
    a_zero, b_zero = np.uint8(codes(quant.a_zero, quant.a_signed)), np.uint8(codes(quant.b_zero, quant.b_signed))
    if layer.multiply:
        # 9 bits times 9 bits is exact in binary32
        a, b = (graph.add("DequantizeLinear", x, _ONE, z) for x, z in (("x0", a_zero), ("x1", b_zero)))
        value = graph.add("Mul", graph.add("Mul", a, b), a_scale)
    else:
        a = graph.add("DequantizeLinear", "x0", a_scale, a_zero)
        b = graph.add("DequantizeLinear", "x1", b_scale, b_zero)
        value = graph.add("Add", a, b)
    graph.add("QuantizeLinear", value, _ONE, _zero(quant))
    operands = (Operand((shift(signed),)) for signed in (quant.a_signed, quant.b_signed))
    return Task(graph.build(layer.y.shape, threads), tuple(operands))


def pool(layer: Pool, threads: int) -> Task:
    """Maximum or average of windows (without the clamp)."""
    return Task(_pool(layer, threads), (Operand((shift(layer.quant.a_signed),)),))


def _pool(layer: Pool, threads: int) -> Kernel:
    window = layer.window
    geometry: Mapping[str, Any] = {
        "kernel_shape": window.kernel, "strides": window.stride, "dilations": window.dilation, "pads": layer.pads,
    }  # fmt: skip
    graph = Graph(layer.reading.shape)
    if not layer.average:
        graph.add("NhwcMaxPool", "x0", domain=_MICROSOFT, **geometry)
        return graph.build(layer.y.shape, threads)
    quant, channels = layer.quant, layer.x.shape[3]
    zero = np.uint8(codes(quant.a_zero, quant.a_signed))
    scale = _scale(quant.a_scale) / _window_sizes(layer)
    if (scale == scale.flat[0]).all():
        ones = np.ones((channels, 1, *window.kernel), np.uint8)
        graph.add(
            "QLinearConv", "x0", _ONE, zero, ones, scale.flat[0], np.uint8(0), _ONE, _zero(quant),
            domain=_MICROSOFT, channels_last=1, group=channels, **geometry,
        )  # fmt: skip
        return graph.build(layer.y.shape, threads)
    # sums of bytes are exact in binary32 in any order
    data = graph.add("Transpose", graph.add("DequantizeLinear", "x0", _ONE, zero), perm=(0, 3, 1, 2))
    sums = graph.add("Conv", data, np.ones((channels, 1, *window.kernel), np.float32), group=channels, **geometry)
    means = graph.add("Mul", graph.add("Transpose", sums, perm=(0, 2, 3, 1)), scale)
    graph.add("QuantizeLinear", means, _ONE, _zero(quant))
    return graph.build(layer.y.shape, threads)


def _window_sizes(layer: Pool) -> npt.NDArray[np.float32]:
    """Elements that each mean is over, [1, h, w, 1]: all of the window, or those of it inside x (at least 1)."""
    if layer.count_pad:
        return np.full((1, 1, 1, 1), np.prod(layer.window.kernel), np.float32)
    counts = []
    for axis in (0, 1):
        starts = np.arange(layer.y.shape[axis + 1])[:, None] * layer.window.stride[axis] - layer.window.pad[axis]
        taps = starts + np.arange(layer.window.kernel[axis]) * layer.window.dilation[axis]
        counts.append(((taps >= 0) & (taps < layer.x.shape[axis + 1])).sum(axis=1))
    sizes: npt.NDArray[np.float32] = np.maximum(np.outer(*counts), 1).astype(np.float32)
    return sizes[None, :, :, None]


def shift(signed: int) -> Bytes:
    """Codes of the bytes of a tensor, and back: int8 is shifted by 128."""
    return np.arange(256, dtype=np.uint8) ^ np.uint8(0x80 * signed)


def _zero(quant: table.Quant) -> np.uint8:
    return np.uint8(codes(quant.y_zero, quant.y_signed))


def _scale(bits: int) -> np.float32:
    return np.uint32(bits).view(np.float32)
