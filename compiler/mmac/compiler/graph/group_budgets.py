"""α below the layer, of each weight group at each level: how it is chosen, and how it travels in the metadata.

An array layer whose groups have budgets of their own carries ``mmac.alpha_groups``: base64 of a zlib stream of uint8
[levels, output channels, groups].
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmac.isa.errors import MalformedError
from mmac.isa.plan import GROUP_SIZE, MAX_ALPHA
from mmac.isa.terms import signed_digits, to_groups

GROUPS = "mmac.alpha_groups"

Limits = npt.NDArray[np.uint8]
"""[levels, output channels, groups]"""

_EXPONENTS = 8


def limits_text(limits: Limits) -> str:
    """Text for a node's `metadata_props`."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(limits).tobytes(), 9)).decode("ascii")


def limits_of(node: ir.Node, levels: int, channels: int, groups: int) -> Limits | None:
    """What a layer carries, or None.

    Raises:
        MalformedError: not base64 of a zlib stream, of another size, out of range, or falling.
    """
    text = node.metadata_props.get(GROUPS)
    if text is None:
        return None
    where, size = f"node {node.name!r}: {GROUPS}", levels * channels * groups
    try:
        reader = zlib.decompressobj()
        raw = reader.decompress(base64.b64decode(text, validate=True), size + 1)
    except (binascii.Error, ValueError, zlib.error):
        raise MalformedError(where, "not base64 of a zlib stream", "what `limits_text` writes") from None
    if len(raw) != size:
        raise MalformedError(
            where, f"{len(raw) if len(raw) < size else 'more'} bytes",
            f"{size}: {levels} levels of {channels} channels of {groups} groups",
        )  # fmt: skip
    limits = np.frombuffer(raw, np.uint8).reshape(levels, channels, groups)
    if limits.max(initial=0) > MAX_ALPHA or (np.diff(limits.astype(np.int16), axis=0) < 0).any():
        raise MalformedError(where, "budgets out of range, or falling", f"0…{MAX_ALPHA}, rising from level to level")
    return limits


def spend_on_largest(rows: npt.NDArray[Any], scale: npt.NDArray[Any], alphas: Sequence[int]) -> Limits:
    """Terms of each group if the budget of a layer goes to the largest terms of all, wherever they are.

    The size of a term is 2^exponent times the scale of its channel; among equally large ones, earlier groups come
    first. A level spends α terms per group on average.

    Args:
        rows: integer weights [channels, K].
        scale: [channels] of the weights.
        alphas: α at each level, not falling.
    """
    count = _terms_by_exponent(rows)  # [channels, groups, exponents]
    channels, groups, _ = count.shape
    size = np.asarray(scale, np.float64).reshape(-1, 1) * 2.0 ** np.arange(_EXPONENTS)
    order = np.argsort(-size.ravel(), kind="stable")  # of pairs (channel, exponent)
    channel, exponent = np.divmod(order, _EXPONENTS)
    in_order = count[channel, :, exponent]  # [pairs, groups]
    taken = np.cumsum(in_order.ravel(), dtype=np.int64) - in_order.ravel()
    limits = np.zeros((len(alphas), channels, groups), np.uint8)
    for level, alpha in enumerate(alphas):
        room = alpha * channels * groups
        kept = np.clip(room - taken, 0, in_order.ravel()).reshape(in_order.shape)
        np.add.at(limits[level], channel, kept.astype(np.uint8))
    return limits


def _terms_by_exponent(rows: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    positive, negative = signed_digits(to_groups(rows, GROUP_SIZE))
    digits = positive | negative
    found = [(digits >> exponent & 1).sum(axis=1, dtype=np.uint8) for exponent in range(_EXPONENTS)]
    return np.stack(found, axis=-1).reshape(len(rows), -1, _EXPONENTS)
