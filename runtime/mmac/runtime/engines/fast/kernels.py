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
from mmac.runtime.engines.fast.layers import Binary, Convolution, Pool, codes
from mmac.runtime.engines.fast.operands import WEIGHT_ZERO, Coefficients, Data
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
class Operand:
    """How a kernel wants a tensor [n, h, w, c]: a sequence of parts.

    A part is a table of codes of DRAM bytes, and the channels that it takes (None: all). If `repeat` is 0, the parts
    follow each other along the channels, else they alternate row by row, each in `repeat` rows.
    """

    parts: tuple[tuple[Bytes, Index | None], ...]
    repeat: int = 0

    @staticmethod
    def plain(codes_of: Bytes) -> Operand:
        """One table for all."""
        return Operand(((codes_of, None),))


@dataclass(frozen=True)
class Task:
    """A kernel and what it reads. `channels`: those of the layer's result that it gives, None for all."""

    kernel: Kernel
    operands: tuple[Operand, ...]
    channels: Index | None = None


def convolution(
    layer: Convolution, data: Data, weights: Coefficients, constants: npt.NDArray[np.void], threads: int
) -> tuple[Task, ...]:
    """Sums of products, bias, requantization (without a clamp narrower than the type).

    The first task gives all channels of the result, the next, if any, gives some of them anew.
    """
    sign = np.where(weights.negative, -1, 1)
    scale, bias = constants["scale"] * sign.astype(np.float32), (constants["bias"] * sign).astype(np.int32)
    builder = _Convolution(layer, data, threads)
    if layer.groups == 1:
        return (builder.dense(weights, scale, bias),)
    if weights.extra is None:
        return (builder.grouped([weights.main], scale, bias),)
    extra = weights.extra + np.uint8(WEIGHT_ZERO)
    per_group = np.any(weights.extra.reshape(layer.groups, -1), axis=1, keepdims=True)[:, 0]
    # depthwise kernels are fast for whole vectors of channels
    missing = -np.count_nonzero(per_group) % _VECTOR
    per_group[np.flatnonzero(~per_group)[:missing]] = True
    if 2 * np.count_nonzero(per_group) >= layer.groups:
        return (builder.grouped([weights.main, extra], scale, bias),)
    outputs, inputs = (np.flatnonzero(per_group.repeat(r.shape[3] // layer.groups)) for r in (layer.y, layer.x))
    some = builder.grouped([weights.main[outputs], extra[outputs]], scale[outputs], bias[outputs], inputs)
    return builder.grouped([weights.main], scale, bias), replace(some, channels=outputs)


_VECTOR = 16
"""Channels that a depthwise kernel does at once."""


@dataclass(frozen=True)
class _Convolution:
    layer: Convolution
    data: Data
    threads: int

    def dense(self, weights: Coefficients, scale: Array, bias: Array) -> Task:
        """All channels for every part of the data, then for each those channels again that have an extra part."""
        tables, window = self.data.tables, self.layer.window
        parts: list[tuple[Bytes, Index | None]] = [(codes_of, None) for codes_of in tables]
        kernels = [weights.main] * len(tables)
        if weights.extra is not None:
            again = np.flatnonzero(weights.extra.any(axis=(0, 2, 3)))
            parts += [(codes_of, again) for codes_of in tables]
            kernels += [weights.extra[:, again] + np.uint8(WEIGHT_ZERO)] * len(tables)
        kernel = np.concatenate(kernels, axis=1)
        shape = (*self.layer.reading.shape[:3], kernel.shape[1])
        geometry = {"strides": window.stride, "dilations": window.dilation, "pads": self.layer.pads}
        return Task(self._build(shape, 1, kernel, scale, bias, geometry), (Operand(tuple(parts)),))

    def grouped(self, parts: Sequence[Array], scale: Array, bias: Array, channels: Index | None = None) -> Task:
        """Every part of the weights for every part of the data: row k·dilation is rows k·dilation·parts + part."""
        (n, h, w, _), window = self.layer.reading.shape, self.layer.window
        kernels = [*parts] * len(self.data.tables)
        count = len(kernels)
        o, i, kh, kw = parts[0].shape
        groups = o * self.layer.groups // self.layer.y.shape[3]
        # with several parts, rows that a dilation skips are taken with weight 0
        inside, outside = (window.dilation[0], 1) if count > 1 else (1, window.dilation[0])
        kernel = np.full((o, i, (kh - 1) * inside + 1, count, kw), WEIGHT_ZERO, np.uint8)
        kernel[:, :, ::inside] = np.stack(kernels, axis=3)
        top, left, bottom, right = self.layer.pads
        geometry = {
            "strides": (window.stride[0] * count, window.stride[1]),
            "dilations": (outside, window.dilation[1]),
            "pads": (top * count, left, bottom * count, right),
        }
        made = self._build((n, h * count, w, groups * i), groups, kernel.reshape(o, i, -1, kw), scale, bias, geometry)
        operand = Operand(tuple((codes_of, channels) for codes_of in self.data.tables), len(parts))
        return Task(made, (operand,))

    def _build(
        self, shape: Shape, groups: int, kernel: Array, scale: Array, bias: Array, geometry: Mapping[str, Any]
    ) -> Kernel:
        graph = Graph(shape)
        graph.add(
            "QLinearConv", "x0", _ONE, np.uint8(self.data.zero), kernel, scale, np.uint8(WEIGHT_ZERO),
            _ONE, _zero(self.layer.result), bias,
            domain=_MICROSOFT, channels_last=1, group=groups, kernel_shape=kernel.shape[2:], **geometry,
        )  # fmt: skip
        return graph.build((*self.layer.y.shape[:3], len(bias)), self.threads)


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
    operands = (Operand.plain(shift(signed)) for signed in (quant.a_signed, quant.b_signed))
    return Task(graph.build(layer.y.shape, threads), tuple(operands))


def pool(layer: Pool, threads: int) -> Task:
    """Maximum or average of windows (without the clamp)."""
    return Task(_pool(layer, threads), (Operand.plain(shift(layer.quant.a_signed)),))


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
