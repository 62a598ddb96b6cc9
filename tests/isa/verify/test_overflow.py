"""Sums that could leave int32, and constants that are no ordinary numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmac.isa.plan import PAPER_LEVELS, Level
from mmac.isa.program import PARAM_DTYPE
from mmac.isa.table import TermFormat
from mmac.isa.verify import verify
from tests.isa import examples
from tests.isa.build import Builder
from tests.isa.source import Source
from tests.isa.verify.rejection import rejected

LARGEST = 2**31 - 1
DATA = 128
"""Largest magnitude of data: uint8 with zero point 128."""


def matrix(
    depth: int,
    weight: int,
    bias: int,
    kind: TermFormat = TermFormat.PLAIN,
    levels: tuple[Level, ...] = PAPER_LEVELS,
) -> Source:
    """One output channel of `depth` equal weights, in K tiles of up to 512."""
    builder = Builder(levels=levels, image_bytes=1 << 18)
    x, y = builder.input("x", (1, 1, 1, depth)), builder.tensor("y", (1, 1, 1, 1))
    weights = np.full((1, 1, 1, depth), weight)
    builder.array(x, y, tile=(1, 1, 1, 1), reduction=min(512, depth), weights=weights, bias=bias, kind=kind)
    builder.output(y)
    return builder.source()


@pytest.mark.parametrize("kind", list(TermFormat))
@pytest.mark.parametrize("sign", [1, -1])
def test_exactly_up_to_the_limit(kind: TermFormat, sign: int) -> None:
    """64 weights of magnitude 64 and data of magnitude 128."""
    most = 64 * 64 * DATA
    verify(matrix(64, 64 * sign, LARGEST - most, kind).program())
    rejected(
        matrix(64, 64 * sign, LARGEST - most + 1, kind),
        "(store.acc) of node 'conv0': sums could reach a magnitude of 2147483648; 2147483647 (int32)",
    )


def test_negative_biases_count_too() -> None:
    verify(matrix(16, 1, -LARGEST + 16 * DATA).program())
    rejected(matrix(16, 1, -LARGEST + 16 * DATA - 1), "sums could reach a magnitude of 2147483648")


def test_the_worst_truncation_counts() -> None:
    """127 = 2^7 - 2^0 becomes 2^7 when its smaller term is dropped."""
    rejected(matrix(16, 127, LARGEST - 16 * 127 * DATA), "sums could reach a magnitude of")
    verify(matrix(16, 127, LARGEST - 16 * 128 * DATA, TermFormat.RAW).program())


@pytest.mark.parametrize(
    ("quant", "beta", "largest"),
    [
        ("a_zero=128", 5, 128),
        ("a_zero=0", 5, 255),
        ("a_zero=0", 1, 256),
        ("a_zero=255", 2, 255),
        ("a_zero=-128 a_signed=1", 1, 256),
        ("a_zero=-3 a_signed=1", 5, 130),
        ("a_zero=-3 a_signed=1", 2, 130),
        ("a_zero=-3 a_signed=1", 1, 128),
    ],
)
def test_the_range_of_data_counts(quant: str, beta: int, largest: int) -> None:
    """The largest of all bytes after truncation at any level."""
    for excess in (0, 1):
        levels = (Level(64, 1 if beta == 1 else 2), Level(64, beta))
        source = matrix(16, 64, LARGEST - 16 * 64 * largest + excess, levels=levels).edit("a_zero=128", quant)
        if excess:
            rejected(source, "sums could reach a magnitude of 2147483648")
        else:
            verify(source.program())


def test_tiles_add_up() -> None:
    verify(matrix(1024, 64, LARGEST - 1024 * 64 * DATA).program())
    rejected(matrix(1024, 64, LARGEST - 1024 * 64 * DATA + 1), "(store.acc) of node 'conv0': sums could reach")


def test_sums_overflow_without_a_bias() -> None:
    """132,000 weights of 128 in 33 tiles: the array itself would overflow."""
    builder = Builder(image_bytes=1 << 18)
    x, y = builder.input("x", (1, 1, 1, 132000)), builder.tensor("y", (1, 1, 1, 1))
    weights = np.full((1, 1, 1, 132000), -128)
    builder.array(x, y, tile=(1, 1, 1, 1), reduction=4000, weights=weights, bias=0, kind=TermFormat.RAW)
    builder.output(y)
    rejected(builder.source(), "(mmac) of node 'conv0': sums could reach a magnitude of 2162688000; 2147483647 (int32)")


def constants(**changes: Any) -> Source:
    """`examples.convolution` with one record of its constants edited."""
    source = examples.convolution()
    image = source.rest.image.copy()
    records = image[2432 : 2432 + 160].view(PARAM_DTYPE)
    for name, value in changes.items():
        records[name][13] = value
    return source.change(image=image)


@pytest.mark.parametrize("scale", [np.inf, -np.inf, np.nan, 1e30])
def test_scales(scale: float) -> None:
    rejected(constants(scale=scale), "(load.params) of node 'conv0': a scale of magnitude …; up to 1.84e+19")


def test_scales_may_be_negative_zero_or_tiny() -> None:
    for scale in (-3.0, 0.0, -0.0, 1e-42):
        verify(constants(scale=scale).program())


def test_the_largest_bias_counts() -> None:
    verify(constants(bias=2**30).program())
    rejected(constants(bias=-(2**31)), "sums could reach a magnitude of")


def test_constants_come_from_the_image() -> None:
    """`load.params` reads nothing else; `load` may, but not as constants."""
    source = examples.convolution().edit("load.params", "load").edit("sync.weights wait=5,5", "sync.load wait=5,5")
    verify(source.program())
    rejected(
        source.edit("base=2432", "base=65536"),
        "(load) of node 'conv0': channel constants at DRAM bytes 0x10000 … 0x1009f;"
        " constants of the image, 0x0 … 0xffff",
    )


def test_the_fill_of_constants_counts() -> None:
    """Channels beyond the last get the fill byte for bias and scale."""
    source = examples.convolution()
    line = next(line for line in source.text.splitlines() if line.endswith("elem=8 fill=0"))
    rejected(source.edit(line, line.replace("fill=0", "fill=255")), "a scale of magnitude nan")


def test_averages_over_too_much() -> None:
    """Unlike sums of products these never fit a scratchpad, so the limit is lowered here."""
    builder = Builder()
    x, y = builder.input("x", (1, 6, 6, 8)), builder.tensor("y", (1, 3, 3, 8))
    builder.pool("vavg", x, y, (1, 2, 3, 8))
    builder.output(y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmac.isa.verify.overflow.MAX_INT32", 9 * 256)
        verify(builder.source().program())
        patch.setattr("mmac.isa.verify.overflow.MAX_INT32", 9 * 256 - 1)
        rejected(builder.source(), "(vavg) of node 'pool0': sums could reach a magnitude of 2304; 2303 (int32)")
