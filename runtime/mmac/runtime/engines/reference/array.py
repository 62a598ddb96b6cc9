"""The mMAC array: one term of a data value times one term of a weight at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from mmac.isa import streams, table
from mmac.isa.plan import GROUP_SIZE, MAX_BETA
from mmac.isa.structure import Op
from mmac.isa.term_table import TermTable
from mmac.isa.terms import signed_digits
from mmac.runtime.engines.reference.arithmetic import Int, conv_of, integers, quant_of, taps
from mmac.runtime.engines.reference.machine import Machine, executes
from mmac.runtime.memory import Array

MAX_MAGNITUDE = 255
"""Largest magnitude of activation - zero point."""

CHUNK = 1 << 18
"""Term pairs multiplied at once, so that the temporaries stay in the cache."""


@dataclass(frozen=True)
class Terms:
    """Signed powers of two ``sign · 2^exponent``; sign 0 = no term."""

    sign: npt.NDArray[np.int8]
    exponent: npt.NDArray[np.int8]


@cache
def data_terms() -> Terms:
    """Terms of every data value: [rank, value + 255], largest term first."""
    positive, negative = signed_digits(np.arange(-MAX_MAGNITUDE, MAX_MAGNITUDE + 1))
    rest = positive | negative
    signs, exponents = [], []
    for _ in range(MAX_BETA):
        exponent = np.maximum(np.frexp(rest)[1] - 1, 0)
        term = rest & (1 << exponent)
        signs.append(np.sign(positive & term) - np.sign(negative & term).astype(np.int8))
        exponents.append(exponent)
        rest = rest & ~term
    return Terms(np.array(signs, np.int8), np.array(exponents, np.int8))


@executes(table.Mmac)
def mmac(machine: Machine, op: Op) -> None:
    """Sums of term products into accumulators."""
    instr, view = _mmac(op), op.views["y"]
    part = machine.inside(view)
    budgets = machine.budgets(instr.layer)
    data = _data(machine, op, part)
    weights, rows = _weights(machine, op, [level.alpha for level in budgets], part[3])
    sums = multiply(data, budgets[-1].beta, weights, rows)
    acc = machine.pad(op.rings["acc"], view.box, "<i4")[part]
    if machine.index(instr.first) == 0:
        acc[...] = 0
    acc += sums.T.reshape(acc.shape)


def _data(machine: Machine, op: Op, part: tuple[slice, ...]) -> npt.NDArray[np.int16]:
    """Data values that the pixels of the box see: [convolution group, group, index] flattened × [pixel]."""
    conv, quant = conv_of(op), quant_of(op)
    n, h, w, _ = part
    raw = machine.pad(op.rings["act"], op.views["x"].box)[n]
    seen = taps((integers(raw, quant.a_signed) - quant.a_zero).astype(np.int16), conv, h, w)
    # a box of y narrower than a convolution group is part of one
    groups = max(1, op.views["y"].box[3] // conv.oc)
    depth = conv.kernel_h * conv.kernel_w * conv.ic
    flat = seen[..., : groups * conv.ic].reshape(conv.kernel_h * conv.kernel_w, -1, groups, conv.ic)
    data = np.zeros((groups, _groups(conv) * GROUP_SIZE, flat.shape[1]), np.int16)
    data[:, :depth] = flat.transpose(2, 0, 3, 1).reshape(groups, depth, -1)
    return data.reshape(-1, flat.shape[1])


def _weights(machine: Machine, op: Op, alphas: list[int], channels: slice) -> tuple[Terms, Int]:
    """Terms of the weight tile at `wgt`: [rank, group, channel], and the row of `_data` that each multiplies."""
    conv = conv_of(op)
    groups, count = _groups(conv), op.views["y"].box[3]
    terms = decode(machine, op, (groups, count), alphas)

    def ranked(field: Array) -> Array:
        return np.moveaxis(field.reshape(groups, count, -1)[:, channels], -1, 0)

    sign = np.where(terms.valid(), 1 - 2 * terms.sign.astype(np.int8), 0)
    first = np.arange(groups)[:, None] + np.arange(count)[channels] // conv.oc * groups
    rows = first * GROUP_SIZE + ranked(terms.index)
    return Terms(ranked(sign).astype(np.int8), ranked(terms.exponent).astype(np.int8)), rows


def decode(machine: Machine, op: Op, shape: tuple[int, int], alphas: list[int]) -> TermTable:
    """The weight tile at `wgt`, which says itself how long it is, of (groups, channels)."""
    ring, kind = op.rings["wgt"], table.TermFormat(_mmac(op).format)
    groups = shape[0] * shape[1]
    if kind == table.TermFormat.RAW:
        size = groups * GROUP_SIZE
    else:
        head = machine.pad(ring, (groups,))
        if kind == table.TermFormat.CODED:
            tile = machine.pad(ring, (groups * (1 + int(head.max())),))
            return TermTable.from_scratchpad(tile, shape)
        size = groups + int(np.minimum(head, alphas[-1]).sum(dtype=np.int64))
    return streams.decode(kind, machine.pad(ring, (size,)), shape, alphas, where=f"instruction {op.pc}").table


def multiply(data: npt.NDArray[np.int16], beta: int, weights: Terms, rows: Int) -> Int:
    """Sum of all term products.

    Args:
        data: data values [row, pixel].
        beta: data terms to use.
        weights: weight terms [rank, group, channel].
        rows: [rank, group, channel], row of `data` that a weight term multiplies.

    Returns:
        int32 [channel, pixel].
    """
    _, groups, channels = rows.shape
    pixels = data.shape[1]
    sums = np.zeros((channels, pixels), np.int32)
    step = max(1, CHUNK // (groups * channels))
    terms = data_terms()
    for begin in range(0, pixels, step):
        chunk = slice(begin, begin + step)
        codes = data[:, chunk] + MAX_MAGNITUDE
        for data_sign, data_exponent in zip(terms.sign[:beta, codes], terms.exponent[:beta, codes], strict=True):
            for row, sign, exponent in zip(rows, weights.sign, weights.exponent, strict=True):
                product_sign = data_sign[row] * sign[..., None]
                product_exponent = data_exponent[row] + exponent[..., None]
                products = np.left_shift(product_sign, product_exponent, dtype=np.int32)
                sums[:, chunk] += products.sum(axis=0, dtype=np.int32)
    return sums


def _mmac(op: Op) -> table.Mmac:
    if not isinstance(op.instr, table.Mmac):
        raise TypeError(f"instruction {op.pc} is {op.instr.mnemonic}, not mmac")
    return op.instr


def _groups(conv: table.Conv) -> int:
    """Groups of one output's reduction axis."""
    return -(-conv.kernel_h * conv.kernel_w * conv.ic // GROUP_SIZE)
