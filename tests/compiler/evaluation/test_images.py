"""Folders of images: classes, layouts and preprocessing, held to the definition of torchvision's transforms."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mmac.compiler import read_dataset
from mmac.compiler.evaluation import Preprocessing
from mmac.isa.errors import MalformedError, UsageError
from mmac.isa.program import Port

Image = pytest.importorskip("PIL.Image", reason="the extra `images` is not installed")


def port(*shape: int, dtype: str = "float32") -> list[Port]:
    return [Port("image", dtype, shape, ("t",))]


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 8 × 10 images: one of b (in a folder of its own), two of a; other things are no images."""
    for name, seed in (("b/deep/x.png", 1), ("a/2.bmp", 2), ("a/1.PNG", 3)):
        (path := tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(8, 10, seed)).save(path)
    (tmp_path / "a/notes.txt").write_text("none")
    (tmp_path / ".hidden").mkdir()
    Image.fromarray(pixels(8, 10)).save(tmp_path / "loose.png")
    return tmp_path


def test_classes_are_folders_in_the_order_of_their_names(folder: Path) -> None:
    found = read_dataset(folder, port(1, 3, 8, 10))
    assert list(found.labels) == [0, 0, 1]
    expected = np.stack([pixels(8, 10, seed) for seed in (3, 2, 1)]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(found.inputs()["image"], expected.astype(np.float32) / np.float32(255))
    last = found.take(np.array([2]))
    assert list(last.labels) == [1]
    np.testing.assert_array_equal(last.inputs()["image"], expected[2:].astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("shape", [(1, 3, 8, 10), (1, 8, 10, 3), (1, 1, 8, 10), (1, 8, 10, 1), (1, 8, 10)])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_layouts(folder: Path, shape: tuple[int, ...], dtype: str) -> None:
    array = read_dataset(folder, port(*shape, dtype=dtype)).inputs()["image"]
    assert array.shape == (3, *shape[1:])
    assert array.dtype.name == dtype
    values = array[2].reshape(-1, 8, 10) if shape[1] != 8 else np.moveaxis(array[2].reshape(8, 10, -1), 2, 0)
    colours = pixels(8, 10, 1)
    grey = np.asarray(Image.fromarray(colours).convert("L"))[..., None]
    expected = (colours if len(values) == 3 else grey).transpose(2, 0, 1)
    np.testing.assert_allclose(values * (1 if dtype == "uint8" else 255), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "resize", "scaled"),
    [((40, 60), None, (8, 12)), ((60, 40), None, (15, 10)), ((40, 61), 16, (16, 24)), ((40, 60), 6, (6, 9))],
)
def test_scaled_and_cropped_as_by_torchvision(
    tmp_path: Path, size: tuple[int, int], resize: int | None, scaled: tuple[int, int]
) -> None:
    """Resize (shorter side, bilinear, the longer rounded down), CenterCrop (padded with black), ToTensor, Normalize."""
    (tmp_path / "a").mkdir()
    picture = Image.fromarray(pixels(*size))
    picture.save(tmp_path / "a/x.png")
    preprocessing = Preprocessing(resize, (0.4, 0.5, 0.6), (0.2,))
    (array,) = read_dataset(tmp_path, port(1, 3, 8, 10), preprocessing=preprocessing).inputs()["image"]
    resized = np.asarray(picture.resize(scaled[::-1], Image.Resampling.BILINEAR))
    padded = np.pad(resized, ((20, 20), (20, 20), (0, 0)))
    top, left = (20 + round((have - need) / 2) for have, need in zip(scaled, (8, 10), strict=True))
    crop = padded[top : top + 8, left : left + 10].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(array, (crop - np.array([0.4, 0.5, 0.6])[:, None, None]) / 0.2, atol=1e-5)


@pytest.mark.parametrize(
    ("ports", "preprocessing", "message"),
    [
        (port(1, 10), Preprocessing(), r"input 'image': float32\[1, 10\], which images cannot fill; float32 or uint8"),
        (port(1, 2, 8, 10), Preprocessing(), "which images cannot fill"),
        (port(1, 3, 8, 10, dtype="int64"), Preprocessing(), r"int64\[1, 3, 8, 10\], which images cannot fill"),
        (port(1, 3, 8, 10) * 2, Preprocessing(), "the model has 2 inputs: image, image; one; give an .npz file"),
        (port(1, 3, 8, 10), Preprocessing(resize=0), "resize: 0; pixels of the shorter side"),
        (port(1, 3, 8, 10), Preprocessing(mean=(0, 0)), "mean: 2 numbers; one, or one for each of 3 channels"),
        (port(1, 1, 8, 10), Preprocessing(std=(1, 1, 1)), "std: 3 numbers; one"),
        (port(1, 3, 8, 10), Preprocessing(std=(0,)), "std: 0; finite numbers, and none that is 0 to divide by"),
        (port(1, 3, 8, 10), Preprocessing(mean=(np.nan,)), "mean: nan; finite numbers"),
        (port(1, 3, 8, 10, dtype="uint8"), Preprocessing(mean=(1,)), "mean and std: input 'image' is uint8; nothing"),
    ],
)
def test_what_does_not_fit(folder: Path, ports: list[Port], preprocessing: Preprocessing, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_dataset(folder, ports, preprocessing=preprocessing)


def test_a_folder_without_images(tmp_path: Path) -> None:
    Image.fromarray(pixels(8, 8)).save(tmp_path / "loose.png")
    with pytest.raises(UsageError, match="no images; one folder for each class, with images in it"):
        read_dataset(tmp_path, port(1, 3, 8, 8))


def test_a_folder_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rglob(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rglob", rglob)
    with pytest.raises(UsageError, match=r"cannot be read \(Permission denied\); a folder of images"):
        read_dataset(folder, port(1, 3, 8, 10))


def test_a_damaged_image(folder: Path) -> None:
    content = (folder / "a/1.PNG").read_bytes()
    (folder / "a/1.PNG").write_bytes(content[:100])
    dataset = read_dataset(folder, port(1, 3, 8, 10))
    with pytest.raises(MalformedError, match=r"a/1\.PNG: not an image that Pillow reads \(.*\); an intact image"):
        dataset.inputs()


def test_without_pillow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(UsageError, match="images are read by Pillow, which is not installed; pip install pillow"):
        read_dataset(folder, port(1, 3, 8, 10))
