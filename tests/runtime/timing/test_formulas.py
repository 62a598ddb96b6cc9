from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.runtime.targets import Multipliers, Port, Target, load_target
from mmac.runtime.timing import formulas
from mmac.runtime.timing.formulas import ArrayWork

TARGET = load_target("vc707")
SMALL = dataclasses.replace(TARGET, array=dataclasses.replace(TARGET.array, blocks=6, rows=3, columns=4))

sizes = st.integers(1, 40)
splits = st.integers(1, 9)


@given(sizes, sizes, st.integers(1, 640), sizes, splits, splits, splits, st.integers(1, 60), st.integers(1, 20))
def test_no_array_works_faster_than_its_cells(
    m: int, n: int, depth: int, groups: int, sm: int, sn: int, sk: int, beat: int, words: int
) -> None:
    work = ArrayWork(m, n, depth, groups, sm, sn, sk)
    assert work.cell_groups * beat <= SMALL.cell_count * formulas.mmac_cycles(SMALL, work, beat, words)


@given(sizes, sizes, st.integers(1, 640), sizes)
def test_no_multiplier_forms_two_products_at_once(m: int, n: int, depth: int, groups: int) -> None:
    work = ArrayWork(m, n, depth, groups)
    assert work.products <= 5 * 3 * formulas.multiply_cycles(SMALL, Multipliers(5, 3, 1), work)


def passes(work: ArrayWork) -> int:
    return int(formulas.BlockWork(SMALL.array, work).passes)


def passes_of_one_block(target: Target, n: int, g: int) -> int:
    """Cut the weights of a block into pieces of the block's size."""
    return len(range(0, g, target.array.rows)) * len(range(0, n, target.array.columns))


