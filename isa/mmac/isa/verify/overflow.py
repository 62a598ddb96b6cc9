"""Proof that no accumulator leaves int32, whatever the data, and that channel constants are ordinary numbers.

Every output channel is checked by itself: some quantizers give channels without weights biases near the limit, next to
channels with large weights and small biases. What one position of the box of y adds up follows from the walks: one loop
moves the box of y, the weight tiles and the constants along the channels. Where the walks leave that open, the largest
value takes the place of each.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa import table, terms
from mmac.isa.program import PARAM_DTYPE
from mmac.isa.spec import NONE_LOOP, bits_float
from mmac.isa.structure import Op, Step
from mmac.isa.table import Dim
from mmac.isa.verify.addresses import Accesses
from mmac.isa.verify.binding import same_iteration
from mmac.isa.verify.context import Context, Site
from mmac.isa.verify.operands import MAX_SCALE
from mmac.isa.verify.races import Handovers
from mmac.isa.verify.tiles import Ints, Magnitudes

MAX_INT32 = 2**31 - 1

MAX_BIASES = 1 << 20
"""Positions of a load of constants, times channels, up to which channels are told apart."""

Bounds = npt.NDArray[np.float64]
"""[positions of a box along c, channels of the box], the positions 1 if none is told from another. In binary64: exact
where the limit is, and nothing wraps."""


@dataclass(frozen=True)
class Constants:
    """Channel constants that a `load` may bring: the largest magnitudes of bias and scale."""

    bias: int
    scale: float


def check_overflow(
    context: Context, accesses: Accesses, handovers: Handovers, weights: Mapping[int, Magnitudes]
) -> None:
    """Check all sums; needs `check_binding`.

    Args:
        context: the program.
        accesses: DRAM bytes of its loads.
        handovers: which tiles, sums and constants come together.
        weights: Σ|w| of each channel of each tile, by `mmac`, as from `check_tiles`.

    Raises:
        VerificationError: a sum that could overflow for some data; constants that are not in the image or not finite.
    """
    sites = {site.pc: site for site in context.sites}
    sums = {mmac: _Sums(context, sites[mmac], sites[load], weights[mmac]) for mmac, load in sorted(handovers.tiles)}
    for mmac in sums:
        sums[mmac].check(mmac, np.zeros((1, 1)))
    constants = {load: _constants(context, accesses, sites[load].op) for _, load in sorted(handovers.params)}
    for store, load in sorted(handovers.params):
        if not constants[load].scale <= MAX_SCALE:
            raise context.error(load, f"a scale of magnitude {constants[load].scale}", f"up to {MAX_SCALE:.3g}")
        biases = _biases(context, accesses, sites[store], sites[load])
        if biases is None:
            biases = np.array([[constants[load].bias]], np.float64)
        for other, mmac in sorted(handovers.sums):
            if other == store:
                sums[mmac].check(store, biases)
    for site in context.sites:
        if isinstance(site.op.instr, table.Vavg) and site.op.conv is not None:
            _check(context, site.pc, site.op.conv.kernel_h * site.op.conv.kernel_w * terms.MAX_DATA)


def _check(context: Context, pc: int, bounds: npt.ArrayLike) -> None:
    bound = np.max(bounds)
    if bound > MAX_INT32:
        raise context.error(pc, f"sums could reach a magnitude of {bound:.0f}", f"{MAX_INT32} (int32)",
                            "smaller weights or biases, or a shorter reduction axis")  # fmt: skip


@dataclass(frozen=True)
class _Sums:
    """The accumulators of an `mmac`: all tiles that its innermost loop adds up, times the largest data."""

    context: Context
    mmac: Site
    load: Site
    weights: Magnitudes

    def check(self, pc: int, biases: Bounds) -> None:
        """Check sums together with biases for instruction `pc`; exactly only if a bound does not do."""
        if np.max(self._bound + biases) > MAX_INT32:
            _check(self.context, pc, self._exact + biases)

    @cached_property
    def _bound(self) -> Bounds:
        return self._of(self.weights.bound)

    @cached_property
    def _exact(self) -> Bounds:
        return self._of(self.weights.exact())

    def _of(self, weights: Ints) -> Bounds:
        instr = self.mmac.op.instr
        if not isinstance(instr, table.Mmac):
            raise TypeError(f"instruction {self.mmac.pc} does not multiply")
        walk, total = self.load.op.views["t"].walk, weights.astype(np.float64)
        if instr.first != NONE_LOOP:
            tiles = self.mmac.counts[instr.first]
            moved = [axis for axis, step in enumerate(walk) if step.loop == instr.first and weights.shape[axis] > 1]
            total = total.sum(axis=moved[0], keepdims=True) if moved else total * tiles
        channels = self.mmac.op.views["y"].walk[Dim.C]
        return _along(total, walk, channels) * _largest_data(self.context, self.mmac.op, instr.layer)


def _along(values: npt.NDArray[Any], walk: Sequence[Step], channels: Step) -> Bounds:
    """[n, h, w, c, channels] values by positions of a walk: by those of the loop that `channels` move with."""
    others = tuple(axis for axis, step in enumerate(walk) if step.loop != channels.loop)
    bounds: Bounds = values.max(axis=others).reshape(-1, values.shape[-1])
    return bounds


def _largest_data(context: Context, op: Op, layer: int) -> int:
    """Largest magnitude of a data value of a layer at any level."""
    if op.quant is None:
        raise TypeError(f"instruction {op.pc} has no quantization")
    betas = {level.beta for level in context.program.plan.layers[layer].levels}
    return max(_largest_kept(op.quant.a_zero, bool(op.quant.a_signed), beta) for beta in betas)


@functools.cache
def _largest_kept(zero_point: int, signed: bool, beta: int) -> int:
    return int(np.abs(terms.data_table(zero_point, signed, beta)).max())


def _biases(context: Context, accesses: Accesses, store: Site, load: Site) -> Bounds | None:
    """|bias| of each channel of the box that is stored; None if it is not clear which constants belong to it."""
    view, reach, channels = load.op.views["t"], accesses.dram.get(load.pc), store.op.views["t"].walk[Dim.C]
    counts = [context.iterations(step, load.counts) if step.step else 1 for step in view.walk]
    tied = same_iteration(load, load.op.rings["p"], store, store.op.rings["prm"]) and view.box[:3] == (1, 1, 1)
    if reach is None or not tied or math.prod(counts) * channels.extent > MAX_BIASES:
        return None
    addresses, inside = np.array(view.base, np.int64), np.array(True)
    for axis, (step, count, span) in enumerate(zip(view.walk, counts, reach.spans, strict=True)):
        index = step.origin + step.step * np.arange(count, dtype=np.int64)
        if axis == Dim.C:
            index = np.add.outer(index, np.arange(channels.extent))
        addresses = np.add.outer(addresses, np.clip(index, span.low, span.high - 1) * view.strides[axis])
        inside = np.logical_and.outer(inside, (index >= 0) & (index < view.shape[axis]))
    records = context.program.image[addresses[..., None] + np.arange(PARAM_DTYPE.itemsize)].view(PARAM_DTYPE)[..., 0]
    outside = np.full(PARAM_DTYPE.itemsize, view.fill, np.uint8).view(PARAM_DTYPE)
    bias = np.abs(np.where(inside, records["bias"], outside["bias"]).astype(np.float64))
    return _along(bias, view.walk, channels)


def _constants(context: Context, accesses: Accesses, op: Op) -> Constants:
    """Extremes of the (bias, scale) records that a load reaches; outside its view they consist of the fill byte."""
    reach, image = accesses.dram.get(op.pc), context.program.image
    records = [np.full((1, PARAM_DTYPE.itemsize), op.views["t"].fill, np.uint8)]
    if reach is not None:
        if reach.high > image.size:
            found = f"channel constants at DRAM bytes {reach.low:#x} … {reach.high - 1:#x}"
            raise context.error(op.pc, found, f"constants of the image, 0x0 … {image.size - 1:#x}")
        context.spend(reach.work, op.pc)
        records += [np.ascontiguousarray(part) for part in reach.elements(image)]
    pairs = np.concatenate([part.reshape(-1).view(PARAM_DTYPE) for part in records])
    # bits of a binary32 without its sign rise with its magnitude, infinities and NaNs last
    scale = int((pairs["scale"].view(np.uint32) & 0x7FFFFFFF).max())
    return Constants(int(np.abs(pairs["bias"].astype(np.int64)).max()), float(bits_float(scale)))
