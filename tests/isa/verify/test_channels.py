"""Sums and biases are bounded for each output channel by itself, wherever walks say which belong together."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mmac.isa import terms
from mmac.isa.plan import FULL, Level
from mmac.isa.program import PARAM_DTYPE
from mmac.isa.table import TermFormat
from mmac.isa.verify import verify
from tests.isa.build import Builder
from tests.isa.source import Source
from tests.isa.verify.rejection import rejected

LEVELS = (Level(32, 2), FULL)
LARGEST = 2**31 - 1
DATA = 128

Ints = npt.NDArray[np.int64]


def layer(weights: Ints, biases: Ints, groups: int = 1, **options: Any) -> Source:
    """An array layer [O, kernel, kernel, ic] in tiles of 8 channels with biases [O] or [L, O]."""
    out, kernel, _, ic = weights.shape
    builder = Builder(levels=LEVELS, image_bytes=1 << 15)
    x, y = builder.input("x", (1, 4, 4, ic * groups)), builder.tensor("y", (1, 4, 4, out))
    options.setdefault("tile", (1, 2, 4, 8))
    builder.array(x, y, kernel=kernel, weights=weights, per_level=biases.ndim == 2, groups=groups, **options)
    builder.output(y)
    source = builder.source()
    found = re.search(r"base=(\d+) elem=8 ", source.text)
    assert found
    image = source.rest.image.copy()
    image[int(found[1]) :][: 8 * biases.size].view(PARAM_DTYPE)["bias"] = biases.ravel()
    return source.change(image=image)


def random_weights(*shape: int) -> Ints:
    """Powers of two, which truncation leaves as they are; some channels have none."""
    rng = np.random.default_rng(3)
    weights: Ints = np.where(rng.random(shape) < 0.5, 1 << rng.integers(0, 7, shape), 0) * rng.choice([-1, 1], shape)
    weights[1::4] = 0
    return weights


def largest_biases(weights: Ints) -> Ints:
    """As large as the sums of each channel allow, of either sign."""
    most: Ints = LARGEST - DATA * np.abs(weights).sum(axis=(1, 2, 3))
    most[::2] *= -1
    return most


LAYERS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "weights outer": ((20, 3, 3, 8), {}),
    "pixels outer": ((20, 3, 3, 8), {"weights_outer": False}),
    "raw": ((20, 3, 3, 8), {"kind": TermFormat.RAW}),
    "one tile": ((6, 3, 3, 8), {"tile": (1, 2, 4, 6)}),
    "one tile of pixels": ((20, 1, 1, 8), {"tile": (1, 4, 4, 8)}),
    "K tiles": ((20, 1, 1, 40), {"reduction": 16}),
    "K tiles, pixels outer": ((20, 1, 1, 40), {"reduction": 16, "weights_outer": False}),
    "depthwise": ((20, 3, 3, 1), {"groups": 20}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_channel_up_to_its_limit(name: str) -> None:
    shape, options = LAYERS[name]
    weights = random_weights(*shape)
    biases = largest_biases(weights)
    verify(layer(weights, biases, **options).program())
    for channel in (0, 1, 5, shape[0] - 1):
        over = biases.copy()
        over[channel] += np.sign(over[channel])
        rejected(
            layer(weights, over, **options), "(store.acc) of node 'conv0': sums could reach a magnitude of 2147483648"
        )


@pytest.mark.parametrize("kind", list(TermFormat))
def test_any_weights_at_the_level_where_they_are_largest(kind: TermFormat) -> None:
    """127 and 85 change with the level, and terms of both signs cancel out: bounds are exact where it matters."""
    weights = np.random.default_rng(4).choice([127, -127, 85, -77, 3, 0], (20, 3, 3, 8))
    kept = [terms.truncate_groups(weights.reshape(20, -1), level.alpha) for level in LEVELS]
    most = np.max([np.abs(each).sum(axis=1, dtype=np.int64) for each in kept], axis=0)
    assert (most > np.abs(weights).sum(axis=(1, 2, 3))).any()
    biases = LARGEST - DATA * most
    verify(layer(weights, biases, kind=kind).program())
    biases[13] += 1
    rejected(layer(weights, biases, kind=kind), "sums could reach a magnitude of 2147483648")


@pytest.mark.parametrize("level", range(2))
def test_biases_of_every_level(level: int) -> None:
    weights = random_weights(20, 1, 1, 8)
    biases = np.stack([largest_biases(weights)] * 2)
    verify(layer(weights, biases).program())
    biases[level, 9] += np.sign(biases[level, 9])
    rejected(layer(weights, biases), "sums could reach a magnitude of 2147483648")


def test_the_fill_byte_of_channels_beyond_the_last() -> None:
    """A last tile of 4 channels: the others have no weights, and biases of four fill bytes."""
    weights = np.full((20, 1, 1, 8), 64, np.int64)
    verify(layer(weights, largest_biases(weights)).edit("elem=8 fill=0", "elem=8 fill=63").program())


def test_channels_are_not_told_apart_without_a_common_pointer() -> None:
    """The same constants through another pointer: the largest bias counts for every channel."""
    weights = random_weights(8, 1, 1, 8)
    source = layer(weights, largest_biases(weights))
    pointer = "pointer p=p5 pad=prm addr=0\nquant"
    rejected(source.edit("prm=p2", "prm=p5").edit("quant", pointer), "sums could reach a magnitude of")
    modest = layer(weights, np.full(8, 10**6))
    verify(modest.edit("prm=p2", "prm=p5").edit("quant", pointer).program())


def test_weights_that_move_with_another_loop_count_for_every_channel() -> None:
    """Tiles that follow the rows of y: each channel of y may meet each of them."""
    weights = random_weights(16, 1, 1, 8)
    weights[:8], weights[8:] = 64, 0
    biases = largest_biases(weights)
    source = layer(weights, biases, weights_outer=False, tile=(1, 2, 4, 8))
    verify(source.program())
    line = next(line for line in source.text.splitlines() if line.startswith("walk t=t1 dim=c"))
    rejected(source.edit(line, line.replace("d1", "d0")), "sums could reach a magnitude of")


def test_sums_do_not_wrap() -> None:
    """Tiles added up 2^24 - 1 times."""
    weights = np.full((8, 1, 1, 32), 64, np.int64)
    source = layer(weights, np.zeros(8, np.int64), reduction=16, tile=(1, 4, 4, 8))
    source = source.edit("loop 2\n", f"loop {2**24 - 1}\n")
    line = next(line for line in source.text.splitlines() if line.startswith("walk t=t1 dim=w"))
    source = source.edit(line, "walk t=t1 dim=w origin=0 extent=1")
    rejected(source, f"(mmac) of node 'conv0': sums could reach a magnitude of {16 * 64 * DATA * (2**24 - 1)}")
