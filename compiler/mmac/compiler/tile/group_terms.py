"""How many terms the weight groups of a layer have: what mapping and placement need to know of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.compiler.tile.formats import group_bytes, likely_format
from mmac.compiler.tile.ir import ArrayLayer, TileProgram
from mmac.isa.table import TermFormat
from mmac.isa.terms import group_term_count

Counts = npt.NDArray[np.integer[Any]]

_DIRECTORY_SHARE = 1.01
"""Bytes of term streams and their directories for each of the streams, about; the tiles are not known yet."""


@dataclass(frozen=True)
class GroupTerms:
    """Of one layer.

    Attributes:
        count: [O, groups] terms of each group at the highest level.
        budgets: (α, β) at each level.
        limits: [levels, O, groups] budgets of the groups, if they have their own.
        usual: the levels that count (`Plan.usual_levels`).
    """

    count: Counts
    budgets: tuple[tuple[int, int], ...]
    limits: Counts | None
    usual: tuple[int, ...]

    @staticmethod
    def of(op: ArrayLayer, module: TileProgram) -> GroupTerms:
        """Of a layer of a program."""
        plan = module.plan
        limits = None if op.limits is None else np.asarray(module.data[op.limits])
        budgets = tuple((level.alpha, level.beta) for level in plan.layers[op.layer].levels)
        return GroupTerms(group_term_count(np.asarray(module.data[op.weights])), budgets, limits, plan.usual_levels)

    @property
    def most(self) -> int:
        """Terms of the largest group."""
        return max(1, int(self.count.max(initial=1)))

    @cached_property
    def kept(self) -> Counts:
        """[levels, O, groups] terms of each group at each level."""
        own = np.reshape([alpha for alpha, _ in self.budgets], (-1, 1, 1)) if self.limits is None else self.limits
        kept: Counts = np.minimum(self.count, own)
        return kept

    @cached_property
    def format(self) -> TermFormat:
        """What the weights are likely to be stored as."""
        return likely_format(self.kept[list(self.usual)], whole=self.limits is None)

    @property
    def profile(self) -> tuple[tuple[int, ...], ...] | None:
        """Terms of the largest group of each output channel at each level, if channels differ."""
        most = self.kept.max(axis=2)
        return tuple(map(tuple, most.tolist())) if (most != most[:, :1]).any() else None

    @property
    def stored_bytes(self) -> float:
        """About the bytes of the layer's streams, up to the highest level."""
        groups = np.bincount(self.count.ravel()).tolist()
        return float(sum(group_bytes(self.format, terms) * number for terms, number in enumerate(groups)))


def weights_bytes(layers: Mapping[str, GroupTerms]) -> int:
    """About the bytes of all term streams and directories (`allocate` knows for sure)."""
    return int(_DIRECTORY_SHARE * sum(terms.stored_bytes for terms in layers.values()))
