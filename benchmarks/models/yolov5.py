"""YOLO-v5 v6.0 (n and s) at 640 x 640, with seeded weights and without the final decoding.

Topology and parameter names are those of the v6 releases of YOLO-v5: CSP blocks (C3) with SiLU, spatial pyramid
pooling by three chained 5x5 max pools (SPPF), a feature pyramid with nearest up-sampling.  Checked against the
published number of parameters (1,872,157 and 7,235,389 for 80 classes).

Input `image` is float32 [1, 3, 640, 640] in 0..1; the outputs `stride8`, `stride16` and `stride32` are the raw heads
[1, 255, 80, 80], [1, 255, 40, 40] and [1, 255, 20, 20]: 3 anchors x (4 box + 1 object + 80 classes).
"""

from __future__ import annotations

import onnx

from .seeded import SeededNet

SIZE = 640
HEAD_CHANNELS = 255


def yolov5n() -> onnx.ModelProto:
    """YOLO-v5 nano: width 0.25, depth 0.33; 2,234 MMAC."""
    return _Yolo("yolov5n", width=0.25).build()


def yolov5s() -> onnx.ModelProto:
    """YOLO-v5 small: width 0.5, depth 0.33; 8,217 MMAC."""
    return _Yolo("yolov5s", width=0.5).build()


class _Yolo:
    """The numbers of the layers are those of YOLO-v5's own table: `model.0` to `model.24`."""

    def __init__(self, name: str, *, width: float) -> None:
        self._net = SeededNet(name, f"{name} v6.0 without decoding, He-normal weights", epsilon=1e-3)
        self._width = width

    def build(self) -> onnx.ModelProto:
        net = self._net
        x = net.image(SIZE, mean=0.45, var=0.07)
        x = self._conv(x, self._scaled(64), 6, "model.0", stride=2, padding=2)
        x = self._conv(x, self._scaled(128), 3, "model.1", stride=2)
        x = self._c3(x, 128, "model.2", repeats=1)
        x = self._conv(x, self._scaled(256), 3, "model.3", stride=2)
        fine = x = self._c3(x, 256, "model.4", repeats=2)
        x = self._conv(x, self._scaled(512), 3, "model.5", stride=2)
        middle = x = self._c3(x, 512, "model.6", repeats=3)
        x = self._conv(x, self._scaled(1024), 3, "model.7", stride=2)
        x = self._c3(x, 1024, "model.8", repeats=1)
        x = self._sppf(x, "model.9")

        coarse = x = self._conv(x, self._scaled(512), 1, "model.10")
        x = net.concat([net.double(x, "model.11"), middle], "model.12")
        x = self._c3(x, 512, "model.13", repeats=1, shortcut=False)
        middle = x = self._conv(x, self._scaled(256), 1, "model.14")
        x = net.concat([net.double(x, "model.15"), fine], "model.16")
        stride8 = x = self._c3(x, 256, "model.17", repeats=1, shortcut=False)
        x = self._conv(x, self._scaled(256), 3, "model.18", stride=2)
        x = net.concat([x, middle], "model.19")
        stride16 = x = self._c3(x, 512, "model.20", repeats=1, shortcut=False)
        x = self._conv(x, self._scaled(512), 3, "model.21", stride=2)
        x = net.concat([x, coarse], "model.22")
        stride32 = self._c3(x, 1024, "model.23", repeats=1, shortcut=False)

        for index, x in enumerate((stride8, stride16, stride32)):
            head = net.random_conv(x, HEAD_CHANNELS, 1, f"model.24.m.{index}", padding=0, bias=True)
            stride = 8 << index
            net.output(f"stride{stride}", head, [1, HEAD_CHANNELS, SIZE // stride, SIZE // stride])
        return net.model({"weights": "seeded He-normal, untrained"})

    def _scaled(self, channels: int) -> int:
        return int(channels * self._width)

    def _conv(self, x: str, out: int, kernel: int, name: str, *, stride: int = 1, padding: int | None = None) -> str:
        """Convolution, batch norm, SiLU."""
        padding = kernel // 2 if padding is None else padding
        x = self._net.random_conv(x, out, kernel, f"{name}.conv", stride=stride, padding=padding)
        return self._net.silu(self._net.random_batch_norm(x, f"{name}.bn"), f"{name}.act")

    def _c3(self, x: str, out: int, name: str, *, repeats: int, shortcut: bool = True) -> str:
        """Two paths of half the width, one of them through `repeats` bottlenecks, joined by a 1x1 convolution."""
        out = self._scaled(out)
        deep = self._conv(x, out // 2, 1, f"{name}.cv1")
        for index in range(repeats):
            y = self._conv(deep, out // 2, 1, f"{name}.m.{index}.cv1")
            y = self._conv(y, out // 2, 3, f"{name}.m.{index}.cv2")
            deep = self._net.add(deep, y, f"{name}.m.{index}.add") if shortcut else y
        short = self._conv(x, out // 2, 1, f"{name}.cv2")
        return self._conv(self._net.concat([deep, short], f"{name}.concat"), out, 1, f"{name}.cv3")

    def _sppf(self, x: str, name: str) -> str:
        """Three chained 5x5 max pools see what pools of 5, 9 and 13 would see."""
        out = self._net.channels(x)
        pooled = [self._conv(x, out // 2, 1, f"{name}.cv1")]
        for index in range(3):
            pooled.append(self._net.max_pool(pooled[-1], 5, f"{name}.m{index}", stride=1, padding=2))
        return self._conv(self._net.concat(pooled, f"{name}.concat"), out, 1, f"{name}.cv2")
