"""Buffers that are needed at the same time never overlap, and dead space is used again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.compiler.tile.allocate import ALIGNMENT, Allocate, lifetimes
from mmac.compiler.tile.ir import Buffer, HostCall, Tensor, TileProgram
from mmac.isa.errors import ResourceError
from mmac.isa.plan import PAPER_LEVELS, Plan
from mmac.isa.program import Port
from mmac.runtime.targets import load_target


def program(sizes, steps, constants=()):
    buffers = [Buffer(f"b{i}", size, i in constants) for i, size in enumerate(sizes)]
    operations = [HostCall(f"op{i}", 0, tuple(f"b{j}" for j in r), tuple(f"b{j}" for j in w))
                  for i, (r, w) in enumerate(steps)]  # fmt: skip
    tensor = Tensor("in", "uint8", (sizes[0],), "b0", 0, (1,))
    port = Port("in", "uint8", (sizes[0],), ("in",))
    return TileProgram(
        "net", "vc707", Plan(PAPER_LEVELS, ()), (tensor,), (port,), (), tuple(buffers), tuple(operations)
    )


@given(st.data())
def test_live_buffers_are_disjoint(data):
    sizes = data.draw(st.lists(st.integers(1, 5000), min_size=1, max_size=8))
    some = st.lists(st.integers(0, len(sizes) - 1), max_size=3)
    steps = data.draw(st.lists(st.tuples(some, some), max_size=6))
    constants = data.draw(st.sets(st.integers(1, 8)))
    module = program(sizes, steps, constants)
    placed = Allocate(load_target("vc707")).apply(module)
    spans = lifetimes(module)
    for i, a in enumerate(placed.buffers):
        assert a.base % ALIGNMENT == 0
        for b in placed.buffers[i + 1 :]:
            apart = a.base + a.size_bytes <= b.base or b.base + b.size_bytes <= a.base
            if a.constant or b.constant:
                assert apart
                continue
            (first, last), (begin, end) = spans.get(a.name, (0, 0)), spans.get(b.name, (0, 0))
            assert apart or last < begin or end < first
    ends = [b.base + b.size_bytes for b in placed.buffers if b.constant]
    assert all(b.base >= max(ends, default=0) for b in placed.buffers if not b.constant)


def test_dead_space_is_used_again():
    chain = [([i], [i + 1]) for i in range(6)]
    placed = Allocate(load_target("vc707")).apply(program([640] * 7, chain))
    assert max(b.base + b.size_bytes for b in placed.buffers) == 2 * 640


def test_what_does_not_fit_says_so():
    with pytest.raises(ResourceError, match="needs 2147483648 bytes of DRAM; vc707 has 1073741824"):
        Allocate(load_target("vc707")).apply(program([1 << 31], []))
