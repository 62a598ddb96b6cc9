from __future__ import annotations

import dataclasses
import itertools
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmac.isa import table
from mmac.isa.errors import ResourceError, UnsupportedError, UsageError, VerificationError
from mmac.isa.program import Program
from mmac.isa.spec import BY_OPCODE, Queue
from mmac.isa.structure import parse
from mmac.runtime.targets import load_target
from mmac.runtime.timing.analyse import analyse
from mmac.runtime.timing.binding import bind_weights
from mmac.runtime.timing.cost import ACTIONS, CYCLES, Action
from mmac.runtime.timing.events import events
from mmac.runtime.timing.machine import At, Machine
from mmac.runtime.timing.runs import operations
from tests.runtime.definition import Quantization, Window
from tests.runtime.programs import Builder
from tests.runtime.timing.builders import LEVELS, PADS, Network, Random

TARGET = load_target("vc707")


def unrolled_cycles(program: Program, level: int, mac: str = "mmac") -> int:
    *_, last = events(program, TARGET, level, mac)
    return last.end


def unrolled_actions(program: Program, mac: str = "mmac") -> dict[Action, np.ndarray]:
    machine = Machine(program, TARGET, mac)
    nodes = parse(program.code)
    sources = bind_weights(nodes)
    total = {action: np.zeros(machine.levels, np.int64) for action in Action}
    for op, path in operations(nodes):
        if op.instr.queue == Queue.SEQUENCER:
            continue
        load = sources.get(op.pc, op)
        for indices in itertools.product(*(range(loop.count) for loop in path)):
            grid = tuple(np.array([index]) for index in indices)
            source = (load.views["t"], grid) if isinstance(load.instr, table.LoadTerms) else None
            for action, count in ACTIONS[type(op.instr)](op, At(machine, grid, source)).items():
                total[action] += count
    return total


def check(program: Program, mac: str = "mmac") -> None:
    analysis = analyse(program, TARGET, mac)
    expected = [unrolled_cycles(program, level, mac) for level in range(len(program.plan.levels))]
    assert analysis.cycles.tolist() == expected
    assert np.sum([share.cycles for share in analysis.shares], axis=0).tolist() == expected
    actions = unrolled_actions(program, mac)
    assert {k: v.tolist() for k, v in analysis.actions.items()} == {k: v.tolist() for k, v in actions.items()}


def test_registries_cover_the_table() -> None:
    queued = {cls for cls in BY_OPCODE.values() if cls.queue != Queue.SEQUENCER}
    assert set(CYCLES) == queued
    assert set(ACTIONS) == queued


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1 << 32))
def test_random_code_equals_event_simulation(seed: int) -> None:
    check(Random(random.Random(seed)).build())


@pytest.mark.parametrize("mac", ["mmac", "bmac", "bmac_serial", "pmac"])
@pytest.mark.parametrize("weights_outer", [True, False])
@pytest.mark.parametrize("tile", [(5, 14, 16), (14, 14, 64), (3, 6, 24), (2, 3, 64)])
def test_pipelined_layers_equal_event_simulation(tile: tuple[int, int, int], weights_outer: bool, mac: str) -> None:
    network = Network(LEVELS)
    network.conv((14, 14), (32, 64), 3, tile, weights_outer=weights_outer)
    network.conv((14, 14), (64, 64), 3, tile, depthwise=True)
    network.conv((14, 14), (64, 48), 1, tile, weights_outer=not weights_outer)
    check(network.build(), mac)


@pytest.mark.parametrize("kind", list(table.TermFormat))
def test_hand_built_layers_equal_event_simulation(kind: table.TermFormat) -> None:
    """Serial tokens, K tiles, convolution groups, parameters per level, ragged tiles, pooling, a table, moves."""
    rng = np.random.default_rng(3)
    build = Builder(LEVELS)
    x, y, z = (build.tensor(name, (2, 9, 9, 40)) for name in "xyz")
    dense, grouped = rng.integers(-127, 128, (40, 1, 1, 40)), rng.integers(-127, 128, (40, 3, 3, 4))
    bias, scale = np.zeros((3, 40), np.int32), np.ones((3, 40), np.float32)
    build.array_layer(x, y, dense, bias, scale, tile=(1, 4, 9, 24), reduction=16, kind=kind)
    window = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
    build.array_layer(y, z, grouped, bias[:1], scale[:1], window=window, groups=10, tile=(2, 9, 4, 16), kind=kind)
    build.pool("vmax", z, y, window, Quantization(), (1, 5, 9, 40), 0)
    build.elementwise("vadd", (y, z), x, Quantization(), (1, 2, 9, 40))
    build.lookup(x, y, np.zeros(256, np.uint8), (2, 4, 4, 40))
    build.move(y, z, (1, 9, 9, 7), (0, -1, 0, 0))
    program = build.build()
    check(program)
    ops = [share.entry.op if share.entry else None for share in analyse(program, TARGET).shares]
    assert ops == ["array", "array", "vmax", "vadd", "vtable", "move", None]


def test_baseline_cells_do_not_depend_on_the_level() -> None:
    network = Network(LEVELS)
    network.conv((14, 14), (32, 64), 3, (14, 14, 64))
    program = network.build()
    for mac, group in (("pmac", 16), ("bmac", 128), ("bmac_serial", 512)):
        counts = analyse(program, TARGET, mac).actions[Action.CELL_CYCLE]
        assert set(counts.tolist()) == {14 * 14 * 64 * 18 * group}


