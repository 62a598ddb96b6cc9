"""ResNet-18, ResNet-50 and MobileNet-V2 at 224 x 224, with seeded weights.

Topology and parameter names are those of torchvision 0.29 (`resnet18`, `resnet50`, `mobilenet_v2`), so a real state
dict can replace the initializers one for one.  Checked: with the weights of these graphs loaded into torchvision's
modules, the logits differ by at most 9e-5.

Input `image` is float32 [1, 3, 224, 224], normalised with ImageNet's mean and standard deviation; output `logits`
is [1, 1000].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from .seeded import SeededNet

CLASSES = 1000
SIZE = 224

Block = Callable[[SeededNet, str, int, int, str], str]
"""Adds one residual block: net, input, width, stride, name."""


def resnet18() -> onnx.ModelProto:
    """ResNet-18: 11.69 M parameters, 1,814 MMAC."""
    return _resnet("resnet18", _basic_block, (2, 2, 2, 2))


def resnet50() -> onnx.ModelProto:
    """ResNet-50 with the stride in the 3x3 (v1.5): 25.56 M parameters, 4,089 MMAC."""
    return _resnet("resnet50", _bottleneck, (3, 4, 6, 3))


def mobilenet_v2() -> onnx.ModelProto:
    """MobileNet-V2 of width 1: 3.50 M parameters, 301 MMAC."""
    net = SeededNet("mobilenet_v2", "MobileNet-V2, He-normal weights", epsilon=1e-5)
    x = _conv_bn_relu6(net, net.image(SIZE, mean=0.0, var=1.0), 32, 3, "features.0", stride=2)
    index = 1
    for expand, out, repeats, first_stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for stride in (first_stride, *[1] * (repeats - 1)):
            x = _inverted_residual(net, x, expand, out, stride, f"features.{index}")
            index += 1
    x = _conv_bn_relu6(net, x, 1280, 1, f"features.{index}")
    return _classify(net, x, "classifier.1")


def _classify(net: SeededNet, x: str, name: str) -> onnx.ModelProto:
    logits = net.random_linear(net.global_pool(x, "flatten"), CLASSES, name)
    net.output("logits", logits, [1, CLASSES])
    return net.model({"weights": "seeded He-normal, untrained"})


# ------------------------------------------------------------------------------------------------------- ResNet


def _resnet(name: str, block: Block, repeats: Sequence[int]) -> onnx.ModelProto:
    net = SeededNet(name, f"{name}, He-normal weights", epsilon=1e-5)
    x = _conv_bn(net, net.image(SIZE, mean=0.0, var=1.0), 64, 7, "conv1", "bn1", stride=2)
    x = net.max_pool(net.relu(x, "relu"), 3, "maxpool", stride=2, padding=1)
    for stage, count in enumerate(repeats):
        for index in range(count):
            stride = 2 if stage and not index else 1
            x = block(net, x, 64 << stage, stride, f"layer{stage + 1}.{index}")
    return _classify(net, x, "fc")


def _basic_block(net: SeededNet, x: str, width: int, stride: int, name: str) -> str:
    y = _conv_bn(net, x, width, 3, f"{name}.conv1", f"{name}.bn1", stride=stride)
    y = net.relu(y, f"{name}.relu1")
    y = _conv_bn(net, y, width, 3, f"{name}.conv2", f"{name}.bn2")
    return _join(net, x, y, stride, name)


def _bottleneck(net: SeededNet, x: str, width: int, stride: int, name: str) -> str:
    y = _conv_bn(net, x, width, 1, f"{name}.conv1", f"{name}.bn1")
    y = net.relu(y, f"{name}.relu1")
    y = _conv_bn(net, y, width, 3, f"{name}.conv2", f"{name}.bn2", stride=stride)
    y = net.relu(y, f"{name}.relu2")
    y = _conv_bn(net, y, 4 * width, 1, f"{name}.conv3", f"{name}.bn3")
    return _join(net, x, y, stride, name)


def _join(net: SeededNet, x: str, y: str, stride: int, name: str) -> str:
    """relu(x + y), with a projection where x has another shape."""
    if stride != 1 or net.channels(x) != net.channels(y):
        projection = f"{name}.downsample.0", f"{name}.downsample.1"
        x = _conv_bn(net, x, net.channels(y), 1, *projection, stride=stride)
    return net.relu(net.add(y, x, f"{name}.add"), f"{name}.relu")


def _conv_bn(
    net: SeededNet, x: str, out: int, kernel: int, conv: str, bn: str, *, stride: int = 1, groups: int = 1
) -> str:
    x = net.random_conv(x, out, kernel, conv, stride=stride, padding=kernel // 2, groups=groups)
    return net.random_batch_norm(x, bn)


# ------------------------------------------------------------------------------------------------- MobileNet-V2


def _inverted_residual(net: SeededNet, x: str, expand: int, out: int, stride: int, name: str) -> str:
    y, hidden, layer = x, expand * net.channels(x), 0
    if expand != 1:
        y = _conv_bn_relu6(net, y, hidden, 1, f"{name}.conv.{layer}")
        layer += 1
    y = _conv_bn_relu6(net, y, hidden, 3, f"{name}.conv.{layer}", stride=stride, groups=hidden)
    y = _conv_bn(net, y, out, 1, f"{name}.conv.{layer + 1}", f"{name}.conv.{layer + 2}")
    return net.add(x, y, f"{name}.add") if stride == 1 and net.channels(x) == out else y


def _conv_bn_relu6(
    net: SeededNet, x: str, out: int, kernel: int, name: str, *, stride: int = 1, groups: int = 1
) -> str:
    x = _conv_bn(net, x, out, kernel, f"{name}.0", f"{name}.1", stride=stride, groups=groups)
    return net.relu6(x, f"{name}.2")
