"""Real photographs out of the wheels of scikit-image and scikit-learn, and text drawn by Pillow.

The packages are only downloaded, never imported.  Pillow decodes, resizes and draws.
"""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .packages import PackagedFile

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]
"""RGB, [height, width, 3]."""

_SKIMAGE = ("scikit-image==0.26.0", "skimage/data")
_SKLEARN = ("scikit-learn==1.9.1", "sklearn/datasets/images")
_FILES = (
    (_SKIMAGE, "astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
    (_SKIMAGE, "chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),  # a cat
    (_SKIMAGE, "coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    (_SKIMAGE, "motorcycle_left.png", "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179"),
    (_SKIMAGE, "rocket.jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
    (_SKLEARN, "china.jpg", "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29"),  # a pavilion
    (_SKLEARN, "flower.jpg", "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638"),
)
PHOTOS = tuple(
    PackagedFile(requirement, (f"{folder}/{file}",), sha256) for (requirement, folder), file, sha256 in _FILES
)

_WORDS = (
    "array beat budget cell channel clock digit energy exponent group increment kernel latency layer level "
    "matrix meter model network pixel prefix quantize reduce residual scale signal stream tensor term weight"
)


@cache
def _photo(index: int) -> Image:
    from PIL import Image

    return Image.open(io.BytesIO(PHOTOS[index].read())).convert("RGB")


def crop(sample: int, height: int, width: int) -> Pixels:
    """Sample `sample` of an endless series: each photo's centre, then random windows of it, half of them mirrored."""
    from PIL import Image

    photo = _photo(sample % len(PHOTOS))
    random = np.random.default_rng(sample)
    first = sample < len(PHOTOS)
    scale = min(photo.width / width, photo.height / height) * (1.0 if first else random.uniform(0.5, 1.0))
    across, down = int(width * scale), int(height * scale)
    x, y = ((0.5, 0.5) if first else random.uniform(size=2)) * np.array((photo.width - across, photo.height - down))
    window = photo.resize((width, height), Image.Resampling.BICUBIC, box=(x, y, x + across, y + down))
    pixels = np.asarray(window)
    return pixels if first or random.uniform() < 0.5 else pixels[:, ::-1]


def line_of_text(sample: int, height: int, width: int) -> Pixels:
    """One line of dark words on light paper, as wide as fits."""
    from PIL import Image, ImageDraw

    random = np.random.default_rng(sample)
    paper = Image.new("RGB", (width, height), _colour(random, 200, 256))
    font = _font(height * 0.6)
    text = _word(random)
    while font.getlength(f"{text} increment") < width - 10:
        text += f" {_word(random)}"
    ink = _colour(random, 0, 80)
    ImageDraw.Draw(paper).text((5, height / 2), text, fill=ink, font=font, anchor="lm")
    return np.asarray(paper)


def page(sample: int, height: int, width: int) -> Pixels:
    """A photo with some words of several sizes and colours across it."""
    from PIL import Image, ImageDraw

    random = np.random.default_rng(sample)
    picture = Image.fromarray(crop(sample, height, width))
    draw = ImageDraw.Draw(picture)
    for row in range(4):
        place = random.uniform(0, 0.4) * width, (row + random.uniform(0.2, 0.6)) * height / 4
        font = _font(height * random.uniform(0.06, 0.15))
        draw.text(place, _word(random), fill=_colour(random, 0, 256), font=font)
    return np.asarray(picture)


def _word(random: np.random.Generator) -> str:
    return str(random.choice(_WORDS.split()))


def _colour(random: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in random.integers(low, high, 3))
    return red, green, blue


def _font(size: float) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
