"""Inputs for the models: for calibration, for comparing engines, for looking at.

| models | what they get | real? |
|---|---|---|
| efficientnet_lite0, resnet18, resnet50, mobilenet_v2, yolov5n, yolov5s, tiny_resnet8, tiny_mobilenetv1_vww | windows of seven photographs | real photos, of none of the training sets |
| ppocr_rec, ppocr_cls | lines of text drawn by Pillow, for `cls` every other one upside down | rendered |
| ppocr_det, yolox_tiny | the photographs with words drawn across them | real photos, rendered words |
| tiny_dscnn_kws, tiny_autoencoder | smooth noise with the shape and range of a spectrogram | seeded random |
| lstm650 | words drawn by Zipf's law, small random states | seeded random |

All are scaled as the model expects.  They depend on nothing but the name and the index of the sample.
"""  # noqa: E501  # a table

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt

from . import language, photos
from .registry import MODELS

Feed = dict[str, npt.NDArray[np.generic]]
Recipe = Callable[[str, int], Feed]
"""Name of the model and index of the sample to one input of the model, without its batch axis."""


def calibration(name: str, n: int) -> Feed:
    """`n` inputs for the model `name`, stacked: the first axis of every array has the length n.

    A model with a fixed batch of 1 takes sample i as `{key: value[i : i + 1]}`.
    """
    if n < 1:
        raise ValueError(f"n is {n}; at least one sample is needed")
    samples = [_RECIPES[name](name, index) for index in range(n)]
    return {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}


@dataclass(frozen=True)
class _Picture:
    """Pixels from `source` (index, height, width), as (pixel - mean) / deviation, channels first."""

    source: Callable[[int, int, int], photos.Pixels]
    mean: float | tuple[float, float, float]
    deviation: float | tuple[float, float, float]
    bgr: bool = False

    def __call__(self, name: str, index: int) -> Feed:
        ((port, (_, _, height, width)),) = MODELS[name].inputs.items()
        pixels = self.source(index, height, width)[..., :: -1 if self.bgr else 1]
        values = (pixels - np.asarray(self.mean)) / np.asarray(self.deviation)
        return {port: values.transpose(2, 0, 1).astype(np.float32)}


def _turned_line(index: int, height: int, width: int) -> photos.Pixels:
    """A line of text, upside down if the index is odd."""
    return np.rot90(photos.line_of_text(index, height, width), 2 * (index % 2))


def _spectrogram(name: str, index: int) -> Feed:
    """Noise, smoothed along time and frequency, in 0..255."""
    ((port, (_, *shape)),) = MODELS[name].inputs.items()
    values = _random(name, index).standard_normal(shape)
    for axis in (1, 2):
        values = (np.roll(values, 1, axis) + values + np.roll(values, -1, axis)) / 3**0.5
    return {port: np.clip(110 + 40 * values, 0, 255).astype(np.float32)}


def _sentence(name: str, index: int) -> Feed:
    """Token numbers by Zipf's law (1 / (rank + 2.7)) and the states of both layers."""
    random = _random(name, index)
    weights = 1 / (np.arange(language.WORDS) + 2.7)
    feed: Feed = {"tokens": random.choice(language.WORDS, language.STEPS, p=weights / weights.sum())}
    for layer in range(language.LAYERS):
        for kind, deviation in (("hidden", 0.1), ("cell", 0.2)):
            state = random.standard_normal(language.UNITS) * deviation
            feed[f"{kind}{layer}"] = state.astype(np.float32)
    return feed


def _random(name: str, index: int) -> np.random.Generator:
    return np.random.default_rng((crc32(name.encode()), index))


_IMAGENET = _Picture(photos.crop, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_UNIT = _Picture(photos.crop, 0, 255)

_RECIPES: Mapping[str, Recipe] = {
    "efficientnet_lite0": _Picture(photos.crop, 127, 128),
    "resnet18": _IMAGENET,
    "resnet50": _IMAGENET,
    "mobilenet_v2": _IMAGENET,
    "yolov5n": _UNIT,
    "yolov5s": _UNIT,
    "tiny_resnet8": _Picture(photos.crop, 128, 128),
    "tiny_mobilenetv1_vww": _Picture(photos.crop, 0, 1),
    "tiny_dscnn_kws": _spectrogram,
    "tiny_autoencoder": _spectrogram,
    "ppocr_cls": _Picture(_turned_line, 127.5, 127.5, bgr=True),
    "ppocr_rec": _Picture(photos.line_of_text, 127.5, 127.5, bgr=True),
    "ppocr_det": _Picture(photos.page, 127.5, 127.5, bgr=True),
    "yolox_tiny": _Picture(photos.page, 0, 1, bgr=True),
    "lstm650": _sentence,
}
