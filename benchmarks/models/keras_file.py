"""Keras HDF5 models (.h5, Keras 2) as ONNX graphs, for the layers of the MLPerf Tiny networks.

An .h5 file holds the layers as JSON and the weights by layer name.  Keras works in NHWC, the graph in NCHW: kernels
are transposed here, batch norm stays a node, dropout vanishes, and SAME padding becomes explicit.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from .graph import Array, Net, same_padding

Config = Mapping[str, Any]
Shape = tuple[int, ...]
"""Channels, height, width; or features alone; the batch of 1 is left out."""


class KerasError(ValueError):
    """The model has something that is not translated."""


def convert(data: bytes, name: str, doc: str, ports: tuple[str, str], metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Translate the .h5 file `data`; `ports` are the names of the input and of the output."""
    import h5py

    with h5py.File(io.BytesIO(data), "r") as file:
        layers = json.loads(file.attrs["model_config"])["config"]["layers"]
        weights = {layer: _weights(group) for layer, group in file["model_weights"].items()}
    return _Translation(Net(name, doc), weights).run(layers, *ports, metadata)


def _weights(group: Any) -> dict[str, Array]:
    """The arrays of one layer by their short names: kernel, bias, gamma …"""
    paths = [path if isinstance(path, str) else path.decode() for path in group.attrs["weight_names"]]
    return {path.rsplit("/", 1)[-1].split(":")[0]: np.asarray(group[path], np.float32) for path in paths}


class _Translation:
    def __init__(self, net: Net, weights: Mapping[str, Mapping[str, Array]]) -> None:
        self._net = net
        self._weights = weights
        self._shapes: dict[str, Shape] = {}

    def run(self, layers: Sequence[Config], source: str, sink: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
        values: dict[str, str] = {}
        value = ""
        for layer in layers:
            config = layer["config"]
            if layer["class_name"] == "InputLayer":
                height, width, channels = config["batch_input_shape"][1:]
                value = self._net.input(source, [1, channels, height, width])
                self._shapes[value] = (channels, height, width)
            else:
                translate = _LAYERS.get(layer["class_name"])
                if translate is None:
                    known = ", ".join(sorted(_LAYERS))
                    raise KerasError(f"{config['name']}: layer {layer['class_name']}; translated are {known}")
                inputs = [values[inbound[0]] for inbound in layer["inbound_nodes"][0]]
                value = translate(self, inputs, config, self._weights[config["name"]])
                value = self._activate(value, config.get("activation", "linear"), config["name"])
            values[config["name"]] = value
        self._net.output(sink, value, [1, *self._shapes[value]])
        return self._net.model(metadata)

    def conv(self, inputs: Sequence[str], config: Config, weights: Mapping[str, Array]) -> str:
        kernel = weights["kernel"].transpose(3, 2, 0, 1)
        return self._convolve(inputs[0], kernel, weights["bias"], config, groups=1)

    def depthwise(self, inputs: Sequence[str], config: Config, weights: Mapping[str, Array]) -> str:
        kernel = weights["depthwise_kernel"].transpose(2, 3, 0, 1)
        return self._convolve(inputs[0], kernel, weights["bias"], config, groups=len(kernel))

    def batch_norm(self, inputs: Sequence[str], config: Config, weights: Mapping[str, Array]) -> str:
        parts = [weights[part] for part in ("gamma", "beta", "moving_mean", "moving_variance")]
        value = self._net.batch_norm(inputs[0], parts, config["name"], epsilon=config["epsilon"])
        return self._follow(value, self._shapes[inputs[0]])

    def dense(self, inputs: Sequence[str], config: Config, weights: Mapping[str, Array]) -> str:
        value = self._net.linear(inputs[0], weights["kernel"].T, weights["bias"], config["name"])
        return self._follow(value, (config["units"],))

    def add(self, inputs: Sequence[str], config: Config, _: Mapping[str, Array]) -> str:
        return self._follow(self._net.op("Add", inputs, config["name"]), self._shapes[inputs[0]])

    def average_pool(self, inputs: Sequence[str], config: Config, _: Mapping[str, Array]) -> str:
        channels, *size = self._shapes[inputs[0]]
        if list(config["pool_size"]) != size:
            raise KerasError(f"{config['name']}: a pool of {config['pool_size']} on {size}; it must cover all of it")
        value = self._net.op("GlobalAveragePool", inputs, config["name"])
        return self._follow(value, (channels, 1, 1))

    def flatten(self, inputs: Sequence[str], config: Config, _: Mapping[str, Array]) -> str:
        channels, height, width = self._shapes[inputs[0]]
        if channels > 1 < height * width:
            raise KerasError(f"{config['name']}: NHWC order differs from NCHW order on {self._shapes[inputs[0]]}")
        value = self._net.op("Flatten", inputs, config["name"])
        return self._follow(value, (channels * height * width,))

    def reshape(self, inputs: Sequence[str], config: Config, _: Mapping[str, Array]) -> str:
        height, width, channels = config["target_shape"]
        if channels != 1:
            raise KerasError(f"{config['name']}: NHWC order differs from NCHW order on {config['target_shape']}")
        shape = self._net.parameter(f"{config['name']}.shape", np.array([1, 1, height, width], np.int64))
        return self._follow(self._net.op("Reshape", [*inputs, shape], config["name"]), (1, height, width))

    def same(self, inputs: Sequence[str], _: Config, __: Mapping[str, Array]) -> str:
        """Nothing to do at inference; what an `activation` asks for is added by the caller."""
        return inputs[0]

    def _convolve(self, x: str, kernel: Array, bias: Array, config: Config, *, groups: int) -> str:
        _, height, width = self._shapes[x]
        stride: tuple[int, int] = tuple(config["strides"])
        if config["padding"] != "same":
            raise KerasError(f"{config['name']}: padding {config['padding']!r}; only 'same' is translated")
        top, bottom = same_padding(height, kernel.shape[2], stride[0])
        left, right = same_padding(width, kernel.shape[3], stride[1])
        pads = (top, left, bottom, right)
        value = self._net.conv(x, kernel, config["name"], bias=bias, stride=stride, pads=pads, groups=groups)
        return self._follow(value, (len(kernel), -(-height // stride[0]), -(-width // stride[1])))

    def _activate(self, x: str, activation: str, name: str) -> str:
        if activation == "linear":
            return x
        op_type = {"relu": "Relu", "softmax": "Softmax"}.get(activation)
        if op_type is None:
            raise KerasError(f"{name}: activation {activation!r}; translated are linear, relu, softmax")
        return self._follow(self._net.op(op_type, [x], f"{name}.{activation}"), self._shapes[x])

    def _follow(self, value: str, shape: Shape) -> str:
        self._shapes[value] = shape
        return value


_LAYERS: dict[str, Callable[[_Translation, Sequence[str], Config, Mapping[str, Array]], str]] = {
    "Activation": _Translation.same,
    "Add": _Translation.add,
    "AveragePooling2D": _Translation.average_pool,
    "BatchNormalization": _Translation.batch_norm,
    "Conv2D": _Translation.conv,
    "Dense": _Translation.dense,
    "DepthwiseConv2D": _Translation.depthwise,
    "Dropout": _Translation.same,
    "Flatten": _Translation.flatten,
    "Reshape": _Translation.reshape,
}
