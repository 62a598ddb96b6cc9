"""The networks whose accuracy is measured, with data that their calibration has not seen."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

Array = npt.NDArray[Any]

DATASET = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's dataset-fashion-mnist puts its files."""


@dataclass(frozen=True)
class Subject:
    """A network and its data.

    Attributes:
        name: of the network.
        about: what it is measured on.
        model: its ONNX file.
        input: name of its only input.
        calibration: float32 [n, …].
        data: float32 [n, …], other samples.
        scores: float32 [n, classes]: what the original gives for `data`.
        labels: [n] right classes of `data`; None if they are not known.
        dims: numbers for symbolic dimensions.
    """

    name: str
    about: str
    model: Path
    input: str
    calibration: Array
    data: Array
    scores: Array
    labels: Array | None
    dims: Mapping[str, int]

    @property
    def measure(self) -> str:
        """What counts: accuracy, or agreement with the original where labels are not known."""
        return "agreement" if self.labels is None else "accuracy"

    def metrics(self, outputs: list[Array], scores: Array) -> dict[str, Any]:
        """A metric for `mmac.compiler.evaluation.user_metric`, with `scores` for labels; shares are in percent."""
        (found,) = outputs
        chosen = found.argmax(1)
        noise = np.square(found.astype(np.float64) - scores).sum()
        signal = np.square(scores.astype(np.float64)).sum()
        results = {
            "agreement": 100.0 * (chosen == scores.argmax(1)),
            "sqnr_db": 10 * np.log10(signal / max(float(noise), 1e-30)),
        }
        return results if self.labels is None else results | {"accuracy": 100.0 * (chosen == self.labels)}

    @property
    def reference(self) -> float:
        """Percent that the original reaches."""
        if self.labels is None:
            return 100.0
        return float(100 * (self.scores.argmax(1) == self.labels).mean())


def fashion_mnist(limit: int | None = None, batch: int = 32) -> Subject:
    """The bundled classifier, on all 10,000 test images or, without the dataset, on the 300 that are bundled."""
    folder = files("mmac.cli") / "data"
    with as_file(folder / "fashion_mnist_test.npz") as path, np.load(path) as bundled:
        calibration, images, labels = (bundled[name] for name in ("calibration", "images", "labels"))
    if limit is None and DATASET.is_dir():
        images, labels = (read_idx(DATASET / f"t10k-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    chosen = np.linspace(0, len(images) - 1, limit or len(images)).astype(np.intp)
    data, labels = _scaled(images[chosen]), labels[chosen]
    with as_file(folder / "fashion_mnist_cnn.onnx") as model:
        scores = _scores(model, "image", data, len(data))
        about = f"{len(data):,} test images"
        dims = {"batch": batch}
        return Subject("Fashion-MNIST CNN", about, model, "image", _scaled(calibration), data, scores, labels, dims)


def _scaled(images: Array) -> Array:
    return images[:, None].astype(np.float32) / np.float32(255)


def read_idx(path: Path) -> Array:
    """The array in a gzipped idx file of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, ">u4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


PHOTOS, CALIBRATED = 7, 4
"""There are so many photographs, in turn; windows of the first ones calibrate, windows of the others are the data."""


def efficientnet_lite0(samples: int, calibration_samples: int = 16) -> Subject:
    """EfficientNet-Lite0 on windows of photographs; others than those that it is calibrated with."""
    from benchmarks.models import calibration, load

    most = PHOTOS * (1 + max(samples // (PHOTOS - CALIBRATED), calibration_samples // CALIBRATED))
    windows = calibration("efficientnet_lite0", most)["image"]
    known = np.arange(most) % PHOTOS < CALIBRATED
    data, model = windows[~known][:samples], load("efficientnet_lite0")
    about = f"{samples} windows of {PHOTOS - CALIBRATED} photographs; calibrated on {CALIBRATED} others"
    scores = _scores(model, "image", data, 1)
    calibrating = windows[known][:calibration_samples]
    return Subject("EfficientNet-Lite0", about, model, "image", calibrating, data, scores, None, {})


def _scores(model: Path, name: str, data: Array, batch: int) -> Array:
    """What the original gives, in float32."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    parts = [session.run(None, {name: data[start : start + batch]})[0] for start in range(0, len(data), batch)]
    return np.concatenate(parts)
