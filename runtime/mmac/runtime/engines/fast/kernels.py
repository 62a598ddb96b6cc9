"""Integer kernels: small onnxruntime graphs over NHWC uint8 tensors, exact bit for bit.

All tensors are codes 0…255 (int8 tensors shifted by 128), weights too: products of uint8 with uint8 are exact on every
processor, whereas onnxruntime's uint8 × int8 kernels saturate at 16 bits where there is no VNNI. Graph optimizations
are off, because several of onnxruntime's fusions would change roundings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from mmac.isa import table
from mmac.runtime.engines.fast.layers import Binary, Pool, Window, codes
from mmac.runtime.memory import Bytes

Array = npt.NDArray[Any]
Index = npt.NDArray[np.intp]
Shape = tuple[int, ...]

ONE = np.float32(1)
MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Kernel:
    """A ready session: inputs ``x0``, ``x1`` … of `inputs` shapes and `dtype`, output ``y`` of shape `output`."""

    session: Any
    inputs: tuple[Shape, ...]
    dtype: np.dtype[Any]
    output: Shape


class Graph:
    """A graph in the making: from inputs of some shapes and one dtype to bytes."""

    def __init__(self, *inputs: Shape, dtype: npt.DTypeLike = np.uint8) -> None:
        self.inputs, self.dtype = inputs, np.dtype(dtype)
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
        graph = helper.make_graph(
            self.nodes,
            "kernel",
            [_tensor(f"x{i}", shape, self.dtype) for i, shape in enumerate(self.inputs)],
            [_tensor("y", shape, np.dtype(np.uint8))],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        return Kernel(_session(graph, threads), self.inputs, self.dtype, shape)


def _tensor(name: str, shape: Shape, dtype: np.dtype[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)


def _session(graph: onnx.GraphProto, threads: int) -> Any:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
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
class Values:
    """A tensor in binary32: the value of each DRAM byte."""

    table: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """A kernel and what it reads. `channels`: those of the layer's result that it gives, None for all."""

    kernel: Kernel
    operands: tuple[Operand | Values, ...]
    channels: Index | None = None


def binary(layer: Binary, threads: int) -> Task:
    """Sum or product in binary32, as stated for `vadd` and `vmul` (without the clamp)."""
    quant = layer.quant
    graph = Graph(layer.a.shape, layer.b.shape)
    a_scale, b_scale = _scale(quant.a_scale), _scale(quant.b_scale)
    a_zero, b_zero = np.uint8(codes(quant.a_zero, quant.a_signed)), np.uint8(codes(quant.b_zero, quant.b_signed))
    if layer.multiply:
        # 9 bits times 9 bits is exact in binary32
        a, b = (graph.add("DequantizeLinear", x, ONE, z) for x, z in (("x0", a_zero), ("x1", b_zero)))
        value = graph.add("Mul", graph.add("Mul", a, b), a_scale)
    else:
        a = graph.add("DequantizeLinear", "x0", a_scale, a_zero)
        b = graph.add("DequantizeLinear", "x1", b_scale, b_zero)
        value = graph.add("Add", a, b)
    graph.add("QuantizeLinear", value, ONE, zero_point(quant))
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
        graph.add("NhwcMaxPool", "x0", domain=MICROSOFT, **geometry)
        return graph.build(layer.y.shape, threads)
    quant, channels = layer.quant, layer.x.shape[3]
    zero = np.uint8(codes(quant.a_zero, quant.a_signed))
    scale = _scale(quant.a_scale) / _window_sizes(layer)
    if (scale == scale.flat[0]).all():
        ones = np.ones((channels, 1, *window.kernel), np.uint8)
        graph.add(
            "QLinearConv", "x0", ONE, zero, ones, scale.flat[0], np.uint8(0), ONE, zero_point(quant),
            domain=MICROSOFT, channels_last=1, group=channels, **geometry,
        )  # fmt: skip
        return graph.build(layer.y.shape, threads)
    # sums of bytes are exact in binary32 in any order
    data = graph.add("Transpose", graph.add("DequantizeLinear", "x0", ONE, zero), perm=(0, 3, 1, 2))
    sums = graph.add("Conv", data, np.ones((channels, 1, *window.kernel), np.float32), group=channels, **geometry)
    means = graph.add("Mul", graph.add("Transpose", sums, perm=(0, 2, 3, 1)), scale)
    graph.add("QuantizeLinear", means, ONE, zero_point(quant))
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


def zero_point(quant: table.Quant) -> np.uint8:
    """Code of a result that is zero."""
    return np.uint8(codes(quant.y_zero, quant.y_signed))


def _scale(bits: int) -> np.float32:
    return np.uint32(bits).view(np.float32)
