"""NPZ files as datasets: what is taken, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmac.compiler import read_dataset
from mmac.compiler.evaluation import Preprocessing, Samples
from mmac.isa.errors import MalformedError, UsageError
from mmac.isa.program import Port

ONE = [Port("image", "float32", (4, 3, 2, 2), ("t",))]
TWO = [*ONE, Port("mask", "uint8", (4, 5), ("u",))]
IMAGES, MASKS, LABELS = np.ones((6, 3, 2, 2), np.float32), np.ones((6, 5), np.uint8), np.arange(6)


def write(folder: Path, **arrays: Any) -> Path:
    np.savez(path := folder / "data.npz", **arrays)
    return path


def test_one_input(tmp_path: Path) -> None:
    found = read_dataset(write(tmp_path, image=IMAGES, labels=LABELS), ONE)
    np.testing.assert_array_equal(found.inputs()["image"], IMAGES)
    np.testing.assert_array_equal(found.labels, LABELS)
    some = found.take(np.array([5, 0]))
    assert list(some.labels) == [5, 0]
    assert some.inputs()["image"].shape == (2, 3, 2, 2)


def test_several_inputs_and_arrays_of_no_use(tmp_path: Path) -> None:
    path = write(tmp_path, image=IMAGES, mask=MASKS, y=LABELS, labels=np.zeros(1))
    found = read_dataset(path, TWO, "y")
    assert isinstance(found, Samples)
    assert set(found.arrays) == {"image", "mask"}
    np.testing.assert_array_equal(found.labels, LABELS)


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"image": IMAGES, "y": LABELS}, UsageError, "no array 'labels' in it; there are 'image', 'y'; say which"),
        (
            {"image": IMAGES, "labels": LABELS},
            UsageError,
            "no array for input 'mask'; beside labels there are 'image'; name the arrays as the model names its inputs",
        ),
        (
            {"image": IMAGES[:, :, 0], "mask": MASKS, "labels": LABELS},
            MalformedError,
            r"input 'image': shape \[6, 3, 2\]; \[n, 3, 2, 2\]",
        ),
        (
            {"image": IMAGES.astype(float), "mask": MASKS, "labels": LABELS},
            MalformedError,
            "input 'image': dtype float64; float32",
        ),
        (
            {"image": IMAGES, "mask": MASKS, "labels": np.array(3)},
            MalformedError,
            "labels: a single number; an array of one label for each sample",
        ),
        (
            {"image": IMAGES, "mask": MASKS[:5], "labels": LABELS},
            MalformedError,
            "different numbers of samples: {'image': 6, 'mask': 5, 'labels': 6}; the same for all",
        ),
        (
            {"image": IMAGES[:0], "mask": MASKS[:0], "labels": LABELS[:0]},
            MalformedError,
            "no samples; one at least",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, arrays: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=rf"data\.npz: {message}"):
        read_dataset(write(tmp_path, **arrays), TWO)


def test_arrays_are_not_preprocessed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="arrays are taken as they are; preprocessing for a folder of images only"):
        read_dataset(write(tmp_path, image=IMAGES, labels=LABELS), ONE, preprocessing=Preprocessing(resize=4))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no\.npz: cannot be read"):
        read_dataset(tmp_path / "no.npz", ONE)
