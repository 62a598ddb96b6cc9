from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.runtime.targets import Target, load_target
from mmac.runtime.timing import formulas
from mmac.runtime.timing.formulas import ArrayWork

TARGET = load_target("vc707")
SMALL = dataclasses.replace(TARGET, array=dataclasses.replace(TARGET.array, blocks=6, rows=3, columns=4))

sizes = st.integers(1, 40)
splits = st.integers(1, 9)


@given(sizes, sizes, sizes, sizes, splits, splits, splits, st.integers(1, 60), st.integers(1, 20))
def test_no_array_works_faster_than_its_cells(
    m: int, n: int, g: int, groups: int, sm: int, sn: int, sk: int, gamma: int, words: int
) -> None:
    work = ArrayWork(m, n, g, groups, sm, sn, sk)
    assert work.cell_groups * gamma <= SMALL.cell_count * formulas.mmac_cycles(SMALL, work, gamma, words)


def passes_of_one_block(target: Target, n: int, g: int) -> int:
    """Cut the weights of a block into pieces of the block's size."""
    return len(range(0, g, target.array.rows)) * len(range(0, n, target.array.columns))


@given(sizes, sizes, splits, splits)
def test_dense_passes(n: int, g: int, split_n: int, split_k: int) -> None:
    share_n, share_g = len(range(0, n, split_n)), len(range(0, g, split_k))
    rounds = len(range(0, split_n * split_k, SMALL.array.blocks))
    expected = rounds * passes_of_one_block(SMALL, share_n, share_g)
    assert formulas.weight_passes(SMALL, ArrayWork(1, n, g, 1, 1, split_n, split_k)) == expected


@pytest.mark.parametrize(
    ("n", "g", "groups", "split_n", "expected"),
    [
        (1, 1, 64, 1, 8),  # depthwise: eight channels on the diagonal of an 8 × 8 block
        (1, 1, 64, 4, 2),
        (1, 2, 64, 1, 16),  # two groups per channel: rows for four
        (2, 1, 64, 1, 16),  # two outputs per convolution group: columns for four
        (8, 9, 4, 1, 8),  # nothing fits twice: 4 convolution groups × 2 passes along the reduction axis
        (16, 1, 4, 8, 1),  # eight blocks: one per convolution group, then two halves of its channels
    ],
)
def test_grouped_passes(n: int, g: int, groups: int, split_n: int, expected: int) -> None:
    assert formulas.weight_passes(TARGET, ArrayWork(1, n, g, groups, split_n=split_n)) == expected


@given(st.integers(8, 500))
def test_one_pass_takes_what_scale_sim_says(m: int) -> None:
    """SCALE-Sim 3, weight stationary: passes × (2R + C + M - 2) - 1 cycles, which counts from 0."""
    single = dataclasses.replace(TARGET, array=dataclasses.replace(TARGET.array, pipeline_cycles=0))
    rows, columns = single.array.rows, single.array.columns
    cycles = formulas.mmac_cycles(single, ArrayWork(m, columns, rows), gamma=1, words=1)
    assert cycles - 1 == (2 * rows + columns + m - 2) - 1


def test_cycles_of_one_example() -> None:
    # 100 pixels over 4 blocks: 25 beats of 48 cycles; 24 channels and 10 groups: 3 × 2 passes
    work = ArrayWork(m=100, n=24, g=10, split_m=4)
    assert formulas.mmac_cycles(TARGET, work, 48, 16) == 8 + 8 * 16 + 14 * 48 + 6 * 25 * 48
    # one pixel: shifting the weights in is slower than the beat
    assert formulas.mmac_cycles(TARGET, ArrayWork(1, 24, 10), 48, 16) == 8 + 8 * 16 + 14 * 48 + 6 * 8 * 16
    # the adder tree of five blocks has three stages
    assert formulas.mmac_cycles(TARGET, ArrayWork(1, 8, 40, split_k=5), 16, 2) == 8 + 8 * 2 + 14 * 16 + 16 + 3
    assert formulas.mmac_cycles(TARGET, ArrayWork(0, 24, 10), 48, 16) == 1


def test_levels_broadcast() -> None:
    gamma, words = np.array([16, 60]), np.array([8, 20])
    work = ArrayWork(m=np.array([[10], [100]]), n=16, g=9)
    cycles = formulas.mmac_cycles(TARGET, work, gamma, words)
    assert cycles.shape == (2, 2)
    assert cycles[1, 1] == formulas.mmac_cycles(TARGET, ArrayWork(100, 16, 9), 60, 20)


def test_group_costs_of_the_cells() -> None:
    alpha, beta = np.array([8, 20]), np.array([2, 3])
    cells = TARGET.cells
    assert formulas.group_cycles(cells["mmac"], alpha, beta).tolist() == [16, 60]
    assert formulas.group_cycles(cells["bmac"], alpha, beta).tolist() == [128, 128]
    assert formulas.group_cycles(cells["bmac_serial"], alpha, beta).tolist() == [512, 512]
    assert formulas.group_cycles(cells["pmac"], alpha, beta).tolist() == [16, 16]
    assert formulas.group_words(cells["mmac"], alpha).tolist() == [8, 20]
    assert formulas.group_words(cells["pmac"], alpha).tolist() == [16, 16]


@pytest.mark.parametrize(
    ("run", "runs", "bus", "read", "write"),
    [(64, 1, 64, 34 + 2, 34 + 4), (65, 1, 128, 34 + 4, 34 + 8), (1, 10, 640, 34 + 20, 34 + 40), (0, 5, 0, 1, 1)],
)
def test_dma(run: int, runs: int, bus: int, read: int, write: int) -> None:
    moved = formulas.transfer_bytes(TARGET, run, runs)
    assert moved == bus
    assert formulas.dma_cycles(TARGET, moved) == read
    assert formulas.dma_cycles(TARGET, moved, write=True) == write


def test_lanes() -> None:
    assert formulas.requant_cycles(TARGET, 129) == 12 + 2
    assert formulas.vector_cycles(TARGET, 128 * 9) == 12 + 9
    assert formulas.vector_cycles(TARGET, 0) == 12 + 1
