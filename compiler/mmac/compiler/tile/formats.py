"""Which format a layer's weights are stored in: what moves fewest bytes, summed over the levels.

Integers (`raw`) have to be ranked on the way to the array, so that they are left out where that would cost time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa import terms
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.streams import Bytes, EncodedTiles, encode
from mmac.isa.table import TermFormat

Weights = npt.NDArray[np.integer[Any]]

_CODED_SHARE = 0.51
"""About the bytes of a coded stream for each of the plain one: on the layers of eight networks."""

_CODED_LEAST = 0.42
"""The share is not below this: where it would have to be, coding is not worth trying."""


def choose(
    tiles: Weights, alphas: Sequence[int], counted: Sequence[int], limits: Bytes | None = None, raw: bool = True
) -> tuple[TermFormat, EncodedTiles]:
    """The format with the fewest bytes, and the streams in it.

    Args:
        tiles: [T, G, N, 16] weights; ``raw`` cannot hold 128.
        alphas: α at each level.
        counted: the levels that count.
        limits: [L, T, G, N] budgets of the groups, if they have their own; ``plain`` cannot have these, nor can
            ``raw`` if they drop anything.
        raw: whether ``raw`` may be chosen.
    """
    count = terms.group_term_count(tiles)[..., 0]
    others: dict[TermFormat, float] = {}
    if limits is None:
        others[TermFormat.PLAIN] = sum(float(count.size + np.minimum(count, alphas[level]).sum()) for level in counted)
    if raw and tiles.max(initial=0) < 128 and (limits is None or (limits >= count).all()):
        others[TermFormat.RAW] = float(tiles.size * len(counted))
    kind = min(others, key=lambda each: others[each], default=TermFormat.CODED)
    if kind == TermFormat.RAW and others.get(TermFormat.PLAIN, 0.0) * _CODED_LEAST > others[kind]:
        return kind, encode(kind, tiles, alphas)
    coded = encode(TermFormat.CODED, tiles, alphas, limits)
    if kind in others and others[kind] <= coded.level_bytes[:, counted].sum():
        return kind, encode(kind, tiles, alphas)
    return TermFormat.CODED, coded


def likely_format(kept: npt.NDArray[np.integer[Any]], whole: bool = True) -> TermFormat:
    """What `choose` is likely to choose, whatever the tiles.

    Args:
        kept: [levels, …] terms that each group keeps at the levels that count.
        whole: the integers would do, as no group has a budget of its own.
    """
    coded = _CODED_SHARE * (kept.size + kept.sum())
    return TermFormat.RAW if whole and kept.size * GROUP_SIZE < coded else TermFormat.CODED


def group_bytes(format: TermFormat, alpha: int) -> float:
    """Bytes that a weight group takes, about."""
    return {
        TermFormat.RAW: float(GROUP_SIZE), TermFormat.PLAIN: 1.0 + alpha, TermFormat.CODED: _CODED_SHARE * (1 + alpha)
    }[format]  # fmt: skip
