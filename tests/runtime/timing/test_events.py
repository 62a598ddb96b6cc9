"""The unrolled model: costs asked for many iterations at once are those of each, hooks, and the sequencer's time."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.isa import table
from mmac.isa.errors import VerificationError
from mmac.isa.program import Program
from mmac.isa.spec import NONE_LOOP, Queue
from mmac.isa.structure import Op, parse
from mmac.runtime.targets import load_target
from mmac.runtime.timing import events as module
from mmac.runtime.timing.analyse import analyse
from mmac.runtime.timing.cost import CYCLES
from mmac.runtime.timing.events import batches, events, executions
from mmac.runtime.timing.machine import At, Machine
from tests.runtime.timing.builders import LEVELS, Network, Random, program, view

TARGET = load_target("vc707")
SEEDS = st.integers(0, 1 << 30)


def network() -> Program:
    made = Network()
    made.conv((28, 28), (32, 64), 3, (8, 28, 16))
    made.conv((28, 28), (64, 64), 3, (7, 14, 32), weights_outer=False)
    return made.build()


@given(seed=SEEDS, level=st.integers(0, len(LEVELS) - 1))
def test_costs_of_many_iterations_are_those_of_each(seed: int, level: int) -> None:
    code = Random(random.Random(seed)).build()
    machine = Machine(code, TARGET, "mmac")
    for batch in batches(machine, level):
        for group in batch.groups:
            for number, position in enumerate(group.positions):
                indices = tuple(index[number] for index in group.at.indices)
                source = group.at.source
                alone = At(machine, indices, source and (source[0], tuple(index[number] for index in source[1])))
                found = np.broadcast_to(CYCLES[type(group.op.instr)](group.op, alone), machine.levels)
                event = batch.events[position]
                assert (event.pc, event.queue) == (group.op.pc, group.op.instr.queue)
                assert event.end - event.start == found[level]


def test_batches_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(events(network(), TARGET, 3))
    monkeypatch.setattr(module, "BATCH", 7)
    assert list(events(network(), TARGET, 3)) == whole


@given(seed=SEEDS)
def test_every_execution_is_one_event(seed: int) -> None:
    code = Random(random.Random(seed)).build()
    found = [event for event in events(code, TARGET, 0) if event.queue != Queue.SEQUENCER]
    assert len(found) == executions(parse(code.code))
    for queue in Queue:
        own = [event for event in found if event.queue == queue]
        assert all(before.end <= after.start for before, after in pairwise(own))


@given(seed=SEEDS)
def test_the_sequencers_events_are_its_whole_time(seed: int) -> None:
    code = Random(random.Random(seed)).build()
    everything = list(events(code, TARGET, 1))
    own = [event for event in everything if event.queue == Queue.SEQUENCER]
    assert own[0].start == 0
    assert all(before.end == after.start for before, after in pairwise(own))
    assert own[-1] == everything[-1]
    assert isinstance(code.code[own[-1].pc], table.Halt)
    assert own[-1].end == max(event.end for event in everything) == analyse(code, TARGET).cycles[1]


def test_durations_can_be_replaced() -> None:
    asked: list[tuple[int, tuple[int, ...]]] = []

    def slow(op: Op, indices: tuple[int, ...]) -> int | None:
        if not isinstance(op.instr, table.Mmac):
            return None
        asked.append((op.pc, indices))
        return 1_000_000 + sum(indices)

    usual, changed = list(events(network(), TARGET, 3)), list(events(network(), TARGET, 3, durations=slow))
    code = network().code
    mmacs = [event for event in changed if isinstance(code[event.pc], table.Mmac)]
    assert [event.end - event.start for event in mmacs] == [1_000_000 + sum(indices) for _, indices in asked]
    assert len({indices for _, indices in asked}) > 10
    others = [(a.end - a.start, b.end - b.start) for a, b in zip(usual, changed, strict=True)
              if isinstance(code[a.pc], table.Queued) and a.queue not in (Queue.SEQUENCER, Queue.COMPUTE)]  # fmt: skip
    assert all(before == after for before, after in others)
    assert changed[-1].end > len(mmacs) * 1_000_000 > usual[-1].end


def test_waiting_is_told_from_being_busy() -> None:
    whole = [(0, 1, 0, NONE_LOOP)] * 3 + [(0, 9000, 0, NONE_LOOP)]
    registers = [
        *view(0, 1 << 20, 1, (1, 1, 1, 9000), (0, 0, 0, 1), whole),
        table.Pointer(p=0, pad=table.Pad.ACT, addr=0),
    ]
    moves = [table.Load(t=0, p=0, signal0=1), table.SyncStore(wait0=1), table.SyncStore()]
    code = program([*registers, *moves], np.zeros(8, np.uint8), [], LEVELS)
    load, store, after = [event for event in events(code, TARGET, 0) if event.queue != Queue.SEQUENCER]
    assert (load.start, load.waited) == (len(registers) + 1, 0)
    assert load.end - load.start > 100
    assert (store.start, store.waited) == (load.end, load.end - (len(registers) + 2))
    assert (after.start, after.waited) == (store.end, 0)


def test_a_signal_that_nobody_gives() -> None:
    code = program([table.SyncStore(wait0=5)], np.zeros(8, np.uint8), [], LEVELS)
    with pytest.raises(VerificationError, match=r"instruction 0: waits for semaphore 5 that nobody signals"):
        list(events(code, TARGET, 0))
