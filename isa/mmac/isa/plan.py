"""Levels and plans: how many terms each layer keeps at each resolution."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from mmac.isa.errors import UsageError

GROUP_SIZE = 16
"""Values per group (paper §3; design.md §1)."""

MAX_ALPHA = 4 * GROUP_SIZE
"""An int8 value has at most 4 signed digits, so a group never has more terms than this."""

MAX_BETA = 5
"""A 9-bit data value (-255…255) has at most 5 signed digits."""

MAX_LEVELS = 16


@dataclass(frozen=True, order=True)
class Level:
    """One (α, β) setting: terms kept per weight group and per data value."""

    alpha: int
    beta: int

    @property
    def gamma(self) -> int:
        """Term-pair budget: cycles that one cell spends on one group dot product."""
        return self.alpha * self.beta

    @property
    def is_full(self) -> bool:
        """True if nothing can be dropped at this level."""
        return self.alpha >= MAX_ALPHA and self.beta >= MAX_BETA

    def __str__(self) -> str:
        return "full" if self.is_full else f"{self.alpha}x{self.beta}"


FULL = Level(MAX_ALPHA, MAX_BETA)

PAPER_LEVELS = tuple(Level(a, b) for a, b in ((8, 2), (10, 2), (12, 2), (14, 2), (14, 3), (16, 3), (18, 3), (20, 3)))
"""The paper's eight levels; γ = 16 20 24 28 42 48 54 60 (§6.1)."""


def parse_level(text: str) -> Level:
    """Read ``8x2`` (α first) or ``full``.

    Raises:
        UsageError: not of that form, or outside 1…64 × 1…5.
    """
    if text.strip() == "full":
        return FULL
    match = re.fullmatch(r"\s*(\d{1,4})[xX×](\d{1,4})\s*", text)
    if not match:
        raise UsageError(f"level {text!r}", "not a level", "ALPHAxBETA such as 8x2, or full")
    level = Level(int(match[1]), int(match[2]))
    if not (1 <= level.alpha <= MAX_ALPHA and 1 <= level.beta <= MAX_BETA):
        raise UsageError(f"level {text!r}", "out of range", f"alpha 1…{MAX_ALPHA}, beta 1…{MAX_BETA}")
    return level


def parse_levels(text: str) -> tuple[Level, ...]:
    """Read ``paper``, ``full`` or a comma-separated list of levels, lowest first.

    Raises:
        UsageError: a level that is malformed, or a list that is not monotone in α and β, repeats a level, or is
            too long.
    """
    if text.strip() == "paper":
        return PAPER_LEVELS
    levels = tuple(parse_level(part) for part in text.split(","))
    if len(levels) > MAX_LEVELS:
        raise UsageError("levels", f"{len(levels)} levels", f"at most {MAX_LEVELS}")
    for low, high in itertools.pairwise(levels):
        if high.alpha < low.alpha or high.beta < low.beta or high == low:
            raise UsageError(
                "levels",
                f"{low} is followed by {high}",
                "alpha and beta must not fall from one level to the next, and levels must differ",
                "sort the levels from the lowest to the highest",
            )
    return levels


@dataclass(frozen=True)
class LayerPlan:
    """The budgets of one array layer: its (α, β) at each level of the program."""

    name: str
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Plan:
    """Levels of a whole program, and what each of its array layers does at each of them."""

    levels: tuple[Level, ...]
    layers: tuple[LayerPlan, ...]

    @property
    def usual_levels(self) -> tuple[int, ...]:
        """The levels that a compiler chooses formats and mappings for: all but `full`.

        That level is what the others are held to. What suits it (whole weights, multiplied at once) would make them all
        equally large and slow, so it counts only if it is the only one.
        """
        everywhere = range(len(self.levels))
        return tuple(i for i in everywhere if not self.levels[i].is_full) or tuple(everywhere)

    def usual(self, layer: int) -> tuple[Level, ...]:
        """Budgets of a layer at the usual levels."""
        return tuple(self.layers[layer].levels[i] for i in self.usual_levels)

    def index(self, text: str) -> int:
        """Position of the level that a user named: an index ``0``…``L-1`` or ``8x2`` or ``full``.

        Raises:
            UsageError: no such level in this program.
        """
        if re.fullmatch(r"\d{1,4}", text) and int(text) < len(self.levels):
            return int(text)
        if not re.fullmatch(r"\d+", text) and (level := parse_level(text)) in self.levels:
            return self.levels.index(level)
        names = ", ".join(f"{i} ({level})" for i, level in enumerate(self.levels))
        raise UsageError(f"level {text!r}", "not in this program", names, "recompile with --levels to add it")