@given(sizes, sizes, splits, splits)
def test_dense_passes(n: int, g: int, split_n: int, split_k: int) -> None:
    share_n, share_g = len(range(0, n, split_n)), len(range(0, g, split_k))
    blocks = SMALL.array.blocks
    rounds = len(range(0, split_n, blocks // split_k)) if split_k <= blocks else 2 * split_n
    expected = rounds * passes_of_one_block(SMALL, share_n, share_g)
    assert passes(ArrayWork(1, n, 16 * g, 1, 1, split_n, split_k)) == expected


@pytest.mark.parametrize(
    ("n", "g", "groups", "split_n", "expected"),
    [
        (1, 1, 64, 1, 22),  # depthwise: three channels on the diagonal of a block
        (1, 1, 64, 4, 6),
        (1, 2, 64, 1, 64),  # two groups per channel: rows for one
        (2, 1, 64, 1, 32),  # two outputs per convolution group: columns for two
        (4, 4, 4, 1, 8),  # nothing fits twice: 4 convolution groups × 2 passes along the reduction axis
        (8, 1, 4, 6, 2),  # four blocks: one per convolution group, the last two have nothing to share
    ],
)
def test_grouped_passes(n: int, g: int, groups: int, split_n: int, expected: int) -> None:
    assert passes(ArrayWork(1, n, 16 * g, groups, split_n=split_n)) == expected


@given(st.integers(8, 500))
def test_one_pass_takes_what_scale_sim_says(m: int) -> None:
    """SCALE-Sim 3, weight stationary: passes × (2R + C + M - 2) - 1 cycles, which counts from 0."""
    single = dataclasses.replace(SMALL, array=dataclasses.replace(SMALL.array, pipeline_cycles=0))
    rows, columns = single.array.rows, single.array.columns
    cycles = formulas.mmac_cycles(single, ArrayWork(m, columns, 16 * rows), beat=1, words=1)
    assert cycles - 1 == (2 * rows + columns + m - 2) - 1


def test_cycles_of_one_example() -> None:
    # 100 pixels over 4 blocks: 25 beats of 48 cycles; 10 channels and 8 groups of a 3 × 4 block: 3 × 3 passes
    work = ArrayWork(m=100, n=10, depth=128, split_m=4)
    assert formulas.mmac_cycles(SMALL, work, 48, 16) == 8 + 3 * 16 + 5 + 9 * 25 * 48
    # one pixel: shifting the weights in is slower than the beat, but for the last time
    assert formulas.mmac_cycles(SMALL, ArrayWork(1, 10, 128), 20, 16) == 8 + 3 * 16 + 5 + 8 * 3 * 16 + 20
    # the adder tree of five blocks has three stages
    assert formulas.mmac_cycles(SMALL, ArrayWork(1, 4, 240, split_k=5), 16, 2) == 8 + 3 * 2 + 5 + 16 + 3
    assert formulas.mmac_cycles(SMALL, ArrayWork(0, 10, 128), 48, 16) == 1


def test_multipliers() -> None:
    unit = Multipliers(4, 3, 1)
    # 2 × 7 weights, 4 at a time; 10 × 2 outputs on 4 units, 7 products 3 at a time
    assert formulas.multiply_cycles(SMALL, unit, ArrayWork(10, 2, 7)) == 8 + 4 + 5 * 3
    assert formulas.multiply_cycles(SMALL, unit, ArrayWork(10, 1, 9, 6)) == 8 + 14 + 15 * 3
    assert formulas.multiply_cycles(SMALL, unit, ArrayWork(0, 2, 7)) == 1


def test_words_of_a_unit() -> None:
    unit = Multipliers(4, 3, 1)
    # six channels on four units: two and four alternate, so three different ones for each, in three words of 3 of 7
    assert formulas.unit_words(unit, ArrayWork(10, 6, 7)) == 3 * 3
    assert formulas.unit_weights(unit, ArrayWork(10, 6, 7)) == 4 * 3 * 7
    # every fourth output is of the same channel
    assert formulas.unit_words(unit, ArrayWork(10, 4, 7)) == 3
    # seven outputs only: two for three units and one for the last
    assert formulas.unit_words(unit, ArrayWork(1, 7, 9)) == 2 * 3
    assert formulas.unit_weights(unit, ArrayWork(1, 7, 9)) == 7 * 9
    assert formulas.unit_words(unit, ArrayWork(0, 7, 9)) == 0


def test_ranking() -> None:
    array = dataclasses.replace(SMALL.array, rankers=5)  # 6 blocks of 3 × 4
    mmac, pmac = TARGET.cells["mmac"], TARGET.cells["pmac"]
    dense = ArrayWork(m=9, n=10, depth=80, split_m=3)
    assert formulas.rank_cycles(array, mmac, dense) == -(-16 * 3 * 4 // 5)  # blocks of different pixels share them
    assert formulas.rank_cycles(array, pmac, dense) == 0
    split = ArrayWork(m=9, n=10, depth=80, split_n=5, split_k=2)  # 2 channels, 3 groups, in all six blocks
    assert formulas.rank_cycles(array, mmac, split) == -(-16 * 3 * 2 * 6 // 5)
    depthwise = ArrayWork(m=9, n=1, depth=9, conv_groups=2)  # three would fit
    assert formulas.rank_cycles(array, mmac, depthwise) == -(-16 * 2 // 5)
    # four passes: the first waits for its weights, and every other one takes longer to rank than its beat
    small = dataclasses.replace(SMALL, array=array)
    work = ArrayWork(m=1, n=7, depth=80)
    assert formulas.mmac_cycles(small, work, 20, 16, 0, rank=39 * 2) == 8 + 78 + 5 + 3 * 78 + 20


def test_a_beat_is_as_long_as_its_slowest_part() -> None:
    array, cells = SMALL.array, TARGET.cells  # 3 × 4 cells, 4 data terms a cycle
    beats = [formulas.beat_cycles(array, cells["mmac"], alpha, beta) for alpha, beta in ((20, 3), (8, 2), (1, 1))]
    assert beats == [60, 24, 12]
    assert formulas.beat_cycles(array, cells["pmac"], 1, 5) == 16
    assert formulas.beat_cycles(dataclasses.replace(array, columns=30), cells["pmac"], 1, 5) == 30


def test_levels_broadcast() -> None:
    beat, words = np.array([16, 60]), np.array([8, 20])
    work = ArrayWork(m=np.array([[10], [100]]), n=16, depth=144)
    cycles = formulas.mmac_cycles(TARGET, work, beat, words)
    assert cycles.shape == (2, 2)
    assert cycles[1, 1] == formulas.mmac_cycles(TARGET, ArrayWork(100, 16, 144), 60, 20)


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
    ("run", "runs", "moved", "cycles"),
    [(64, 1, 64, 34 + 2), (65, 1, 128, 34 + 4), (1, 10, 640, 34 + 20), (0, 5, 0, 1)],
)
def test_dma(run: int, runs: int, moved: int, cycles: int) -> None:
    port = Port(burst_bytes=64, bytes_per_cycle=32, latency_cycles=34)
    assert formulas.transfer_bytes(port, run, runs) == moved
    assert formulas.dma_cycles(port, moved) == cycles


def test_lanes() -> None:
    assert formulas.requant_cycles(TARGET, 129) == 12 + 2
    assert formulas.vector_cycles(TARGET, 128 * 9) == 12 + 9
    assert formulas.vector_cycles(TARGET, 0) == 12 + 1
