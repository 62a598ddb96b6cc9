"""What an `mmac` reads from the scratchpads, in the order in which the units take it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.structure import Op
from mmac.isa.term_table import TermTable
from mmac.isa.terms import truncate_values
from mmac.runtime.engines.cell.layout import Work, work_of
from mmac.runtime.engines.reference.arithmetic import conv_of, integers, quant_of, taps
from mmac.runtime.engines.reference.array import decode
from mmac.runtime.engines.reference.machine import Machine


@dataclass(frozen=True)
class Operands:
    """Truncated operands, in the arithmetic that all units share.

    Attributes:
        data: int16 [convolution group of the box, group, pixel, 16].
        tile: weight terms of the groups (group, channel of the box).
        beta: most terms of a data value.
    """

    data: npt.NDArray[np.int16]
    tile: TermTable
    beta: int

    @property
    def alpha(self) -> int:
        """Most terms of a weight group."""
        return int(self.tile.count.max(initial=0))


def read(machine: Machine, op: Op, instr: table.Mmac) -> Operands:
    """The operands of an `mmac` in the present iteration, at the present level."""
    work = work_of(op, machine.indices, machine.level)
    budgets = machine.budgets(instr.layer)
    beta = budgets[-1].beta
    tile = decode(machine, op, (work.groups, op.views["y"].box[3]), [level.alpha for level in budgets])
    return Operands(truncate_values(_data(machine, op, work), beta), tile, beta)


def blank(work: Work, alpha: int, beta: int) -> Operands:
    """As many operands as there would be, but meaningless: for durations, which do not depend on values."""
    conv_groups = work.first + work.conv_groups
    shape = (work.groups, conv_groups * work.per_group)
    count = np.full(shape[0] * shape[1], alpha, np.uint8)
    tile = TermTable(np.zeros((len(count), alpha), np.uint8), count, shape)
    return Operands(np.zeros((conv_groups, work.groups, work.pixels, GROUP_SIZE), np.int16), tile, beta)


def _data(machine: Machine, op: Op, work: Work) -> npt.NDArray[np.int16]:
    """Data values that the pixels of the box see."""
    conv, quant = conv_of(op), quant_of(op)
    n, h, w, _ = machine.inside(op.views["y"])
    raw = machine.pad(op.rings["act"], op.views["x"].box)[n]
    seen = taps((integers(raw, quant.a_signed) - quant.a_zero).astype(np.int16), conv, h, w)
    # [kernel, n, h, w, channel] → [convolution group, n, h, w, kernel, channel of the group]
    grouped = np.moveaxis(seen.reshape(*seen.shape[:4], -1, conv.ic), (4, 0), (0, 4))
    conv_groups = grouped.shape[0]
    data = np.zeros((conv_groups, work.pixels, work.groups * GROUP_SIZE), np.int16)
    data[..., : work.depth] = grouped.reshape(conv_groups, work.pixels, work.depth)
    return data.reshape(conv_groups, work.pixels, work.groups, GROUP_SIZE).swapaxes(1, 2)
