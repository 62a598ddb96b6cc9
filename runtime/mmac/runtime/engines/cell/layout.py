"""How an `mmac` is laid out over the blocks: how many parts, rounds, passes and beats (see `docs/hardware.md`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.structure import Op
from mmac.runtime.engines.reference.arithmetic import conv_of
from mmac.runtime.targets import Array

Ints = npt.NDArray[np.int64]

NONE = -1
"""In all tables and registers: nothing there."""


@dataclass(frozen=True)
class Work:
    """What one `mmac` multiplies: the part of its output box that lies inside the view.

    Attributes:
        pixels: output pixels.
        channels: first and last + 1 of the channels of the box.
        per_group: channels of the box in a convolution group.
        depth: values on the reduction axis of one output.
        splits: parts of pixels, channels and weight groups.
        raw: whether the weights are integers that have to be ranked.
    """

    pixels: int
    channels: tuple[int, int]
    per_group: int
    depth: int
    splits: tuple[int, int, int] = (1, 1, 1)
    raw: bool = False

    @property
    def groups(self) -> int:
        """Weight groups of one output."""
        return -(-self.depth // GROUP_SIZE)

    @property
    def first(self) -> int:
        """Convolution group of the box in which the channels start."""
        return self.channels[0] // self.per_group

    @property
    def conv_groups(self) -> int:
        """Convolution groups with channels inside the view."""
        return -(-self.channels[1] // self.per_group) - self.first

    @property
    def width(self) -> int:
        """Most channels inside the view of a convolution group."""
        return min(self.channels[1] - self.channels[0], self.per_group)

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to multiply."""
        return self.pixels == 0 or self.width == 0

    def channels_of(self, conv_group: Ints) -> tuple[Ints, Ints]:
        """First and last + 1 of the channels inside the view of convolution groups (counted from `first`)."""
        begin = (self.first + conv_group) * self.per_group
        return np.maximum(begin, self.channels[0]), np.minimum(begin + self.per_group, self.channels[1])


def work_of(op: Op, indices: Sequence[int], level: int) -> Work:
    """What an `mmac` multiplies in an iteration of the loops around it, at a level."""
    if not isinstance(op.instr, table.Mmac):
        raise TypeError(f"instruction {op.pc} is {op.instr.mnemonic}, not mmac")
    return _work(op, op.instr, op.views["y"].inside(indices, level))


def whole_work(op: Op, instr: table.Mmac) -> Work:
    """What an `mmac` multiplies where all of its box lies inside the view."""
    return _work(op, instr, [(0, extent) for extent in op.views["y"].box])


def _work(op: Op, instr: table.Mmac, inside: Sequence[tuple[int, int]]) -> Work:
    conv, box = conv_of(op), op.views["y"].box[3]
    return Work(
        pixels=math.prod(stop - start for start, stop in inside[:3]),
        channels=inside[3],
        per_group=min(box, conv.oc),  # a box narrower than a convolution group is part of one
        depth=conv.kernel_h * conv.kernel_w * conv.ic,
        splits=(instr.split_m, instr.split_n, instr.split_k),
        raw=instr.format == table.TermFormat.RAW,
    )


@dataclass(frozen=True)
class Layout:
    """How the work is split; parts are the shares of blocks, all as large as the largest.

    Attributes:
        work: what is multiplied; not empty.
        array: the blocks.
    """

    work: Work
    array: Array

    @property
    def outputs(self) -> int:
        """Parts of pixels and channels that are formed in the same round: as many as there are blocks for."""
        return max(1, self.array.blocks // self.work.splits[2])

    @property
    def tree_rounds(self) -> int:
        """Rounds that these take: more than one if there are not enough blocks for one of them."""
        return -(-self.work.splits[2] // self.array.blocks)

    @property
    def rounds(self) -> int:
        """Times that the blocks take a part each."""
        split_m, split_n, _ = self.work.splits
        return -(-split_m * split_n // self.outputs) * self.tree_rounds

    @property
    def conv_split(self) -> int:
        """Parts of the convolution groups."""
        return min(self.work.splits[1], self.work.conv_groups)

    @property
    def channel_split(self) -> int:
        """Parts of the channels of a convolution group."""
        return self.work.splits[1] // self.conv_split

    @property
    def beats(self) -> int:
        """Pixels of a part."""
        return -(-self.work.pixels // self.work.splits[0])

    @property
    def conv_groups(self) -> int:
        """Convolution groups of a part."""
        return -(-self.work.conv_groups // self.conv_split)

    @property
    def channels(self) -> int:
        """Channels of a part in each convolution group."""
        return -(-self.work.width // self.channel_split)

    @property
    def groups(self) -> int:
        """Weight groups of a part."""
        return -(-self.work.groups // self.work.splits[2])

    @property
    def slots(self) -> int:
        """Convolution groups that lie on the diagonal of a block at the same time."""
        return max(1, min(self.array.rows // self.groups, self.array.columns // self.channels))

    @property
    def slot(self) -> tuple[int, int]:
        """Rows and columns of one of them."""
        return min(self.groups, self.array.rows), min(self.channels, self.array.columns)

    @property
    def steps(self) -> tuple[int, int, int]:
        """Passes of a part: over convolution groups, weight groups and channels."""
        height, width = self.slot
        return -(-self.conv_groups // self.slots), -(-self.groups // height), -(-self.channels // width)

    @property
    def passes(self) -> int:
        """Passes of all rounds."""
        return self.rounds * math.prod(self.steps)

    @property
    def pass_groups(self) -> int:
        """Different weight groups of a pass in all blocks; those that split the pixels have the same."""
        _, split_n, split_k = self.work.splits
        return min(self.slots, self.conv_groups) * math.prod(self.slot) * min(self.array.blocks, split_n * split_k)
