"""Small valid programs, one per kind of operation, and a network of all of them."""

from __future__ import annotations

from typing import Any

from mmac.isa.table import TermFormat
from tests.isa.build import Builder
from tests.isa.source import Source, Tensor


def convolution(**options: Any) -> Source:
    """A 3 × 3 convolution whose last tiles are ragged: 3 tiles of channels, 2 of rows, 2 of columns."""
    builder = Builder()
    x, y = builder.input("x", (1, 6, 5, 8)), builder.tensor("y", (1, 6, 5, 20))
    builder.array(x, y, kernel=3, tile=(1, 4, 3, 8), **options)
    builder.output(y)
    return builder.source()


def matrix_product(**options: Any) -> Source:
    """A 1 × 1 convolution in 3 K tiles, the last one ragged."""
    builder = Builder()
    x, y = builder.input("x", (1, 4, 4, 40)), builder.tensor("y", (1, 4, 4, 12))
    builder.array(x, y, tile=(1, 2, 4, 8), reduction=16, **options)
    builder.output(y)
    return builder.source()


def depthwise(**options: Any) -> Source:
    """A depthwise convolution in 2 tiles of channels."""
    builder = Builder()
    x, y = builder.input("x", (1, 8, 8, 12)), builder.tensor("y", (1, 4, 4, 12))
    builder.array(x, y, kernel=3, stride=2, groups=12, tile=(1, 2, 4, 8), **options)
    builder.output(y)
    return builder.source()


def addition() -> Source:
    """A sum with one operand broadcast over the pixels."""
    builder = Builder()
    a, b = builder.input("a", (1, 5, 4, 6)), builder.input("b", (1, 1, 1, 6))
    y = builder.tensor("y", (1, 5, 4, 6))
    builder.add(a, b, y, (1, 2, 4, 3))
    builder.output(y)
    return builder.source()


def network() -> Source:
    """One of everything: stem, residual branch, pooling, table, padding move, host segment, classifier."""
    builder = Builder()
    x = builder.input("x", (1, 8, 8, 3))
    stem = builder.tensor("stem", (1, 8, 8, 8))
    builder.array(x, stem, kernel=3, tile=(1, 4, 8, 8), kind=TermFormat.RAW, per_level=True)
    branch = builder.tensor("branch", (1, 8, 8, 8))
    builder.array(stem, branch, kernel=3, groups=8, tile=(1, 2, 8, 4))
    total = builder.tensor("total", (1, 8, 8, 8))
    builder.add(stem, branch, total, (1, 3, 8, 8))
    pooled = builder.tensor("pooled", (1, 4, 4, 8), branch.base)
    builder.pool("vmax", total, pooled, (1, 2, 4, 8))
    curved = builder.tensor("curved", (1, 4, 4, 8))
    builder.lookup(pooled, curved, (1, 1, 4, 8))
    wide = builder.tensor("wide", (1, 6, 6, 8), stem.base)
    builder.move(curved, wide, (1, 2, 6, 8), (0, -1, -1, 0))
    hosted = builder.tensor("hosted", (1, 6, 6, 8))
    builder.host([wide], [hosted])
    mean = builder.tensor("mean", (1, 3, 3, 8))
    builder.pool("vavg", hosted, mean, (1, 3, 3, 8))
    scores = builder.tensor("scores", (1, 1, 1, 10))
    flat = Tensor("", mean.base, (1, 1, 1, 72), (72, 72, 72, 1))
    builder.array(flat, scores, tile=(1, 1, 1, 8), reduction=32)
    builder.output(scores)
    return builder.source()
