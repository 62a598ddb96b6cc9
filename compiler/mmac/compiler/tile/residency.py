"""Which activations stay in the global buffer instead of going through DRAM (part of pass `tile`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmac.compiler.tile.allocate import Placement
from mmac.compiler.tile.ir import Buffer, HostCall, TileProgram


def keep_on_chip(module: TileProgram, capacity_bytes: int) -> TileProgram:
    """Mark buffers as `on_chip` that fit together into `capacity_bytes`.

    Every byte on chip saves the same traffic, so what counts is for how long it takes space away from others: buffers
    that live shortest come first, of those the largest. What the host or the user reads or writes stays in DRAM.
    """
    plan = Placement.of(module)
    spans = plan.spans
    outside = _seen_from_outside(module)
    free = [b for b in module.buffers if not b.constant and b.name not in outside and b.name in spans]
    free.sort(key=lambda b: (spans[b.name][1] - spans[b.name][0], -b.size_bytes, b.name))
    names = {b.name for b in _add(plan, [], free, capacity_bytes)}
    return replace(module, buffers=tuple(replace(b, on_chip=b.name in names) for b in module.buffers))


def _add(plan: Placement, chosen: list[Buffer], more: list[Buffer], capacity_bytes: int) -> list[Buffer]:
    """`chosen` and those of `more` that fit beside them, first ones first: all at once if they do, else by halves."""
    together = [*chosen, *more]
    if not more or (_peak_bytes(plan, together) <= capacity_bytes and _fit(plan, together, capacity_bytes)):
        return together
    if len(more) == 1:
        return chosen
    half = len(more) // 2
    return _add(plan, _add(plan, chosen, more[:half], capacity_bytes), more[half:], capacity_bytes)


def _fit(plan: Placement, buffers: Sequence[Buffer], capacity_bytes: int) -> bool:
    bases = plan.place(buffers, 0)
    return all(bases[b.name] + b.size_bytes <= capacity_bytes for b in buffers)


def _peak_bytes(plan: Placement, buffers: Sequence[Buffer]) -> int:
    """The least room that buffers may need, which is much faster to tell than where they would lie.

    One that can take the place of another is counted from the operation after on.
    """
    spans = np.array([plan.spans[b.name] for b in buffers])
    sizes = np.array([b.size_bytes for b in buffers])
    begins = spans[:, 0] + np.array([b.name in plan.follows for b in buffers])
    changes = np.zeros(spans.max() + 3, np.int64)  # times begin at -1
    np.add.at(changes, begins + 1, sizes)
    np.add.at(changes, spans[:, 1] + 2, -sizes)
    return int(changes.cumsum().max())


def _seen_from_outside(module: TileProgram) -> set[str]:
    tensors = {t.name: t.buffer for t in module.tensors}
    names = {tensors[name] or "" for port in (*module.inputs, *module.outputs) for name in port.tensors}
    for op in module.operations:
        if isinstance(op, HostCall):
            names |= {*op.reads, *op.writes}
    return names
