import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.isa import structure, table
from mmac.isa.errors import VerificationError
from mmac.isa.spec import LEVEL_LOOP, NONE_LOOP, Instr
from mmac.isa.structure import Op, Repeat, Ring, Step, View
from tests.isa import samples

HALT = table.Halt()
SYNC = table.SyncLoad()
TENSOR = table.Tensor(t=1, base=64, elem=1, fill=9)
POINTER = table.Pointer(p=2, pad=table.Pad.ACT, addr=16)
LOAD = table.Load(t=1, p=2)


def walk(dim: int, loop: int = NONE_LOOP) -> Instr:
    return table.Walk(t=1, dim=dim, origin=-1, extent=3, step=2, loop=loop)


def loop(*body: Instr, count: int = 2) -> tuple[Instr, ...]:
    return (table.Loop(count=count), *body, table.End())


def test_loops_become_a_tree() -> None:
    first, outer, last = structure.parse([SYNC, *loop(SYNC, *loop(SYNC, count=3)), HALT])
    assert isinstance(first, Op)
    assert isinstance(last, Op)
    assert (first.pc, last.pc, last.instr) == (0, 7, HALT)
    assert isinstance(outer, Repeat)
    assert (outer.pc, outer.depth, outer.count) == (1, 0, 2)
    inner = outer.body[1]
    assert isinstance(inner, Repeat)
    assert (inner.pc, inner.depth, inner.count, len(inner.body)) == (3, 1, 3, 1)


def test_operations_see_the_registers_as_they_are_set_where_they_stand() -> None:
    conv = table.Conv(kernel_h=1, kernel_w=1, stride_h=1, stride_w=1, dilation_h=1, dilation_w=1)
    code = [
        TENSOR,
        table.Shape(t=1, n=1, h=4, w=5, c=6),
        table.Stride(t=1, n=120, h=30, w=6, c=1),
        POINTER,
        LOAD,
        conv,
        walk(table.Dim.W, loop=0),
        table.Pointer(p=2, pad=table.Pad.AUX, addr=0, toggle=32, mask=1, phase=1),
        *loop(LOAD),
        HALT,
    ]
    before, repeat, _ = structure.parse(code)
    assert isinstance(before, Op)
    assert isinstance(repeat, Repeat)
    whole = View(64, 1, 9, (1, 4, 5, 6), (120, 30, 6, 1), (Step(0, 1), Step(0, 4), Step(0, 5), Step(0, 6)))
    assert (before.views, before.rings) == ({"t": whole}, {"p": Ring(table.Pad.ACT, 16)})
    assert (before.conv, before.quant) == (None, None)
    (inside,) = repeat.body
    assert isinstance(inside, Op)
    assert inside.views["t"].walk == (Step(0, 1), Step(0, 4), Step(-1, 3, 2, 0), Step(0, 6))
    assert inside.views["t"].box == (1, 4, 3, 6)
    assert inside.rings == {"p": Ring(table.Pad.AUX, 0, 32, 1, 1)}
    assert inside.conv == conv


def test_shape_resets_the_walk() -> None:
    code = [TENSOR, POINTER, walk(table.Dim.H), table.Shape(t=1, n=1, h=4, w=5, c=6), LOAD, HALT]
    op = structure.parse(code)[0]
    assert isinstance(op, Op)
    assert op.views["t"].walk[1] == Step(0, 4)


@given(st.integers(-9, 9), st.integers(0, 9), st.integers(-4, 4), st.sampled_from([0, 1, NONE_LOOP, LEVEL_LOOP]),
       st.tuples(st.integers(0, 5), st.integers(0, 5)), st.integers(0, 7))  # fmt: skip
def test_boxes_lie_where_the_walk_says(
    origin: int, extent: int, step: int, moved_by: int, indices: tuple[int, int], level: int
) -> None:
    still = Step(0, 1)
    view = View(0, 1, 0, (1, 7, 1, 1), (0, 0, 0, 0), (still, Step(origin, extent, step, moved_by), still, still))
    index = {0: indices[0], 1: indices[1], NONE_LOOP: 0, LEVEL_LOOP: level}[moved_by]
    assert view.starts(indices, level) == (0, origin + step * index, 0, 0)
    low, high = view.inside(indices, level)[1]
    inside = [i for i in range(extent) if 0 <= origin + step * index + i < 7]
    assert list(range(low, high)) == inside


@given(st.integers(0, 255), st.integers(0, 1), st.lists(st.integers(0, 99), max_size=8))
def test_slots_alternate_with_the_masked_loops(mask: int, phase: int, indices: list[int]) -> None:
    ring = Ring(table.Pad.ACT, 100, 7, mask, phase)
    expected = (phase + sum(index for depth, index in enumerate(indices) if mask >> depth & 1)) % 2
    assert ring.slot(indices) == expected
    assert ring.address(indices) == 100 + 7 * expected


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ([], "instruction 0: the code ends without halt"),
        ([SYNC], "the code ends without halt"),
        ([HALT, HALT], r"instruction 0 \(halt\): code goes on after it"),
        ([table.Loop(count=2), HALT], r"instruction 1 \(halt\): inside a loop"),
        ([table.Loop(count=2), SYNC], r"instruction 0 \(loop\): this loop is never closed"),
        ([table.End(), HALT], r"instruction 0 \(end\): no loop is open"),
        ([*loop(count=0), HALT], "a loop of 0 iterations; 1 or more"),
        ([table.Loop(count=1)] * 9, r"instruction 8 \(loop\): more than 8 loops"),
        ([*loop(TENSOR), HALT], r"instruction 1 \(tensor\): inside a loop"),
        ([*loop(table.Host(segment=0)), HALT], r"instruction 1 \(host\): inside a loop"),
        ([walk(table.Dim.H), HALT], r"instruction 0 \(walk\): t1 is not set"),
        ([POINTER, LOAD, HALT], r"instruction 1 \(load\): t1 is not set"),
        ([TENSOR, LOAD, HALT], r"instruction 1 \(load\): p2 is not set"),
        ([TENSOR, POINTER, walk(table.Dim.H, 0), LOAD, HALT], r"instruction 3 \(load\): it depends on loop 0; 0 loops"),
        ([TENSOR, walk(table.Dim.H, 0), walk(table.Dim.W, 0), HALT], "loop 0 moves two dimensions of t1"),
        ([TENSOR, table.Pointer(p=2, pad=0, addr=0, mask=2), *loop(LOAD), HALT], "p2 depends on a loop"),
        ([TENSOR, POINTER, table.Pointer(p=3, pad=5, addr=0),
          table.Mmac(x=1, y=1, act=2, wgt=2, acc=3, layer=0, first=0), HALT], "it depends on loop 0"),
    ],
)  # fmt: skip
def test_impossible_code_is_refused(code: list[Instr], message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        structure.parse(code)


@given(st.lists(samples.instructions(table.Loop, table.End, table.Tensor, table.Walk, table.Load, table.Pointer)))
def test_random_code_parses_or_gives_a_typed_error(code: list[Instr]) -> None:
    try:
        nodes = structure.parse([*code, HALT])
    except VerificationError:
        return
    assert nodes
