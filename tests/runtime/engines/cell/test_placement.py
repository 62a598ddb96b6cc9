"""Every product has its place, and only one."""

from __future__ import annotations

from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from mmac.runtime.engines.cell.layout import Layout, Work
from mmac.runtime.engines.cell.placement import Placement, place
from tests.runtime.engines.cell.machines import target, works

Cell = tuple[int, int, int, int]
"""Pass, block, row, column."""


def cells(at: Placement) -> dict[Cell, tuple[int, int, int]]:
    """What each cell that is not empty holds: convolution group, weight group, channel."""
    passes, blocks, rows = at.group.shape
    found = {}
    for number in range(passes):
        for block in range(blocks):
            for row in range(rows):
                for column in range(at.channel.shape[2]):
                    group, channel = int(at.group[number, block, row]), int(at.channel[number, block, column])
                    if group >= 0 and channel >= 0 and at.joined[row, column]:
                        source = int(at.source[number, block, row])
                        found[number, block, row, column] = (source, group, channel)
    return found


@given(works(), st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(1, 8)))
@example(Work(1, (0, 1), 1, 80, (1, 1, 2)), (1, 2, 1))  # a part ends inside a pass: no group of the next one
@example(Work(1, (0, 5), 5, 16, (1, 2, 1)), (1, 1, 2))  # likewise for channels
@example(Work(1, (0, 5), 1, 16, (1, 2, 1)), (1, 2, 2))  # and convolution groups
def test_every_product_has_one_place(work: Work, shape: tuple[int, int, int]) -> None:
    layout = Layout(work, target(*shape).array)
    at = place(layout)
    assert at.pixel.shape == (layout.passes, shape[0], layout.beats)
    count: Counter[tuple[int, int, int]] = Counter()
    for (number, block, _, _), (source, group, channel) in cells(at).items():
        assert source == channel // work.per_group * work.groups + group
        count.update((int(pixel), group, channel) for pixel in at.pixel[number, block] if pixel >= 0)
    assert set(count.values()) == {1}
    channels = range(*work.channels)
    assert count.keys() == {(p, g, c) for p in range(work.pixels) for g in range(work.groups) for c in channels}


@given(works(), st.integers(1, 4))
def test_blocks_add_up_exactly_if_they_share_pixels_and_channels(work: Work, blocks: int) -> None:
    at = place(Layout(work, target(blocks, 2, 2).array))
    for number, output in enumerate(at.output.tolist()):
        shares = [(at.pixel[number, b].tolist(), at.channel[number, b].tolist()) for b in range(blocks)]
        for a in range(blocks):
            for b in range(blocks):
                busy = output[a] >= 0 and max(shares[a][0]) >= 0 and max(shares[a][1]) >= 0
                if busy and output[b] >= 0:
                    assert (output[a] == output[b]) == (shares[a] == shares[b])


def test_depthwise_channels_lie_on_the_diagonal() -> None:
    work = Work(pixels=5, channels=(2, 7), per_group=1, depth=25)
    at = place(Layout(work, target(1, 5, 8).array))
    assert cells(at) == {
        (number, 0, 2 * slot + group, slot): (2 * channel + group, group, channel)
        for channel, (number, slot) in zip(range(2, 7), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)], strict=True)
        for group in range(2)
    }


def test_parts_that_add_up_stay_together() -> None:
    """Of three blocks one idles, as the sums of two are formed in pairs."""
    work = Work(pixels=4, channels=(0, 6), per_group=6, depth=32, splits=(2, 2, 2))
    at = place(Layout(work, target(3, 1, 3).array))
    assert at.group[..., 0].tolist() == [[0, 1, -1]] * 4
    assert at.channel[..., 0].tolist() == [[0, 0, -1], [3, 3, -1]] * 2
    assert at.pixel[:, :2, 0].tolist() == [[0, 0], [0, 0], [2, 2], [2, 2]]
    assert at.output.tolist() == [[0, 0, -1], [1, 1, -1], [2, 2, -1], [3, 3, -1]]


def test_more_parts_of_a_sum_than_blocks_take_rounds() -> None:
    work = Work(pixels=1, channels=(0, 2), per_group=2, depth=80, splits=(1, 2, 5))
    at = place(Layout(work, target(3, 1, 1).array))
    assert at.group[..., 0].tolist() == [[0, 1, 2], [3, 4, -1]] * 2
    assert at.output.tolist() == [[0, 0, 0], [0, 0, -1], [1, 1, 1], [1, 1, -1]]


def test_blocks_without_pixels_hold_nothing() -> None:
    work = Work(pixels=2, channels=(0, 1), per_group=1, depth=16, splits=(4, 1, 1))
    at = place(Layout(work, target(4, 1, 1).array))
    assert at.group[0, :, 0].tolist() == [0, 0, -1, -1]
    assert at.pixel[0, :, 0].tolist() == [0, 1, -1, -1]


def test_channels_are_split_over_convolution_groups_first() -> None:
    """Five parts of two groups of five channels: two of each group, the fifth is idle."""
    work = Work(pixels=1, channels=(0, 10), per_group=5, depth=1, splits=(1, 5, 1))
    at = place(Layout(work, target(5, 1, 3).array))
    assert at.channel[0].tolist() == [[0, 1, 2], [3, 4, -1], [5, 6, 7], [8, 9, -1], [-1, -1, -1]]
    assert at.source[0].tolist() == [[0], [0], [1], [1], [-1]]
