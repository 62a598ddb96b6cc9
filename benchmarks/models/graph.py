"""Building ONNX graphs by hand, one node per call.

Every value is named after the node that makes it, and every parameter after the node that uses it
(`layer1.0.conv1`, `layer1.0.conv1.weight`), so the builders in this package can keep the names that the
original authors gave their layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8

Array = npt.NDArray[np.float32]
Pads = tuple[int, int, int, int]
"""ONNX order: top, left, bottom, right."""


class Net:
    """An ONNX graph under construction: NCHW, float32 unless said otherwise.

    Methods that add a node return the name of its only output.  Names must be unique.
    """

    def __init__(self, name: str, doc: str) -> None:
        self.name = name
        self.doc = doc
        self._nodes: list[onnx.NodeProto] = []
        self._parameters: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int], dtype: int = TensorProto.FLOAT) -> str:
        """Declare an input of the graph."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, value: str, shape: Sequence[int]) -> None:
        """Declare `value` an output of the graph under the name `name`."""
        if name != value:
            self._rename(value, name)
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def parameter(self, name: str, value: npt.NDArray[np.generic]) -> str:
        """Add a constant; the same name again means the same constant."""
        if name not in self._parameters:
            self._parameters[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def op(self, op_type: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add any node with one output."""
        return self.ops(op_type, inputs, [name], name, **attributes)[0]

    def ops(
        self, op_type: str, inputs: Sequence[str], outputs: Sequence[str], name: str, **attributes: Any
    ) -> Sequence[str]:
        """Add any node; an empty output name leaves out an optional output."""
        self._nodes.append(helper.make_node(op_type, inputs, outputs, name, **attributes))
        return outputs

    def conv(
        self,
        x: str,
        weight: Array,
        name: str,
        *,
        bias: Array | None = None,
        stride: tuple[int, int] = (1, 1),
        pads: Pads = (0, 0, 0, 0),
        groups: int = 1,
    ) -> str:
        """2-D convolution; weight is [out, in / groups, kernel rows, kernel columns]."""
        inputs = [x, self.parameter(f"{name}.weight", weight)]
        if bias is not None:
            inputs.append(self.parameter(f"{name}.bias", bias))
        return self.op(
            "Conv",
            inputs,
            name,
            kernel_shape=weight.shape[2:],
            strides=stride,
            pads=pads,
            dilations=(1, 1),
            group=groups,
        )

    def batch_norm(self, x: str, parts: Sequence[Array], name: str, *, epsilon: float) -> str:
        """Batch normalization by scale, bias, mean and variance, each one value per channel."""
        keys = ("weight", "bias", "running_mean", "running_var")
        parameters = [self.parameter(f"{name}.{key}", part) for key, part in zip(keys, parts, strict=True)]
        return self.op("BatchNormalization", [x, *parameters], name, epsilon=epsilon)

    def relu6(self, x: str, name: str) -> str:
        """Clip to 0..6."""
        low = self.parameter("relu6.min", np.array(0, np.float32))
        high = self.parameter("relu6.max", np.array(6, np.float32))
        return self.op("Clip", [x, low, high], name)

    def linear(self, x: str, weight: Array, bias: Array, name: str) -> str:
        """A fully connected layer on [batch, in]; weight is [out, in]."""
        parameters = [self.parameter(f"{name}.weight", weight), self.parameter(f"{name}.bias", bias)]
        return self.op("Gemm", [x, *parameters], name, transB=1)

    def model(self, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The finished model, checked."""
        graph = helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, list(self._parameters.values()))
        model = helper.make_model(
            graph,
            producer_name="mmac benchmarks",
            doc_string=self.doc,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model

    def _rename(self, old: str, new: str) -> None:
        for node in self._nodes:
            node.input[:] = [new if value == old else value for value in node.input]
            node.output[:] = [new if value == old else value for value in node.output]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of one axis: before and after, the odd one after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
