"""A folder of images, one folder per class as torchvision's ImageFolder has it, decoded when they are needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmac.isa.errors import MalformedError, UsageError
from mmac.isa.program import Port
from mmac.runtime.arrays import Arrays

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"))
"""Those that torchvision takes for images."""

_CHANNELS = {1: "L", 3: "RGB"}
"""Pillow's modes by number of channels."""


@dataclass(frozen=True)
class Preprocessing:
    """From an image to a model's input, as torchvision does it: Resize, CenterCrop, ToTensor, Normalize.

    Args:
        resize: pixels of the shorter side after scaling; None for the least that covers the input.
        mean: of each channel, or of all; subtracted from pixels in 0…1.
        std: what they are divided by then.
    """

    resize: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class Layout:
    """Where the pixels of an image go in an input of shape [batch, …].

    Attributes:
        channel_axis: of [channels, height, width] (0) or [height, width, channels] (2); None if there is none.
        channels: 1 (grey) or 3 (red, green, blue).
        dtype: numpy's name.
    """

    name: str
    height: int
    width: int
    channels: int
    channel_axis: int | None
    dtype: str

    @classmethod
    def of(cls, port: Port) -> Layout:
        """The layout of an input.

        Raises:
            UsageError: an input that holds no images.
        """
        match port.shape:
            case (_, 1 | 3 as channels, height, width):
                axis: int | None = 0
            case (_, height, width, 1 | 3 as channels):
                axis = 2
            case (_, height, width):
                channels, axis = 1, None
            case _:
                height = 0
        if height < 1 or port.dtype not in ("float32", "uint8"):
            raise UsageError(
                f"input {port.name!r}",
                f"{port.dtype}{list(port.shape)}, which images cannot fill",
                "float32 or uint8 of [n, 1 or 3, height, width], [n, height, width, 1 or 3] or [n, height, width]",
                "give an .npz file",
            )
        return cls(port.name, height, width, channels, axis, port.dtype)

    def place(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """[height, width, channels] as the input has it."""
        if self.channel_axis is None:
            return pixels[..., 0]
        return np.moveaxis(pixels, 2, self.channel_axis)


@dataclass(frozen=True)
class ImageFolder:
    """Files of images and the numbers of their classes, int64 [n]; the images are read by `inputs`."""

    files: tuple[Path, ...]
    labels: npt.NDArray[np.int64]
    layout: Layout
    preprocessing: Preprocessing

    def take(self, positions: npt.NDArray[np.intp]) -> ImageFolder:
        """Some of the files."""
        files = tuple(self.files[position] for position in positions)
        return ImageFolder(files, self.labels[positions], self.layout, self.preprocessing)

    def inputs(self) -> Arrays:
        """Read and decode the images.

        Raises:
            MalformedError: a file that is no image.
        """
        return {self.layout.name: np.stack([self._image(file) for file in self.files])}

    def _image(self, file: Path) -> npt.NDArray[Any]:
        from PIL import Image

        layout, preprocessing = self.layout, self.preprocessing
        try:
            with Image.open(file) as opened:
                image = opened.convert(_CHANNELS[layout.channels])
        except Exception as error:  # Pillow's decoders raise many unrelated types for damaged files
            raise MalformedError(str(file), f"not an image that Pillow reads ({error})", "an intact image") from None
        size = (layout.width, layout.height)
        pixels = np.asarray(_cropped(image, size, preprocessing.resize)).reshape(*size[::-1], layout.channels)
        if layout.dtype == "uint8":
            return layout.place(pixels)
        values = pixels.astype(np.float32) / np.float32(255)
        if preprocessing.mean != (0.0,):
            values -= np.array(preprocessing.mean, np.float32)
        if preprocessing.std != (1.0,):
            values /= np.array(preprocessing.std, np.float32)
        return layout.place(values)


def _cropped(image: Image, size: tuple[int, int], resize: int | None) -> Image:
    """The middle of an image, of this width and height; scaled before.

    What lies outside, if `resize` leaves less than that, is black.
    """
    from PIL.Image import Resampling

    width, height = image.size
    scale = max(size[0] / width, size[1] / height) if resize is None else resize / min(width, height)
    # as torchvision: the longer side is rounded down
    scaled = (max(1, int(width * scale + 1e-6)), max(1, int(height * scale + 1e-6)))
    if scaled != image.size:
        image = image.resize(scaled, Resampling.BILINEAR)
    left, top = (round((have - need) / 2) for have, need in zip(scaled, size, strict=True))
    return image.crop((left, top, left + size[0], top + size[1]))


def read_folder(path: str | os.PathLike[str], ports: Sequence[Port], preprocessing: Preprocessing) -> ImageFolder:
    """The images in a folder with one folder per class; class n is the nth in the order of the names.

    Raises:
        UsageError: no Pillow, no folders or no images in them, a model that does not read one image, or preprocessing
            that does not fit it.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        found = "images are read by Pillow, which is not installed"
        raise UsageError(str(path), found, hint="pip install pillow") from None
    if len(ports) != 1:
        names = ", ".join(port.name for port in ports)
        raise UsageError(str(path), f"the model has {len(ports)} inputs: {names}", "one", "give an .npz file")
    layout = Layout.of(ports[0])
    _check(preprocessing, layout)
    try:
        classes = sorted(entry for entry in Path(path).iterdir() if entry.is_dir() and not entry.name.startswith("."))
        images = [sorted(file for file in folder.rglob("*") if _is_image(file)) for folder in classes]
    except OSError as error:
        raise UsageError(str(path), f"cannot be read ({error.strerror})", "a folder of images") from None
    files = tuple(file for each in images for file in each)
    if not files:
        raise UsageError(str(path), "no images", "one folder for each class, with images in it")
    labels = np.repeat(np.arange(len(classes)), [len(each) for each in images])
    return ImageFolder(files, labels, layout, preprocessing)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and file.is_file()


def _check(preprocessing: Preprocessing, layout: Layout) -> None:
    if preprocessing.resize is not None and preprocessing.resize < 1:
        raise UsageError("resize", f"{preprocessing.resize}", "pixels of the shorter side, 1 at least")
    for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
        if len(values) not in (1, layout.channels):
            allowed = "one" if layout.channels == 1 else "one, or one for each of 3 channels"
            raise UsageError(name, f"{len(values)} numbers", allowed)
        if not np.isfinite(values).all() or (name == "std" and min(map(abs, values)) < 1e-30):
            raise UsageError(name, ", ".join(map(str, values)), "finite numbers, and none that is 0 to divide by")
    if layout.dtype == "uint8" and (preprocessing.mean, preprocessing.std) != ((0.0,), (1.0,)):
        raise UsageError("mean and std", f"input {layout.name!r} is uint8", "nothing: it takes pixels as they are")
