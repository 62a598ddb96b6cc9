"""Integer kernels: small onnxruntime graphs over NHWC uint8 tensors, exact bit for bit.

All tensors are codes 0…255 (int8 tensors shifted by 128), weights too: products of uint8 with uint8 are exact on every
processor, whereas onnxruntime's uint8 × int8 kernels saturate at 16 bits where there is no VNNI. Graph optimizations
are off, because several of onnxruntime's fusions would change roundings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from mmac.isa import table
from mmac.runtime.engines.fast.layers import Binary, Convolution, Pool, codes
from mmac.runtime.engines.fast.operands import WEIGHT_ZERO, Coefficients, Data

Array = npt.NDArray[Any]
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
class Patch:
    """Output channels of a grouped convolution that need more than eight bits of weight.

    `kernel` computes the output channels `outputs` from the input channels `inputs`, each row of them twice.
    """

    kernel: Kernel
    inputs: npt.NDArray[np.intp]
    outputs: npt.NDArray[np.intp]


@dataclass(frozen=True)
class Convolved:
    """Kernels of a convolution (without a clamp narrower than the type).

    The kernel's input has the parts of the data side by side along the channels, or in alternate rows if the
    convolution is grouped, which keeps it depthwise. After them come the channels `again` once more.
    """

    kernel: Kernel
    again: npt.NDArray[np.intp] | None = None
    patch: Patch | None = None


def convolution(
    layer: Convolution, data: Data, weights: Coefficients, constants: npt.NDArray[np.void], threads: int
) -> Convolved:
    """Sums of products, bias, requantization."""
    sign = np.where(weights.negative, -1, 1)
    scale, bias = constants["scale"] * sign.astype(np.float32), (constants["bias"] * sign).astype(np.int32)
    builder = _Convolution(layer, data.zero, threads)
    count = len(data.tables)
    if layer.groups == 1:
        main = np.concatenate([weights.main] * count, axis=1)
        if weights.extra is None:
            return Convolved(builder.dense(main, scale, bias))
        again = np.flatnonzero(np.tile(weights.extra.any(axis=(0, 2, 3)), count))
        extra = WEIGHT_ZERO + np.concatenate([weights.extra] * count, axis=1)[:, again]
        return Convolved(builder.dense(np.concatenate([main, extra], axis=1), scale, bias), again)
    kernel = builder.grouped([weights.main] * count, scale, bias)
    if weights.extra is None:
        return Convolved(kernel)
    per_group = weights.extra.reshape(layer.groups, -1).any(axis=1)
    outputs, inputs = (np.flatnonzero(per_group.repeat(r.shape[3] // layer.groups)) for r in (layer.y, layer.x))
    parts = [part[outputs] for part in (weights.main, weights.extra + np.uint8(WEIGHT_ZERO))]
    wide = builder.grouped(parts * count, scale[outputs], bias[outputs])
    return Convolved(kernel, None, Patch(wide, inputs, outputs))


@dataclass(frozen=True)
class _Convolution:
    layer: Convolution
    zero: int
    threads: int

    def dense(self, kernel: Array, scale: Array, bias: Array) -> Kernel:
        """Kernel [O, I, h, w] over I channels."""
        window, shape = self.layer.window, (*self.layer.reading.shape[:3], kernel.shape[1])
        geometry = {"strides": window.stride, "dilations": window.dilation, "pads": self.layer.pads}
        return self._build(shape, 1, kernel, scale, bias, geometry)

    def grouped(self, parts: Sequence[Array], scale: Array, bias: Array) -> Kernel:
        """Kernels [O, I, h, w] for alternate rows: row k·dilation of the data is rows k·dilation·parts + part."""
        (n, h, w, _), window, count = self.layer.reading.shape, self.layer.window, len(parts)
        per_group = self.layer.y.shape[3] // self.layer.groups
        groups = len(bias) // per_group
        o, i, kh, kw = parts[0].shape
        # with several parts, rows that a dilation skips are taken with weight 0
        inside, outside = (window.dilation[0], 1) if count > 1 else (1, window.dilation[0])
        kernel = np.full((o, i, (kh - 1) * inside + 1, count, kw), WEIGHT_ZERO, np.uint8)
        kernel[:, :, ::inside] = np.stack(parts, axis=3)
        top, left, bottom, right = self.layer.pads
        geometry = {
            "strides": (window.stride[0] * count, window.stride[1]),
            "dilations": (outside, window.dilation[1]),
            "pads": (top * count, left, bottom * count, right),
        }
        return self._build((n, h * count, w, groups * i), groups, kernel.reshape(o, i, -1, kw), scale, bias, geometry)

    def _build(
        self, shape: Shape, groups: int, kernel: Array, scale: Array, bias: Array, geometry: Mapping[str, Any]
    ) -> Kernel:
        graph = Graph(shape)
        graph.add(
            "QLinearConv", "x0", _ONE, np.uint8(self.zero), kernel, scale, np.uint8(WEIGHT_ZERO),
            _ONE, _zero(self.layer.result), bias,
            domain=_MICROSOFT, channels_last=1, group=groups, kernel_shape=kernel.shape[2:], **geometry,
        )  # fmt: skip
        return graph.build((*self.layer.y.shape[:3], len(bias)), self.threads)


def binary(layer: Binary, threads: int) -> Kernel:
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
    return graph.build(layer.y.shape, threads)


def pool(layer: Pool, threads: int) -> Kernel:
    """Maximum or average of windows (without the clamp)."""
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
    return np.maximum(counts[0][:, None] * counts[1], 1).astype(np.float32)[None, :, :, None]


def _zero(quant: table.Quant) -> np.uint8:
    return np.uint8(codes(quant.y_zero, quant.y_signed))


def _scale(bits: int) -> np.float32:
    return np.uint32(bits).view(np.float32)
