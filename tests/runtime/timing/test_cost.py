from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmac.isa import table
from mmac.isa.errors import ResourceError, VerificationError
from mmac.isa.spec import LEVEL_LOOP, NONE_LOOP, Queue
from mmac.isa.structure import Op, Step, View, parse
from mmac.runtime.targets import load_target
from mmac.runtime.timing.cost import ACTIONS, CYCLES, Action, mmac_of
from mmac.runtime.timing.machine import At, Machine, clipped, work_of
from mmac.runtime.timing.runs import clip_breaks, operations
from tests.runtime.timing.builders import LEVELS, Network, Random, dense

TARGET = load_target("vc707")


def machine() -> Machine:
    network = Network(LEVELS)
    network.conv((8, 8), (16, 16), 1, (8, 8, 16))
    return Machine(network.build(), TARGET, "mmac")


MACHINE = machine()
HERE = At(MACHINE, ())


@given(st.integers(-9, 9), st.integers(1, 9), st.integers(-4, 4).filter(bool), st.integers(1, 9), st.integers(1, 30))
def test_runs_are_cut_where_the_clipping_changes(origin: int, extent: int, step: int, size: int, count: int) -> None:
    inside = [clipped(origin + step * i, extent, size) for i in range(count)]
    changes = {0} | {i for i in range(1, count) if inside[i] != inside[i - 1]}
    breaks = clip_breaks(Step(origin, extent, step, 0), size, count)
    assert changes <= breaks <= set(range(count))
    assert len(breaks) <= len(changes) + 9  # and hardly anywhere else


@settings(max_examples=25)
@given(st.integers(0, 1 << 32), st.integers(0, 2))
def test_extents_are_those_of_the_view(seed: int, level: int) -> None:
    program = Random(random.Random(seed)).build()
    for op, path in operations(parse(program.code)):
        indices = tuple(min(1, loop.count - 1) for loop in path)
        at = At(MACHINE, tuple(np.array([i]) for i in indices))
        for view in op.views.values():
            expected = [high - low for low, high in view.inside(indices, level)]
            assert [int(extent[0]) for extent in at.extents(view)] == expected


@given(st.tuples(*[st.integers(1, 5)] * 4), st.tuples(*[st.integers(-2, 3)] * 4), st.tuples(*[st.integers(1, 5)] * 4))
def test_moved_bytes_are_bursts_of_contiguous_bytes(
    shape: tuple[int, int, int, int], origin: tuple[int, ...], box: tuple[int, ...]
) -> None:
    strides = (shape[1] * shape[2] * shape[3], *dense(shape)[1:])
    steps = [Step(start, extent) for start, extent in zip(origin, box, strict=True)]
    view = View(0, 1, 0, shape, strides, (steps[0], steps[1], steps[2], steps[3]))
    ranges = [range(max(0, o), min(o + e, s)) for o, e, s in zip(origin, box, shape, strict=True)]
    addresses = sorted(sum(i * s for i, s in zip(at, strides, strict=True)) for at in itertools.product(*ranges))
    runs: list[int] = []
    for previous, address in zip([None, *addresses], addresses, strict=False):
        if previous is not None and address == previous + 1:
            runs[-1] += 1
        else:
            runs.append(1)
    port = TARGET.port(Queue.LOAD, on_chip=False)
    assert int(HERE.moved_bytes(view, port)[0]) == sum(-(-run // 64) * 64 for run in runs)


def test_a_walk_along_the_level() -> None:
    step = Step(1, 2, 3, LEVEL_LOOP)
    assert HERE.start(step).tolist() == [1, 4, 7]
    view = View(0, 8, 0, (1, 1, 1, 8), (0, 0, 0, 8), (Step(0, 1),) * 3 + (step,))
    assert HERE.extents(view)[3].tolist() == [2, 2, 1]


def mmac_op(ic: int, oc: int, x_channels: int, y_channels: int, y_size: int, first: int = 0) -> Op:
    def view(height: int, channels: int, size: int, start: int = 0) -> View:
        walk = (Step(0, 1), Step(0, height), Step(0, 9), Step(start, channels))
        return View(0, 1, 0, (1, 9, 9, size), (0, 1, 1, 1), walk)

    conv = table.Conv(kernel_h=3, kernel_w=3, stride_h=1, stride_w=1, dilation_h=1, dilation_w=1, ic=ic, oc=oc)
    instr = table.Mmac(x=0, y=1, act=0, wgt=1, acc=2, layer=0, split_m=4)
    return Op(0, instr, {"x": view(9, x_channels, x_channels), "y": view(7, y_channels, y_size, first)}, {}, conv)


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (mmac_op(20, 64, 20, 32, 64), (32, 12, 1)),  # half of a dense layer: 180 values are 12 groups
        (mmac_op(20, 64, 20, 32, 24), (24, 12, 1)),  # the view ends inside the tile
        (mmac_op(1, 1, 32, 32, 32), (1, 1, 32)),  # depthwise
        (mmac_op(1, 1, 32, 32, 10), (1, 1, 10)),
        (mmac_op(16, 8, 64, 32, 32), (8, 9, 4)),  # four convolution groups of eight channels
        (mmac_op(16, 8, 64, 32, 20), (8, 9, 3)),
        (mmac_op(16, 8, 64, 32, 20, -4), (8, 9, 3)),  # four of the first and eight of two more
        (mmac_op(16, 8, 64, 32, 6, -5), (6, 9, 2)),  # three of the first and three of the second
        (mmac_op(16, 8, 64, 32, 40, 20), (8, 9, 3)),  # the box starts inside the view
        (mmac_op(16, 8, 64, 32, 6, -32), (0, 9, 0)),  # nothing of it is inside
        (mmac_op(16, 8, 64, 32, 6, 6), (0, 9, 0)),
    ],
)
def test_work_of_an_mmac(op: Op, expected: tuple[int, int, int]) -> None:
    work = work_of(op, HERE)
    assert (int(np.max(work.n)), int(work.g), int(np.max(work.conv_groups))) == expected
    assert int(np.max(work.m)) == 7 * 9
    y = op.views["y"]
    assert int(np.max(work.channels)) == sum(0 <= y.walk[3].origin + c < y.shape[3] for c in range(y.box[3]))


