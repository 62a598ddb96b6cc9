"""Loads, stores, and requantization on the way out."""

from __future__ import annotations

import numpy as np

from mmac.isa import streams, table
from mmac.isa.program import PARAM_DTYPE, directory_dtype
from mmac.isa.structure import Op
from mmac.runtime.engines.reference.arithmetic import quant_of, to_bytes
from mmac.runtime.engines.reference.machine import Machine, dense, executes


@executes(table.SyncLoad, table.SyncWeights, table.SyncCompute, table.SyncStore)
def sync(machine: Machine, op: Op) -> None:
    """Nothing: in program order every wait finds its signal (the verifier has proved it)."""


@executes(table.Load, table.LoadParams)
def load(machine: Machine, op: Op) -> None:
    """DRAM box to scratchpad."""
    view = op.views["t"]
    machine.pad(op.rings["p"], dense(view))[...] = machine.fetch(view)


@executes(table.LoadTerms)
def load_terms(machine: Machine, op: Op) -> None:
    """The prefix of a weight tile that the level needs, found by way of its directory entry."""
    entry = machine.fetch(op.views["t"]).reshape(-1).view(directory_dtype(len(machine.program.plan.levels)))[0]
    offset, size = int(entry["offset"]), int(entry["level"]["bytes"][machine.level])
    tile = machine.memory.dram[offset : offset + size]
    if isinstance(op.instr, table.LoadTerms) and op.instr.format == table.TermFormat.CODED:
        alphas = entry["level"]["alpha"][: machine.level + 1].tolist()
        shape, where = (1, int(entry["groups"])), f"instruction {op.pc}"
        tile = streams.decode(table.TermFormat.CODED, tile, shape, alphas, where=where).table.to_scratchpad()
    machine.pad(op.rings["p"], (len(tile),))[...] = tile


@executes(table.Store)
def store(machine: Machine, op: Op) -> None:
    """Scratchpad to DRAM box."""
    view = op.views["t"]
    machine.window(view)[...] = machine.pad(op.rings["p"], dense(view))[machine.inside(view)]


@executes(table.StoreAcc)
def store_acc(machine: Machine, op: Op) -> None:
    """Accumulators to DRAM box: add the bias, scale, round, clamp."""
    view = op.views["t"]
    inside = machine.inside(view)
    params = machine.pad(op.rings["prm"], (view.box[3],), PARAM_DTYPE)[inside[3]]
    acc = machine.pad(op.rings["acc"], view.box, "<i4")[inside]
    product = (acc + params["bias"]).astype(np.float32) * params["scale"]
    machine.window(view)[...] = to_bytes(quant_of(op), product)
