"""Proof that no accumulator leaves int32, whatever the data, and that channel constants are ordinary numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mmac.isa import table
from mmac.isa.program import PARAM_DTYPE
from mmac.isa.spec import NONE_LOOP, bits_float
from mmac.isa.structure import Op
from mmac.isa.terms import MAX_DATA
from mmac.isa.verify.addresses import Accesses
from mmac.isa.verify.context import Context, Site
from mmac.isa.verify.operands import MAX_SCALE
from mmac.isa.verify.races import Handovers

MAX_INT32 = 2**31 - 1


@dataclass(frozen=True)
class Constants:
    """Channel constants that a `load` may bring: the largest magnitudes of bias and scale."""

    bias: int
    scale: float


def check_overflow(context: Context, accesses: Accesses, handovers: Handovers, tiles: Mapping[int, int]) -> None:
    """Check all sums.

    Args:
        context: the program.
        accesses: DRAM bytes of its loads.
        handovers: which sums and constants come together in a `store.acc`.
        tiles: bound of Σ|w| over one weight tile, by `mmac`.

    Raises:
        VerificationError: a sum that could overflow for some data; constants that are not in the image or not finite.
    """
    sites = {site.pc: site for site in context.sites}
    sums = {pc: bound * _additions(sites[pc]) * MAX_DATA for pc, bound in tiles.items()}
    for pc, bound in sums.items():
        _check(context, pc, bound)
    constants = {load: _constants(context, accesses, sites[load].op) for _, load in sorted(handovers.params)}
    for store, load in sorted(handovers.params):
        if not constants[load].scale <= MAX_SCALE:
            raise context.error(load, f"a scale of magnitude {constants[load].scale}", f"up to {MAX_SCALE:.3g}")
        for other, mmac in handovers.sums:
            if other == store:
                _check(context, store, sums[mmac] + constants[load].bias)
    for site in context.sites:
        if isinstance(site.op.instr, table.Vavg) and site.op.conv is not None:
            _check(context, site.pc, site.op.conv.kernel_h * site.op.conv.kernel_w * MAX_DATA)


def _check(context: Context, pc: int, bound: int) -> None:
    if bound > MAX_INT32:
        raise context.error(pc, f"sums could reach a magnitude of {bound}", f"{MAX_INT32} (int32)",
                            "smaller weights or biases, or a shorter reduction axis")  # fmt: skip


def _additions(site: Site) -> int:
    """Weight tiles that are added up in one accumulator."""
    instr = site.op.instr
    if not isinstance(instr, table.Mmac) or instr.first == NONE_LOOP:
        return 1
    return site.counts[instr.first]


def _constants(context: Context, accesses: Accesses, op: Op) -> Constants:
    """Extremes of the (bias, scale) records that a load reaches; outside its view they consist of the fill byte."""
    reach, image = accesses.dram.get(op.pc), context.program.image
    records = [np.full((1, PARAM_DTYPE.itemsize), op.views["t"].fill, np.uint8)]
    if reach is not None:
        if reach.high > image.size:
            raise context.error(op.pc, f"channel constants at DRAM bytes {reach.low:#x} … {reach.high - 1:#x}",
                                f"constants of the image, 0x0 … {image.size - 1:#x}")  # fmt: skip
        context.spend(reach.work, op.pc)
        records += [np.ascontiguousarray(part) for part in reach.elements(image)]
    pairs = np.concatenate([part.reshape(-1).view(PARAM_DTYPE) for part in records])
    # bits of a binary32 without its sign rise with its magnitude, infinities and NaNs last
    scale = int((pairs["scale"].view(np.uint32) & 0x7FFFFFFF).max())
    return Constants(int(np.abs(pairs["bias"].astype(np.int64)).max()), float(bits_float(scale)))
