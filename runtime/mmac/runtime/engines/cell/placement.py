"""What every row and column of every block has in each pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.runtime.engines.cell.layout import NONE, Layout

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Placement:
    """Addresses that the sequencer goes through; `NONE` where there is nothing.

    Attributes:
        source: [pass, block, row] data group that enters the row, counted (convolution group of the box, group).
        group: [pass, block, row] weight group that the row holds.
        channel: [pass, block, column] channel of the box whose sums the column forms.
        joined: [row, column] whether row and column belong to the same convolution group; other cells are empty.
        pixel: [pass, block, beat] output pixel.
        output: [pass, block] number of the pixels and channels of the block's part; blocks with equal ones add up.
    """

    source: Ints
    group: Ints
    channel: Ints
    joined: Bools
    pixel: Ints
    output: Ints


@dataclass(frozen=True)
class _Share:
    """What a block does in a pass: number of its part along each axis, [pass, block, 1]; step of it, [pass, 1, 1]."""

    layout: Layout
    output: Ints
    pixels: Ints
    conv_groups: Ints
    channels: Ints
    groups: Ints
    idle: Bools
    conv_step: Ints
    group_step: Ints
    channel_step: Ints

    def conv_group(self, slot: Ints) -> tuple[Ints, Bools]:
        """Convolution groups, counted from the first inside the view, of slots of the diagonal; and which there are."""
        layout = self.layout
        local = self.conv_step * layout.slots + slot
        conv_group = self.conv_groups * layout.conv_groups + local
        inside = (local < layout.conv_groups) & (conv_group < layout.work.conv_groups)
        return conv_group, inside & (slot < layout.slots) & ~self.idle


def place(layout: Layout) -> Placement:
    """Tables for a layout."""
    share = _share(layout)
    height, width = layout.slot
    row_slot, row = np.divmod(np.arange(layout.array.rows), height)
    column_slot, column = np.divmod(np.arange(layout.array.columns), width)
    group, source = _rows(share, row_slot, row)
    pixel = share.pixels * layout.beats + np.arange(layout.beats)
    return Placement(
        source,
        group,
        channel=_columns(share, column_slot, column),
        joined=row_slot[:, None] == column_slot,
        pixel=np.where(pixel < layout.work.pixels, pixel, NONE),
        output=np.where(share.idle, NONE, share.output)[..., 0],
    )


def _share(layout: Layout) -> _Share:
    """Outputs are numbered with the channels fastest, then pixels; their parts of the groups lie next to each other."""
    block, (_, split_n, split_k) = np.arange(layout.array.blocks)[:, None], layout.work.splits
    passes = np.unravel_index(np.arange(layout.passes), (layout.rounds, *layout.steps))
    turn, conv_step, group_step, channel_step = (axis[:, None, None] for axis in passes)
    place, part = np.divmod(block, split_k)
    output = turn // layout.tree_rounds * layout.outputs + place
    groups = turn % layout.tree_rounds * layout.array.blocks + part
    pixels, over_n = np.divmod(output, split_n)
    conv_groups, channels = np.divmod(over_n, layout.channel_split)
    idle = (place >= layout.outputs) | (groups >= split_k) | (conv_groups >= layout.conv_split)
    idle |= pixels * layout.beats >= layout.work.pixels
    return _Share(
        layout, output, pixels, conv_groups, channels, groups, idle, conv_step, group_step, channel_step
    )  # fmt: skip


def _rows(share: _Share, slot: Ints, row: Ints) -> tuple[Ints, Ints]:
    """`Placement.group` and `Placement.source`, given the slot and the place in it of each row."""
    layout, work = share.layout, share.layout.work
    conv_group, there = share.conv_group(slot)
    local = share.group_step * layout.slot[0] + row
    group = share.groups * layout.groups + local
    there = there & (local < layout.groups) & (group < work.groups)
    source = (work.first + conv_group) * work.groups + group
    return np.where(there, group, NONE), np.where(there, source, NONE)


def _columns(share: _Share, slot: Ints, column: Ints) -> Ints:
    """`Placement.channel`, given the slot and the place in it of each column."""
    layout = share.layout
    conv_group, there = share.conv_group(slot)
    start, stop = layout.work.channels_of(conv_group)
    local = share.channel_step * layout.slot[1] + column
    channel = start + share.channels * layout.channels + local
    return np.where(there & (local < layout.channels) & (channel < stop), channel, NONE)
