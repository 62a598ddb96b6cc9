"""Which models there are, and a cache of their ONNX files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from . import classifiers, efficientnet, language, tiny, yolov5
from .packages import PackagedFile, cache_folder, write_atomically

REVISION = 1
"""To be raised when a builder changes what it builds: older files in the cache are then ignored."""


@dataclass(frozen=True)
class Model:
    """One model: what it is, and how to make it."""

    about: str
    mmac: float
    """Million multiply-accumulates of convolutions, matrix products and LSTMs, for `inputs`."""
    inputs: Mapping[str, tuple[int, ...]]
    """The shape of each input; where the model leaves it open, the one that it is measured with."""
    build: Callable[[], onnx.ModelProto | bytes]


def names() -> list[str]:
    """The names that `load` knows."""
    return list(MODELS)


def load(name: str) -> Path:
    """The ONNX file of a model: from the cache, or downloaded or built now."""
    if name not in MODELS:
        raise KeyError(f"no model {name!r}; there are {', '.join(MODELS)}")
    path = cache_folder() / "models" / f"r{REVISION}" / f"{name}.onnx"
    if not path.exists():
        model = MODELS[name].build()
        data = model if isinstance(model, bytes) else model.SerializeToString(deterministic=True)
        write_atomically(path, data)
    return path


def _image(height: int, width: int, name: str = "image") -> dict[str, tuple[int, ...]]:
    return {name: (1, 3, height, width)}


_OCR = "rapidocr-onnxruntime==1.4.4"
_STATES = {f"{kind}{layer}": (1, language.UNITS) for layer in (0, 1) for kind in ("hidden", "cell")}

MODELS: Mapping[str, Model] = {
    "efficientnet_lite0": Model(
        "trained ImageNet-1k classifier: depthwise, ReLU6",
        385,
        _image(224, 224),
        efficientnet.efficientnet_lite0,
    ),
    "tiny_resnet8": Model(
        "trained, MLPerf Tiny: ResNet-8 on CIFAR-10",
        12.5,
        _image(32, 32),
        tiny.resnet8,
    ),
    "tiny_mobilenetv1_vww": Model(
        "trained, MLPerf Tiny: MobileNet-V1 0.25, person or not",
        7.5,
        _image(96, 96),
        tiny.mobilenetv1_vww,
    ),
    "tiny_dscnn_kws": Model(
        "trained, MLPerf Tiny: depthwise-separable CNN, keywords",
        2.66,
        {"spectrogram": (1, 1, 50, 10)},
        tiny.dscnn_kws,
    ),
    "tiny_autoencoder": Model(
        "trained, MLPerf Tiny: autoencoder, machine sounds",
        0.264,
        {"spectrogram": (1, 1, 5, 128)},
        tiny.autoencoder,
    ),
    "ppocr_cls": Model(
        "trained, PaddleOCR 2.0: is a line of text upside down; hard-swish, squeeze-excite",
        16,
        _image(48, 192, "x"),
        PackagedFile(
            _OCR,
            ("rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",),
            "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        ).read,
    ),
    "ppocr_rec": Model(
        "trained, PP-OCRv4: reads a line of text; attention, dynamic width",
        702,
        _image(48, 320, "x"),
        PackagedFile(
            _OCR,
            ("rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",),
            "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        ).read,
    ),
    "ppocr_det": Model(
        "trained, PP-OCRv4: finds text; transposed convolutions, dynamic size",
        1726,
        _image(480, 640, "x"),
        PackagedFile(
            _OCR,
            ("rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",),
            "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        ).read,
    ),
    "yolox_tiny": Model(
        "trained, YOLOX-tiny: finds characters and icons; SiLU, Concat, Resize, Slice",
        3179,
        _image(416, 416, "images"),
        PackagedFile(
            "ddddocr==1.6.1",
            ("ddddocr/common_det.onnx",),
            "6faa8ea85a8c1a634e5050c4a138fca10f30194e0d7abbe9ade1fcd423af6ed6",
        ).read,
    ),
    "resnet18": Model("seeded ResNet-18", 1814, _image(224, 224), classifiers.resnet18),
    "resnet50": Model("seeded ResNet-50", 4089, _image(224, 224), classifiers.resnet50),
    "mobilenet_v2": Model("seeded MobileNet-V2", 301, _image(224, 224), classifiers.mobilenet_v2),
    "yolov5n": Model("seeded YOLO-v5n v6, raw heads", 2234, _image(640, 640), yolov5.yolov5n),
    "yolov5s": Model("seeded YOLO-v5s v6, raw heads", 8217, _image(640, 640), yolov5.yolov5s),
    "lstm650": Model(
        "seeded 2 x LSTM(650), 33,278 words, 35 steps",
        994,
        {"tokens": (1, language.STEPS), **_STATES},
        language.lstm650,
    ),
}