def test_actions_of_an_mmac() -> None:
    entries = np.zeros(1, MACHINE.directory)
    entries["level"]["bytes"], entries["level"]["alpha"] = [1000, 2000, 3000], [3, 5, 9]
    program = dataclasses.replace(MACHINE.program, image=entries.view(np.uint8))
    one = (Step(0, 1),) * 4
    at = At(Machine(program, TARGET, "mmac"), (), (View(0, 32, 0, (1, 1, 1, 1), (0, 0, 0, 0), one), ()))
    op = mmac_op(20, 64, 20, 32, 64)
    counts = ACTIONS[table.Mmac](op, at)
    groups = 63 * 32 * 12
    assert counts[Action.CELL_CYCLE].tolist() == [groups * 3 * 1, groups * 5 * 2, groups * 9 * 3]
    words = np.array([3, 5, 9]) * 32 * 12
    assert counts[Action.TERM_STORE].tolist() == (4 * words).tolist()
    # weights once; 63 pixels × 12 groups × 16 values for each of 2 columns of blocks; 4-byte sums in and out, six times
    assert counts[Action.SCRATCHPAD].tolist() == (words + 63 * 192 * 2 + 63 * 32 * 6 * 8).tolist()
    assert counts[Action.DATA_TERM].tolist() == [63 * 192 * 2 * beta for beta in (1, 2, 3)]
    tile = at.tile()
    assert (tile.size.tolist(), tile.alpha.tolist()) == ([1000, 2000, 3000], [3, 5, 9])


