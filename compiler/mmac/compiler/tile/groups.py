"""Convolutions in large groups become one layer per group (part of pass `tile`).

A tile of a grouped layer is made of whole groups, as channels of x and y have to move together: good for the many
small groups of a depthwise layer. A group by itself is an ordinary layer on some of the channels. Its tiles can be
narrower than the group, all blocks share its channels, and activations may stay while its weights pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.compiler.tile.ir import ArrayLayer, ArrayMapping, View
from mmac.compiler.tile.layout import dims
from mmac.isa.errors import ResourceError

Weights = npt.NDArray[np.integer[Any]]

Search = Callable[[ArrayLayer], ArrayMapping]
"""Finds the best mapping of a layer; raises `ResourceError` if nothing fits."""


def map_layer(op: ArrayLayer, search: Search, columns: int) -> tuple[ArrayLayer, ...]:
    """The layer with its mapping, or the layers that take its place.

    Groups that are narrower than a block of `columns` stay together if they can: blocks then work on several of them
    at once, and there is code for one layer only. Of wider ones it is the cost that decides.

    Raises:
        ResourceError: not even the smallest tile fits.
    """
    if op.groups == 1:
        return (replace(op, mapping=search(op)),)
    try:
        together = search(op)
    except ResourceError:
        together = None
    if together is not None and op.oc < columns:
        return (replace(op, mapping=together),)
    alone = search(_group(op, 0))  # all groups are alike
    if together is not None and together.cycles <= alone.cycles * op.groups:
        return (replace(op, mapping=together),)
    return tuple(replace(_group(op, number), mapping=alone) for number in range(op.groups))


def data_of_parts(op: ArrayLayer, parts: tuple[ArrayLayer, ...], data: Mapping[str, Any]) -> dict[str, Weights]:
    """Weights [O, K] and limits [L, O, G] of the layers that take the place of `op`, by name."""
    if len(parts) == 1:
        return {}
    found: dict[str, Weights] = {}
    for name, part_name, axis in ((op.weights, "weights", 0), (op.limits, "limits", 1)):
        if name is not None:
            pieces = np.split(np.asarray(data[name]), op.groups, axis)
            found |= {getattr(part, part_name): piece for part, piece in zip(parts, pieces, strict=True)}
    return found


def _group(op: ArrayLayer, number: int) -> ArrayLayer:
    name = f"{op.name}.{number}"
    x, y, params = (_channels(view, number, op.groups) for view in (op.x, op.y, op.params))
    limits = None if op.limits is None else f"{name}.limits"
    return replace(op, name=name, x=x, y=y, params=params, groups=1, weights=f"{name}.weights", limits=limits)


def _channels(view: View, number: int, groups: int) -> View:
    """One of `groups` equal parts along the channels."""
    *outer, size = view.shape
    part = size // groups
    return replace(view, offset=view.offset + number * part * view.strides[3], shape=dims([*outer, part]))
