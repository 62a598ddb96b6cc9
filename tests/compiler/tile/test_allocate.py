"""Buffers that are needed at the same time never overlap, and dead space is used again."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.compiler.tile.allocate import ALIGNMENT, Allocate, Placement, in_place, lifetimes, resident_constants
from mmac.compiler.tile.ir import (
    ArrayLayer,
    Buffer,
    HostCall,
    Move,
    Nest,
    Quantization,
    Repeat,
    Streams,
    Tensor,
    TileProgram,
    VectorOp,
    View,
    Window,
)
from mmac.compiler.tile.residency import keep_on_chip
from mmac.isa.errors import ResourceError
from mmac.isa.plan import PAPER_LEVELS, Plan
from mmac.isa.program import Port
from mmac.isa.table import LoadTerms, TermFormat
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


def test_what_is_on_chip_lies_together_after_the_image():
    chain = [([i], [i + 1]) for i in range(6)]
    module = program([640] * 7, chain, constants={6})
    module = replace(module, buffers=tuple(replace(b, on_chip=b.name in ("b1", "b2", "b4")) for b in module.buffers))
    target = load_target("vc707")
    small = replace(target, buffer=replace(target.buffer, size_bytes=1500))
    placed = Allocate(small).apply(module)
    bases = {b.name: b.base for b in placed.buffers}
    assert placed.on_chip == (640, 1280)
    assert {bases["b1"], bases["b2"]} == {640, 1280}
    assert bases["b4"] in (640, 1280)
    assert all(bases[name] >= 1920 for name in ("b0", "b3", "b5"))
    # with room for the image as well, it is in the buffer too
    assert Allocate(target).apply(module).on_chip == (0, 1920)


@given(st.data())
def test_residents_fit_together_and_leave_out_what_is_seen_from_outside(data):
    sizes = data.draw(st.lists(st.integers(1, 5000), min_size=2, max_size=8))
    some = st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=3)
    steps = data.draw(st.lists(st.tuples(some, some), min_size=1, max_size=6))
    capacity = data.draw(st.integers(0, 10000)) // ALIGNMENT * ALIGNMENT
    module = program(sizes, steps)
    moves = [Move(f"m{t}", box(f"b{r[0]}", sizes[r[0]]), (box(f"b{w[0]}", sizes[w[0]]),)) for t, (r, w) in
             enumerate(steps)]  # fmt: skip
    module = keep_on_chip(replace(module, operations=tuple(moves)), capacity)
    target = load_target("vc707")
    target = replace(target, buffer=replace(target.buffer, size_bytes=capacity))
    assert not next(b for b in module.buffers if b.name == "b0").on_chip  # the input
    _, size = Allocate(target).apply(module).on_chip
    assert size <= capacity


def box(name, size):
    return View(name, 0, (1, 1, 1, size), (size, size, size, 1))


def test_short_lived_buffers_stay_on_chip():
    moves = [Move(f"m{i}", box(f"b{i}", 640), (box(f"b{i + 1}", 640),)) for i in range(4)]
    moves.append(Move("last", box("b1", 640), (box("b5", 640),)))  # b1 lives nearly to the end
    module = replace(program([640] * 6, []), operations=tuple(moves))
    kept = keep_on_chip(module, 1280)
    assert [b.name for b in kept.buffers if b.on_chip] == ["b2", "b3", "b4", "b5"]
    assert all(b.on_chip for b in keep_on_chip(module, 1920).buffers if b.name != "b0")


def addition(name, a, b, y, size=640):
    return VectorOp(name, "vadd", box(a, size), box(y, size), b=box(b, size))


def test_a_sum_takes_the_place_of_an_operand_that_nobody_needs_afterwards():
    moves = [Move("m", box("b0", 640), (box("b1", 640), box("b2", 640)))]
    module = program([640] * 6, [])
    chain = replace(module, operations=(*moves, addition("s", "b1", "b2", "b3"), addition("t", "b3", "b1", "b4")))
    assert in_place(chain, lifetimes(chain)) == {"b3": "b2", "b4": "b1"}
    bases = {b.name: b.base for b in Allocate(load_target("vc707")).apply(chain).buffers}
    assert (bases["b3"], bases["b4"]) == (bases["b2"], bases["b1"])
    assert len({bases["b0"], bases["b1"], bases["b2"]}) == 3


@pytest.mark.parametrize(
    "operations",
    [
        (addition("s", "b0", "b0", "b3"),),  # the user's input
        (
            Move("m", box("b0", 640), (box("b1", 640),)),
            addition("s", "b1", "b1", "b3"),
            addition("t", "b1", "b3", "b4"),
        ),
    ],
)
def test_an_operand_that_is_needed_stays(operations):
    module = replace(program([640] * 6, []), operations=operations)
    found = in_place(module, lifetimes(module))
    assert "b3" not in found


def one_by_one(module, capacity):
    """What `keep_on_chip` says that it keeps: each buffer in turn, if it fits beside those before it."""
    plan = Placement.of(module)
    chosen = []
    free = [b for b in module.buffers if b.name != "b0" and b.name in plan.spans]
    for buffer in sorted(free, key=lambda b: (plan.spans[b.name][1] - plan.spans[b.name][0], -b.size_bytes, b.name)):
        bases = plan.place([*chosen, buffer], 0)
        if all(bases[b.name] + b.size_bytes <= capacity for b in (*chosen, buffer)):
            chosen.append(buffer)
    return {b.name for b in chosen}


def network(rng, count):
    """Moves and sums of what has been computed lately, in buffers of a few sizes."""
    sizes = np.repeat(rng.choice([320, 640, 1280, 2560], count), 2)[:count].tolist()
    operations = []
    for y in range(1, count):
        a, b = (int(rng.integers(max(0, y - 6), y)) for _ in range(2))
        if sizes[a] == sizes[b] == sizes[y]:
            operations.append(addition(f"s{y}", f"b{a}", f"b{b}", f"b{y}", sizes[y]))
        else:
            operations.append(Move(f"m{y}", box(f"b{a}", sizes[a]), (box(f"b{y}", sizes[y]),)))
    return replace(program(sizes, []), operations=tuple(operations))


@pytest.mark.parametrize("seed", range(6))
def test_residents_are_found_in_few_steps(seed, monkeypatch):
    module = network(np.random.default_rng(seed), 60)
    place, calls = Placement.place, []
    for capacity in (2560, 4096, 8192):
        expected = one_by_one(module, capacity)
        with monkeypatch.context() as patch:
            patch.setattr(Placement, "place", lambda *args: calls.append(args) or place(*args))
            assert {b.name for b in keep_on_chip(module, capacity).buffers if b.on_chip} == expected
    assert len(calls) < 3 * 60  # one by one takes as many as there are buffers, each of them quadratic
    calls.clear()
    monkeypatch.setattr(Placement, "place", lambda *args: calls.append(args) or place(*args))
    assert sum(b.on_chip for b in keep_on_chip(module, 1 << 20).buffers) == 59
    assert len(calls) == 1


def streamed(name, size, loads, tiles=1):
    """An array layer whose weight tiles of `size` bytes in all are loaded `loads` times."""
    view = box("b0", 640)
    body = (Repeat(loads, (LoadTerms(t=0, p=0),)),)
    packed = Streams(TermFormat.CODED, f"{name}.directory", f"{name}.terms", 1, tiles, size)
    return ArrayLayer(name, view, view, Window((1, 1)), 1, 0, "w", view, Quantization(), streams=packed,
                      nest=Nest((), (), None, None, body))  # fmt: skip


def test_streams_that_fit_stay_on_chip_those_read_most_often_first():
    layers = [streamed("a", 640, 2, tiles=2), streamed("b", 1280, 6, tiles=2), streamed("c", 320, 1)]
    sizes = {"a": 640, "b": 1280, "c": 320}
    constants = [
        Buffer(f"{n}.{part}", size, True) for n, s in sizes.items() for part, size in (("directory", 64), ("terms", s))
    ]
    module = replace(program([640], []), operations=tuple(layers))
    module = replace(module, buffers=(*module.buffers, Buffer("table", 256, True), *constants))
    assert resident_constants(module, 1344) == {"b.directory", "b.terms"}
    assert resident_constants(module, 1344 + 384) == {"b.directory", "b.terms", "c.directory", "c.terms"}
    assert resident_constants(module, 1344 + 704 + 256) == {"b.directory", "b.terms", "a.directory", "a.terms", "table"}
    target = load_target("vc707")
    small = replace(target, buffer=replace(target.buffer, size_bytes=1344 + 384))
    placed = Allocate(small).apply(module)
    base, size = placed.on_chip
    inside = {b.name for b in placed.buffers if base <= b.base < base + size}
    assert inside == {"b.directory", "b.terms", "c.directory", "c.terms"}