def test_a_coded_tile_is_decoded_as_it_comes() -> None:
    """By 64 decoders: 1000 groups of 2 or 3 terms take longer than the transfer of fewer bytes."""
    program = MACHINE.program
    code = [
        dataclasses.replace(i, format=table.TermFormat.CODED) if isinstance(i, table.LoadTerms) else i
        for i in program.code
    ]
    image = program.image.copy()
    entries = image.view(MACHINE.directory)
    entries["groups"] = 1000
    coded = dataclasses.replace(program, code=tuple(code), image=image)
    machine = Machine(coded, MACHINE.target, MACHINE.mac)
    op = next(op for op, _ in operations(parse(coded.code)) if isinstance(op.instr, table.LoadTerms))
    at = At(machine, (), (op.views["t"], ()))
    slots = 1000 * entries["level"]["alpha"][0].astype(int)
    size = entries["level"]["bytes"][0].astype(int)
    bus = -(-size // 64) * 64 + 64
    decode = 2 * 34 + -(-slots // 64)
    assert CYCLES[table.LoadTerms](op, at).tolist() == np.maximum(decode, 2 * 34 + -(-bus // 44)).tolist()
    assert (decode > 2 * 34 + -(-bus // 44)).any()
    counts = ACTIONS[table.LoadTerms](op, at)
    assert counts[Action.DECODE].tolist() == slots.tolist()
    assert counts[Action.SCRATCHPAD].tolist() == (1000 + slots).tolist()
    assert counts[Action.DRAM_READ].tolist() == counts[Action.WEIGHTS_FROM_DRAM].tolist() == bus.tolist()


def test_load_terms_reads_the_directory_and_a_longer_prefix_at_a_higher_level() -> None:
    program = MACHINE.program
    op = next(op for op, _ in operations(parse(program.code)) if isinstance(op.instr, table.LoadTerms))
    at = At(MACHINE, (), (op.views["t"], ()))
    size = program.image.view(MACHINE.directory)["level"]["bytes"][0].astype(int)
    bus = -(-size // 64) * 64 + 64
    assert ACTIONS[table.LoadTerms](op, at)[Action.DRAM_READ].tolist() == bus.tolist()
    assert CYCLES[table.LoadTerms](op, at).tolist() == (2 * 34 + -(-bus // 44)).tolist()
    assert (np.diff(size) > 0).all()


@pytest.mark.parametrize(
    ("instr", "operations", "scratchpad"),
    [
        (table.Vadd(a=0, b=0, y=0, pa=0, pb=0, out=0), 2, 3),
        (table.Vmul(a=0, b=0, y=0, pa=0, pb=0, out=0), 2, 3),
        (table.Vtable(y=0, pa=0, table=0, out=0), 1, 2),
        (table.Vmax(x=0, y=0, pa=0, out=0), 6, 7),
        (table.Vavg(x=0, y=0, pa=0, out=0), 7, 7),
    ],
)
def test_vector_unit(instr: table.Queued, operations: int, scratchpad: int) -> None:
    """1024 values, 128 operations a cycle: time and energy count the same operations."""
    y = View(0, 1, 0, (1, 8, 8, 16), (0, 1, 1, 1), (Step(0, 1), Step(0, 8), Step(0, 8), Step(0, 16)))
    conv = table.Conv(kernel_h=2, kernel_w=3, stride_h=1, stride_w=1, dilation_h=1, dilation_w=1)
    op = Op(0, instr, {"y": y}, {}, conv)
    assert int(CYCLES[type(instr)](op, HERE)) == 12 + 8 * operations
    assert ACTIONS[type(instr)](op, HERE) == {Action.VECTOR: 1024 * operations, Action.SCRATCHPAD: 1024 * scratchpad}


def test_store_acc_is_limited_by_the_slower_of_bus_and_lanes() -> None:
    def op(elem: int, shape: tuple[int, int, int, int]) -> Op:
        walk = (Step(0, shape[0]), Step(0, shape[1]), Step(0, shape[2]), Step(0, shape[3]))
        view = View(0, elem, 0, shape, dense(shape, elem), walk)
        return Op(0, table.StoreAcc(t=0, acc=0, prm=0), {"t": view}, {}, None)

    wide, packed = op(4, (1, 1, 1, 4096)), op(1, (1, 1, 1, 4096))
    assert int(CYCLES[table.StoreAcc](wide, HERE)[0]) == 34 + -(-4096 * 4 // 12)
    slow = dataclasses.replace(TARGET, lanes=dataclasses.replace(TARGET.lanes, requant=8))
    at = dataclasses.replace(HERE, machine=dataclasses.replace(MACHINE, target=slow))
    assert int(CYCLES[table.StoreAcc](packed, at)[0]) == 12 + 512
    counts = ACTIONS[table.StoreAcc](packed, HERE)
    assert [int(np.max(counts[a])) for a in (Action.REQUANT, Action.SCRATCHPAD, Action.DRAM_WRITE)] == [
        4096,
        4096 * 4 + 4096 * 8,
        4096,
    ]


def test_multipliers_take_every_product_once() -> None:
    op = mmac_op(20, 64, 20, 32, 64)
    op = dataclasses.replace(op, instr=dataclasses.replace(mmac_of(op), multipliers=0b111))
    at = At(MACHINE, (), (View(0, 8 + 8 * 3, 0, (1, 1, 1, 1), (0, 0, 0, 0), (Step(0, 1),) * 4), ()))
    # 180 × 32 weights, 128 at a time; 63 × 32 outputs on 128 units of 9 taps
    assert CYCLES[table.Mmac](op, at).tolist() == [8 + 45 + 16 * 20]
    counts = ACTIONS[table.Mmac](op, at)
    assert int(counts[Action.MULTIPLY][0]) == 63 * 32 * 180
    assert Action.CELL_CYCLE not in counts
    none = dataclasses.replace(MACHINE, target=dataclasses.replace(TARGET, multipliers=None))
    with pytest.raises(ResourceError, match="runs on the multipliers; vc707 has none; compile it for this target"):
        CYCLES[table.Mmac](op, dataclasses.replace(at, machine=none))


def test_what_lies_in_the_buffer() -> None:
    program = dataclasses.replace(MACHINE.program, buffer=(4096, 8192))
    machine = Machine(program, TARGET, "mmac")
    assert [machine.on_chip(*r) for r in ((0, 4096), (4096, 5000), (4096, 12288), (12288, 12289))] == [0, 1, 1, 0]
    with pytest.raises(VerificationError, match=r"4095…4096: partly in the global buffer; all in or out of 4096…12287"):
        machine.on_chip(4095, 4097)
    walk = (Step(0, 1), Step(0, 4), Step(0, 4), Step(0, 16))
    op = Op(0, table.Load(t=0, p=0), {"t": View(4096, 1, 0, (1, 4, 4, 16), (0, 64, 16, 1), walk)}, {})
    assert int(CYCLES[table.Load](op, At(machine, ()))[0]) == 6 + 1
    assert int(ACTIONS[table.Load](op, At(machine, ()))[Action.BUFFER_READ][0]) == 256
    with pytest.raises(ResourceError, match="needs 4194304 bytes in the global buffer; vc707 has 1835008; compile it"):
        Machine(dataclasses.replace(program, buffer=(0, 1 << 22)), TARGET, "mmac")


def test_no_loop_is_no_index() -> None:
    assert HERE.start(Step(5, 1, 0, NONE_LOOP)).tolist() == [5]
