"""The mapping search stays inside the scratchpads, finds the best of what it looks at, and explains itself."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.compiler.tile import mapping
from mmac.compiler.tile.ir import Window
from mmac.compiler.tile.rings import Rings
from mmac.isa.errors import ResourceError
from mmac.isa.plan import PAPER_LEVELS
from mmac.isa.table import TermFormat
from mmac.runtime.targets import Multipliers, load_target
from tests.compiler import nets

BUDGETS = tuple((level.alpha, level.beta) for level in PAPER_LEVELS)
ALL = tuple(range(8))


@st.composite
def shapes(draw):
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    ic, oc = draw(st.integers(1, 40)), draw(st.integers(1, 20))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    window = Window(kernel, (draw(st.integers(1, 2)), draw(st.integers(1, 2))))
    h, w = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    n = draw(st.integers(1, 2))
    x = (n, window.rows(h), window.columns(w), ic * groups)
    return mapping.LayerShape(x, (n, h, w, oc * groups), window, groups, BUDGETS, ALL, draw(st.integers(1, 20)))


@given(shapes(), st.sampled_from(["vc707", "tiny"]))
def test_chosen_tiles_fit_twice(shape, name):
    target = load_target("vc707") if name == "vc707" else nets.tiny_target(4)
    try:
        m = mapping.search(shape, target, "layer")
    except ResourceError:
        assert name == "tiny"
        return
    slots = Rings(target.scratchpads)
    pixels = m.batch * shape.window.rows(m.rows) * shape.window.columns(m.columns)
    channels = m.reduction if shape.groups == 1 else m.channels // shape.oc * shape.ic
    groups = -(-(m.reduction * shape.window.kernel[0] * shape.window.kernel[1]) // 16)
    assert pixels * channels <= slots.slot_bytes("act")
    assert m.batch * m.rows * m.columns * m.channels * 4 <= slots.slot_bytes("acc")
    assert groups * m.channels * (1 + shape.group_terms) <= slots.slot_bytes("wgt")
    assert m.channels * 8 <= slots.slot_bytes("prm")
    assert m.split_m * m.split_n * m.split_k <= target.array.blocks
    assert m.channels % (shape.oc if shape.groups > 1 else 1) == 0
    assert m.reduction == shape.ic or (shape.pointwise and m.reduction % 16 == 0)
    assert m.weights_outer or shape.groups == 1


def test_search_is_deterministic_and_says_why():
    shape = mapping.LayerShape((1, 56, 56, 64), (1, 56, 56, 64), Window((1, 1)), 1, BUDGETS, ALL, 20)
    first, second = (mapping.search(shape, load_target("vc707"), "layer") for _ in range(2))
    assert first == second
    assert "best of" in first.why
    assert f"{first.split_m}x{first.split_n}x{first.split_k} blocks" in first.why


def test_no_other_candidate_is_cheaper():
    target = load_target("vc707")
    shape = mapping.LayerShape((1, 28, 28, 32), (1, 28, 28, 48), Window((1, 1)), 1, BUDGETS, ALL, 20)
    chosen = mapping.search(shape, target, "layer")
    tiles, splits = mapping._tiles(shape, target, "layer"), mapping._splits(shape, target.array)
    cost = np.minimum(*mapping._cost(shape, target, tiles, splits, mapping._compared(shape)))
    slower = cost / cost.min(axis=(1, 2, 3), keepdims=True) - 1
    total = (slower + 20 * slower**2).sum(axis=0)
    at = np.argwhere(
        (tiles == (chosen.batch, chosen.rows, chosen.columns, chosen.channels, chosen.reduction)).all(axis=1)
    )
    split = np.argwhere((splits == (chosen.split_m, chosen.split_n, chosen.split_k)).all(axis=1))
    assert total[0 if chosen.weights_outer else 1, at[0, 0], split[0, 0]] == total.min()


def test_depthwise_layers_and_layers_with_all_their_terms_run_on_the_multipliers():
    target = load_target("vc707")
    depthwise = mapping.LayerShape((1, 30, 30, 256), (1, 28, 28, 256), Window((3, 3)), 256, BUDGETS, ALL, 20)
    full = mapping.LayerShape((1, 58, 58, 3), (1, 56, 56, 64), Window((3, 3)), 1, ((64, 5),) * 8, ALL, 50)
    dense = mapping.LayerShape((1, 30, 30, 256), (1, 28, 28, 256), Window((3, 3)), 1, BUDGETS, ALL, 20)
    levels = [mapping.search(shape, target, "layer").multipliers for shape in (depthwise, full, dense)]
    assert levels == [ALL, ALL, ()]
    without = replace(target, multipliers=None)
    assert mapping.search(depthwise, without, "layer").multipliers == ()


def test_levels_whose_groups_keep_different_terms_are_compared_each():
    shape = mapping.LayerShape((1, 8, 8, 16), (1, 8, 8, 2), Window((1, 1)), 1, ((20, 3),) * 3, (0, 1, 2), 20)
    assert mapping._compared(shape) == {0: 3}
    assert mapping._compared(replace(shape, profile=((4, 20), (20, 20), (20, 20)))) == {0: 1, 1: 2}


def words(m, shape, unit):
    """Words that the busiest unit needs for a tile and for the last one of the channels, output by output."""
    depth = m.reduction * shape.window.kernel[0] * shape.window.kernel[1]
    most = 0
    for channels in {m.channels, (shape.y[3] - 1) % m.channels + 1}:
        outputs = range(m.batch * m.rows * m.columns * channels)
        most = max(most, *(len({o % channels for o in outputs[u :: unit.units]}) for u in range(unit.units)))
    return most * -(-depth // unit.taps)


@given(shapes(), st.sampled_from([(1, 1), (4, 3), (6, 9)]), st.integers(1, 12))
def test_what_the_multipliers_get_fits_their_stores(shape, size, depth):
    unit = Multipliers(*size, depth)
    target = replace(load_target("vc707"), multipliers=unit)
    shape = replace(shape, budgets=((64, 5),), usual=(0,), group_terms=60, format=TermFormat.RAW)
    m = mapping.search(shape, target, "layer")
    assert not m.multipliers or words(m, shape, unit) <= depth


def test_a_deep_reduction_is_cut_for_the_multipliers():
    """1280 values are 143 words of 9: on the array with whole weights, or in cuts on the multipliers."""
    shape = mapping.LayerShape(
        (1, 7, 7, 1280), (1, 7, 7, 64), Window((1, 1)), 1, ((64, 5),) * 8, ALL, 50, format=TermFormat.RAW
    )
    target = load_target("vc707")
    large = replace(target, multipliers=replace(target.multipliers, words=143))
    assert mapping.search(shape, large, "layer").reduction == 1280
    cut = mapping.search(shape, target, "layer")
    assert cut.multipliers == ALL
    assert cut.reduction < 1280
    assert words(cut, shape, target.multipliers) <= target.multipliers.words


def test_rankers_are_part_of_the_cost():
    shape = mapping.LayerShape((1, 7, 7, 256), (1, 7, 7, 256), Window((1, 1)), 1, ((64, 5),) * 8, ALL, 50)
    target = replace(load_target("vc707"), multipliers=None)
    raw = mapping.search(replace(shape, format=TermFormat.RAW), target, "layer")
    assert raw.format == TermFormat.CODED  # more bytes, but none to rank
    more = replace(target, array=replace(target.array, rankers=1 << 16))
    at_once = mapping.search(replace(shape, format=TermFormat.RAW), more, "layer")
    assert at_once.format == TermFormat.RAW
    assert at_once.cycles <= raw.cycles


def test_the_buffer_is_faster_than_dram():
    shape = mapping.LayerShape((1, 56, 56, 32), (1, 56, 56, 32), Window((1, 1)), 1, BUDGETS, ALL, 20)
    target = load_target("vc707")
    there = replace(shape, x_on_chip=True, y_on_chip=True, weights_on_chip=True)
    assert mapping.search(there, target, "layer").cycles < mapping.search(shape, target, "layer").cycles


def test_more_blocks_are_never_slower():
    shape = mapping.LayerShape((1, 28, 28, 64), (1, 28, 28, 64), Window((3, 3)), 1, BUDGETS, ALL, 20)
    target = load_target("vc707")
    cycles = []
    for blocks in (4, 16, 64):
        smaller = replace(target, array=replace(target.array, blocks=blocks))
        cycles.append(mapping.search(shape, smaller, "layer").cycles)
    assert cycles == sorted(cycles, reverse=True)


def test_a_layer_that_cannot_fit_names_itself_and_the_sizes():
    shape = mapping.LayerShape((1, 9, 9, 4096), (1, 1, 1, 8), Window((9, 9)), 1, BUDGETS, ALL, 20)
    with pytest.raises(ResourceError, match=r"layer big: not even its smallest tile fits.*act 262144 bytes"):
        mapping.search(shape, load_target("vc707"), "big")


def test_fewer_channels_than_columns_where_nothing_else_fits():
    shape = mapping.LayerShape((1, 9, 9, 512), (1, 7, 7, 512), Window((3, 3)), 1, BUDGETS, ALL, 20)
    target = load_target("zedboard")
    narrow = replace(target, scratchpads={**target.scratchpads, "wgt": 65536})
    assert mapping.search(shape, narrow, "layer").channels < 16
    assert mapping.search(shape, target, "layer").channels == 16


def test_a_layer_uses_the_faster_unit_at_each_level():
    """20 cycles an output on the multipliers at every level; on the array it depends on the budgets."""
    target = load_target("vc707")
    shape = mapping.LayerShape((1, 28, 28, 32), (1, 26, 26, 32), Window((3, 3)), 1, BUDGETS, ALL, 30)
    both = mapping.search(shape, target, "layer")
    assert 0 < len(both.multipliers) < 8
    assert both.multipliers == ALL[-len(both.multipliers) :]
    assert f"on the multipliers at levels {', '.join(map(str, both.multipliers))}, else " in both.why
    one = replace(shape, usual=(0,))
    assert mapping.search(replace(one, budgets=BUDGETS[:1]), target, "layer").multipliers == ()
