"""Which activations stay in the global buffer instead of going through DRAM (part of pass `tile`)."""

from __future__ import annotations

from dataclasses import replace

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
    chosen: list[Buffer] = []
    free = [b for b in module.buffers if not b.constant and b.name not in outside and b.name in spans]
    for buffer in sorted(free, key=lambda b: (spans[b.name][1] - spans[b.name][0], -b.size_bytes, b.name)):
        bases = plan.place([*chosen, buffer], 0)
        if all(bases[b.name] + b.size_bytes <= capacity_bytes for b in (*chosen, buffer)):
            chosen.append(buffer)
    names = {b.name for b in chosen}
    return replace(module, buffers=tuple(replace(b, on_chip=b.name in names) for b in module.buffers))


def _seen_from_outside(module: TileProgram) -> set[str]:
    tensors = {t.name: t.buffer for t in module.tensors}
    names = {tensors[name] or "" for port in (*module.inputs, *module.outputs) for name in port.tensors}
    for op in module.operations:
        if isinstance(op, HostCall):
            names |= {*op.reads, *op.writes}
    return names