def test_shares_follow_the_debug_entries() -> None:
    network = Network(LEVELS)
    for _ in range(3):
        network.conv((14, 14), (32, 64), 3, (7, 14, 32))
    program = network.build()
    shares = analyse(program, TARGET).shares
    assert [share.entry.node if share.entry else None for share in shares] == ["conv0", "conv1", "conv2", None]
    for index, share in enumerate(shares[:-1]):
        stop = share.entry.stop if share.entry else 0
        part = dataclasses.replace(program, code=(*program.code[:stop], table.Halt()))
        done = np.sum([s.cycles for s in shares[: index + 1]], axis=0)
        assert done.tolist() == [unrolled_cycles(part, level) for level in range(3)]


def test_weight_bytes_count_every_tile_once() -> None:
    for weights_outer in (True, False):
        network = Network(LEVELS)
        network.conv((14, 14), (32, 64), 3, (7, 14, 16), weights_outer=weights_outer)
        program = network.build()
        expected = network.entries[0]["level"]["bytes"].sum(axis=0)
        analysis = analyse(program, TARGET)
        assert analysis.weight_bytes().tolist() == expected.tolist()
        assert (analysis.shares[0].weight_bytes() == analysis.weight_bytes()).all()


def test_cost_does_not_depend_on_loop_counts() -> None:
    network = Network(LEVELS)
    network.conv((1 << 14, 1 << 14), (16, 16), 1, (1, 1, 16))
    program = network.build()
    begin = time.process_time()
    cycles = analyse(program, TARGET).cycles
    assert time.process_time() - begin < 1
    short = Network(LEVELS)
    short.conv((16, 1 << 14), (16, 16), 1, (1, 1, 16))
    fewer = Network(LEVELS)
    fewer.conv((8, 1 << 14), (16, 16), 1, (1, 1, 16))
    step = (analyse(short.build(), TARGET).cycles - analyse(fewer.build(), TARGET).cycles) // 8
    assert (cycles - analyse(short.build(), TARGET).cycles == ((1 << 14) - 16) * step).all()


def test_host_waits_for_all_queues() -> None:
    network = Network(LEVELS)
    network.conv((14, 14), (32, 64), 3, (7, 14, 32))
    one = network.build()
    half = (*one.code[:-1], table.Host(segment=0))
    twice = dataclasses.replace(one, code=half + one.code)
    cycles = analyse(one, TARGET).cycles
    assert (analyse(twice, TARGET).cycles == 2 * cycles).all()


def small(*code: table.Queued | table.Loop | table.End) -> Program:
    network = Network(LEVELS)
    network.conv((8, 8), (16, 16), 1, (8, 8, 16))
    configuration = [i for i in network.code if i.queue == Queue.SEQUENCER]
    return dataclasses.replace(network.build(), code=(*configuration, *code, table.Halt()), debug=())


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ([table.SyncLoad(wait0=3)], "semaphore 3 that nobody signals"),
        ([table.Loop(count=2), table.SyncLoad(signal0=3), table.End()], "leaves signals over"),
        ([table.Mmac(x=0, y=3, act=0, wgt=1, acc=3, layer=0)], "not loaded in the same iteration"),
        ([table.LoadTerms(t=1, p=1), table.Mmac(x=0, y=3, act=0, wgt=1, acc=3, layer=9)], "a layer that the plan"),
        ([table.Loop(count=1 << 23), *[table.Loop(count=1 << 23), table.End()] * 2, table.End()], "takes too long"),
    ],
)
def test_programs_that_a_verifier_would_refuse(code: list[table.Queued], text: str) -> None:
    with pytest.raises((VerificationError, UnsupportedError, ResourceError), match=text):
        analyse(small(*code), TARGET)


def test_too_many_different_iterations() -> None:
    """A box that slides over a large view one element at a time, clipped differently in each of 32768 iterations."""
    walk = table.Walk(t=0, dim=2, origin=-(1 << 16), extent=1 << 16, step=1, loop=0)
    program = small(table.Loop(count=1 << 15), table.Load(t=0, p=0), table.End())
    shape = table.Shape(t=0, n=1, h=1, w=1 << 16, c=1)
    at = next(i for i, instr in enumerate(program.code) if isinstance(instr, table.Loop))
    code = (*program.code[:at], shape, walk, *program.code[at:])
    with pytest.raises(ResourceError, match="iterations that all differ"):
        analyse(dataclasses.replace(program, code=code), TARGET)


def test_weights_replaced_inside_the_loop_of_their_reader_are_refused() -> None:
    load, mmac = table.LoadTerms(t=1, p=1), table.Mmac(x=0, y=3, act=0, wgt=1, acc=3, layer=0)
    analyse(small(load, table.Loop(count=3), mmac, table.End(), load), TARGET)
    with pytest.raises(UnsupportedError):
        analyse(small(load, table.Loop(count=3), mmac, load, table.End()), TARGET)


def test_directory_outside_the_image() -> None:
    program = small(table.LoadTerms(t=1, p=1))
    with pytest.raises(VerificationError, match="outside the image"):
        analyse(dataclasses.replace(program, image=program.image[:8]), TARGET)


def test_unknown_cell() -> None:
    with pytest.raises(UsageError, match="not in target vc707; mmac, bmac"):
        analyse(small(), TARGET, "nmac")


def test_scratchpads_of_the_builders_are_the_targets() -> None:
    assert TARGET.scratchpads == PADS
