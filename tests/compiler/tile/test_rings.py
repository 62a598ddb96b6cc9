"""Slots alternate over all loads of a program, whatever the loop counts are; credits given are credits taken."""

from collections import Counter
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.compiler.tile.rings import LARGE, SMALL, Loops, Rings, Token, give_credits, sync, take_credits
from mmac.isa import table
from mmac.isa.structure import Ring

COUNTS = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(st.lists(st.tuples(COUNTS, st.integers(0, 15)), min_size=1, max_size=4))
def test_slots_alternate_from_the_first_load_to_the_last(nests):
    rings = Rings(dict.fromkeys(("act", "aux", "out", "wgt", "prm", "acc"), 4096))
    slots = []
    for counts, chosen in nests:
        loops = Loops(dict(zip("abcd", counts, strict=False)))
        names = [name for i, name in enumerate(loops.counts) if chosen >> i & 1]
        pointer = rings.take("act", loops, names)
        ring = Ring(pointer.pad, pointer.addr, pointer.toggle, pointer.mask, pointer.phase)
        seen = {}
        for index in product(*(range(loops.counts[name]) for name in loops.live)):
            # a pointer filled by some of the loops keeps its slot while the others run
            key = tuple(i for name, i in zip(loops.live, index, strict=True) if name in names)
            assert seen.setdefault(key, ring.slot(index)) == ring.slot(index)
        slots += [seen[key] for key in sorted(seen)]
    assert slots == [i % 2 for i in range(len(slots))]


@pytest.mark.parametrize("ring", ["act", "aux", "out", "wgt", "small_wgt", "prm", "small_prm", "acc", "table"])
def test_slots_lie_apart_inside_their_pad(ring):
    rings = Rings(dict.fromkeys(("act", "aux", "out", "wgt", "prm", "acc"), 4099))
    pointer = rings.take(ring, Loops({"a": 2}), ["a"])
    assert pointer.toggle >= rings.slot_bytes(ring) > 0
    assert pointer.addr + pointer.toggle + rings.slot_bytes(ring) <= 4099


def test_rings_share_a_pad_without_overlap():
    rings = Rings({"prm": 4096, "wgt": 6144})
    for pad, names in (("prm", ("prm", "small_prm", "table")), ("wgt", ("wgt", "small_wgt"))):
        taken = [(rings.take(name, Loops({}), []).addr, 2 * rings.slot_bytes(name)) for name in names]
        assert all(addr + size <= after for (addr, size), (after, _) in pairwise(taken))
        assert sum(taken[-1]) <= rings.scratchpads[pad]


def test_few_weights_go_to_the_small_rings():
    rings = Rings({"prm": 65536, "wgt": 786432})
    assert rings.of_weights(32768, 8192) == SMALL
    assert rings.of_weights(32769, 8192) == rings.of_weights(32768, 8193) == LARGE


def test_all_credits_given_are_taken_back():
    def count(body, field):
        names = [getattr(i, f"{field}{n}") for i in body for n in (0, 1)]
        return Counter(n for n in names if n != 31)

    assert count(give_credits(), "signal") == count(take_credits(), "wait")
    assert not count(give_credits(), "wait")
    assert not count(take_credits(), "signal")


def test_every_queue_takes_the_credits_of_the_rings_that_it_fills():
    taken = {}
    for instr in take_credits():
        taken[type(instr)] = taken.get(type(instr), set()) | set(instr.waits)
    assert taken == {
        table.SyncLoad: {Token.ACT_FREE, Token.AUX_FREE, Token.DRAM_READY},
        table.SyncWeights: {
            Token.WGT_FREE,
            Token.SMALL_WGT_FREE,
            Token.PRM_FREE,
            Token.SMALL_PRM_FREE,
            Token.TABLE_FREE,
        },
        table.SyncCompute: {Token.ACC_FREE, Token.OUT_FREE},
    }


def test_sync_takes_as_many_instructions_as_it_needs():
    assert sync(table.SyncLoad) == []
    one, two = sync(table.SyncLoad, wait=[Token.ACT_FREE] * 3, signal=[Token.ACT_READY])
    assert (one.waits, one.signals, two.waits, two.signals) == ((0, 0), (1,), (0,), ())


def test_loops_of_one_iteration_are_left_out():
    loops = Loops({"a": 1, "b": 3, "c": 1, "d": 2})
    assert [loops.depth(n) for n in "abcd"] == [15, 0, 15, 1]
    (outer,) = loops.wrap("abcd", [table.SyncLoad()])
    assert (outer.count, outer.body[0].count) == (3, 2)
