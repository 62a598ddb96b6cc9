"""Sums over samples, from which follows how far tensors are from what they ought to be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mmac.compiler.graph.edit import Array

VARIANTS = ("calibration", "weight_terms", "data_terms", "constants")
"""What is added from one variant of a computation to the next; the last variant is the program itself."""


@dataclass(frozen=True)
class Errors:
    """Distance of a tensor from its reference, over all samples.

    Attributes:
        sqnr_db: 10·log10(Σ reference² / Σ (tensor − reference)²); None if they are equal.
        cosine: of the angle between both as vectors; 1 if they are equal.
        max_abs_error: largest magnitude of the difference.
        stages_db: SQNR after each of `VARIANTS`; the last one is `sqnr_db`.
        noise: what each of `VARIANTS` adds to the noise, as a share of the power of the reference. They sum up to
            10^(−sqnr_db / 10); a negative one takes away noise.
    """

    sqnr_db: float | None
    cosine: float
    max_abs_error: float
    stages_db: dict[str, float | None]
    noise: dict[str, float]

    @property
    def total_noise(self) -> float:
        """Noise as a share of the power of the reference."""
        return sum(self.noise.values())


@dataclass
class Sums:
    """Collects `Errors` sample by sample."""

    signal: float = 0.0
    power: float = 0.0
    product: float = 0.0
    largest: float = 0.0
    noise: list[float] = field(default_factory=lambda: [0.0] * len(VARIANTS))

    def add(self, reference: Array, variants: Sequence[Array]) -> None:
        """Some samples.

        Args:
            reference: float32, any shape.
            variants: float32 arrays of that shape, one for each of `VARIANTS`. Equal ones may be the same array.
        """
        noise: dict[int, float] = {}
        for number, array in enumerate(variants):
            if id(array) not in noise:
                noise[id(array)] = distance(array, reference)
            self.noise[number] += noise[id(array)]
        found = variants[-1]
        self.signal += _dot(reference, reference)
        self.power += _dot(found, found)
        self.product += _dot(found, reference)
        self.largest = max(self.largest, float(np.abs(difference(found, reference)).max(initial=0)))

    def errors(self) -> Errors:
        """What they amount to."""
        before = [0.0, *self.noise[:-1]]
        signal = max(self.signal, TINY)
        lengths = math.sqrt(self.signal) * math.sqrt(self.power)
        return Errors(
            sqnr_db=decibels(self.signal, self.noise[-1]),
            cosine=1.0 if not self.noise[-1] else self.product / max(lengths, TINY),
            max_abs_error=self.largest,
            stages_db={name: decibels(self.signal, n) for name, n in zip(VARIANTS, self.noise, strict=True)},
            noise={name: (n - b) / signal for name, n, b in zip(VARIANTS, self.noise, before, strict=True)},
        )


TINY = 1e-30
"""Stands for a power of 0 below a fraction."""


def decibels(signal: float, noise: float) -> float | None:
    """Ratio of two energies in dB; None if there is no noise."""
    return 10 * math.log10(max(signal, TINY) / max(noise, TINY)) if noise else None


def distance(found: Array, reference: Array) -> float:
    """Σ (found − reference)²."""
    if found is reference:
        return 0.0
    off = difference(found, reference)
    return _dot(off, off)


def difference(found: Array, reference: Array) -> Array:
    """found − reference; 0 where that is no number, as for infinities that are equal."""
    with np.errstate(invalid="ignore", over="ignore"):
        off: Array = np.subtract(found, reference, dtype=np.float32)
    return off if math.isfinite(float(off.sum())) else np.where(np.isfinite(off), off, 0)


def _dot(a: Array, b: Array) -> float:
    product = float(np.vdot(a, b))
    if math.isfinite(product):
        return product
    both = np.isfinite(a) & np.isfinite(b)
    return float(np.vdot(np.where(both, a, 0).astype(np.float64), np.where(both, b, 0).astype(np.float64)))
