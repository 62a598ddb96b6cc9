"""Tracks of queues, units and layers: the sums that must hold exactly, arguments, options."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.isa import table
from mmac.isa.errors import ResourceError, UsageError
from mmac.isa.spec import Queue
from mmac.isa.structure import parse
from mmac.runtime import estimate
from mmac.runtime.timing.analyse import analyse
from mmac.runtime.timing.events import events, executions
from mmac.runtime.timing.runs import operations
from mmac.runtime.trace import build, trace
from tests.runtime.timing.builders import Random
from tests.runtime.trace.documents import TARGET, Case, layers, slices


def check_sums(case: Case, document: Mapping[str, Any], level: int) -> None:
    """Latest end = latency = sum of the layers' shares, which are those of the analysis; every execution is a slice."""
    analysis = analyse(case.program, case.target)
    cycles = int(analysis.cycles[level])
    groups = slices(document)
    assert document["otherData"]["cycles"] == cycles
    ends = [own[-1]["args"]["end_cycle"] for tracks in groups.values() for own in tracks.values()]
    assert max(ends) == groups["queues"]["sequencer"][-1]["args"]["end_cycle"] == cycles
    shares = groups["layers"]["share of the latency"]
    assert [record["args"]["layer"] for record in shares] == [s.entry.node if s.entry else "" for s in analysis.shares]
    assert [record["args"]["cycles"] for record in shares] == [int(share.cycles[level]) for share in analysis.shares]
    assert sum(record["args"]["cycles"] for record in shares) == cycles
    for own in (shares, groups["queues"]["sequencer"]):
        assert own[0]["args"]["start_cycle"] == 0
        assert all(a["args"]["end_cycle"] == b["args"]["start_cycle"] for a, b in pairwise(own))
    executed = sum(len(own) for name, own in groups["queues"].items() if name != "sequencer")
    assert executed == executions(parse(case.program.code))


@given(seed=st.integers(0, 1 << 30), level=st.integers(0, 2))
def test_sums_of_random_code(seed: int, level: int) -> None:
    case = Case(Random(random.Random(seed)).build(), TARGET)
    check_sums(case, trace(case.program, case.target, level), level)


@pytest.mark.parametrize("level", range(8))
def test_sums(case: Case, level: int) -> None:
    check_sums(case, trace(case.program, case.target, level=level), level)


def test_slices_are_named_by_layer_and_mnemonic() -> None:
    program = layers()
    groups = slices(trace(program, level=3))
    owners = {pc: entry.node for entry in program.debug for pc in range(entry.start, entry.stop)}
    for name, own in groups["queues"].items():
        for record in own:
            if name == "sequencer":
                continue
            instr = program.code[record["args"]["pc"]]
            assert name == instr.queue.name.lower()
            assert record["name"] == f"{owners[record['args']['pc']]} {instr.mnemonic}"
            assert record["args"]["layer"] == owners[record["args"]["pc"]]


def test_layers_at_work_are_the_spans_of_their_instructions(case: Case) -> None:
    groups = slices(trace(case.program, case.target))
    spans: dict[str, tuple[int, int]] = {}
    for name, own in groups["queues"].items():
        for record in own if name != "sequencer" else ():
            layer, first, last = (record["args"][key] for key in ("layer", "start_cycle", "end_cycle"))
            low, high = spans.get(layer, (first, last))
            spans[layer] = min(low, first), max(high, last)
    spans.pop("(between layers)", None)
    lanes = {name: own for name, own in groups["layers"].items() if name != "share of the latency"}
    shown = {
        record["args"]["layer"]: (record["args"]["start_cycle"], record["args"]["end_cycle"])
        for own in lanes.values()
        for record in own
    }
    assert shown == spans
    busiest = max(sum(a < time < b for a, b in spans.values()) for span in spans.values() for time in np.add(span, 0.5))
    assert len(lanes) == busiest


def test_units_work_when_their_queue_does(case: Case) -> None:
    groups = slices(trace(case.program, case.target))
    by_place = {(r["args"]["pc"], r["args"]["start_cycle"]): r for own in groups["queues"].values() for r in own
                if "pc" in r["args"]}  # fmt: skip
    seen = Counter({name: len(own) for name, own in groups["units"].items()})
    expected: Counter[str] = Counter()
    for (pc, _), _record in by_place.items():
        instr = case.program.code[pc]
        if isinstance(instr, table.Mmac):
            expected[instr.unit(0).name.lower()] += 1
        elif isinstance(instr, table.StoreAcc):
            expected["requantizer"] += 1
        elif isinstance(instr, table.Vadd | table.Vmul | table.Vtable | table.Vmax | table.Vavg):
            expected["vector unit"] += 1
    assert seen == expected
    for name, own in groups["units"].items():
        for record in own:
            whole = by_place[record["args"]["pc"], record["args"]["start_cycle"]]["args"]["cycles"]
            assert 0 < record["args"]["cycles"] <= whole
            assert name == "requantizer" or record["args"]["cycles"] == whole


@pytest.mark.parametrize("mac", ["mmac", "pmac", "bmac"])
def test_utilization_adds_up_to_the_reports(case: Case, mac: str) -> None:
    document = trace(case.program, case.target, level=5, mac=mac)
    row = estimate(case.program, case.target, [5], mac).levels[0]
    assert document["otherData"] | {"cycles": row.cycles} == document["otherData"]
    busy = sum(r["args"]["utilization"] * r["args"]["cycles"] for name in ("array", "multipliers")
               for r in slices(document)["units"].get(name, ()))  # fmt: skip
    assert busy / row.cycles == pytest.approx(row.utilization, abs=1e-4)


def test_arguments_explain_the_duration() -> None:
    """As docs/hardware.md says how long an `mmac` on the array takes, for a layer of 28 × 28 in tiles of 8 × 28."""
    array = TARGET.array
    document = trace(layers(), level=3)
    checked = 0
    for record in slices(document)["units"]["array"]:
        args = record["args"]
        if args["layer"] != "conv0":
            continue
        tile, row = map(int, args["iteration"].split(", "))
        assert 0 <= tile < 4
        beats = -(-(224 if row < 3 else 112) // 16) * args["beat_cycles"]
        load = array.rows * args["alpha"]
        encode = -(-16 * array.rows * layers().plan.levels[3].beta // array.encoders)
        around = array.pipeline_cycles + max(load, encode) + array.rows + array.columns - 2
        assert args["cycles"] == around + (args["passes"] - 1) * max(beats, load) + beats
        assert args["passes"] == -(-18 // array.rows) * -(-8 // array.columns) * args["rounds"]
        assert args["blocks"] == 32 // args["rounds"]
        checked += 1
    assert checked == 16


def test_waiting(case: Case) -> None:
    played = {(e.pc, e.start): e.waited for e in events(case.program, case.target, 3) if e.queue != Queue.SEQUENCER}
    groups = slices(trace(case.program, case.target, 3))["queues"]
    shown = {(r["args"]["pc"], r["args"]["start_cycle"]): r["args"]["waited_cycles"]
             for name, own in groups.items() if name != "sequencer" for r in own}  # fmt: skip
    assert shown == played
    assert max(shown.values()) > 0


def test_budgets_of_an_mmac(case: Case) -> None:
    for record in slices(trace(case.program, case.target, level=3))["units"].get("array", ()):
        instr, args = case.program.code[record["args"]["pc"]], record["args"]
        assert isinstance(instr, table.Mmac)
        budget = case.program.plan.layers[instr.layer].levels[3]
        assert 0 < args["alpha"] <= budget.alpha
        assert args["beta"] == budget.beta
        assert args["gamma"] == args["alpha"] * args["beta"]
        assert args["beat_cycles"] >= max(args["gamma"], case.target.array.columns)
        assert 0 < args["blocks"] <= case.target.array.blocks


# ------------------------------------------------------------------------------------------------------------- options


def test_the_level_is_the_one_asked_for(case: Case) -> None:
    for level, chosen in ((None, "20x3"), (0, "8x2"), ("14x2", "14x2"), (case.program.plan.levels[1], "10x2")):
        about = trace(case.program, case.target, level=level)["otherData"]
        assert about["level"] == chosen
        assert about["model"] == case.program.name
        assert (about["target"], about["mac"], about["clock_mhz"]) == (case.target.name, "mmac", 170.0)
        assert about["gamma"] == about["alpha"] * about["beta"]
    with pytest.raises(UsageError, match="level '9x2': not in this program"):
        trace(case.program, case.target, level="9x2")


def test_unknown_cell(case: Case) -> None:
    with pytest.raises(UsageError, match="cell 'xmac': not in target"):
        trace(case.program, case.target, mac="xmac")


def test_too_many_events(monkeypatch: pytest.MonkeyPatch) -> None:
    program = layers()
    count = executions(parse(program.code))
    monkeypatch.setattr(build, "MAX_EVENTS", count)
    trace(program)
    monkeypatch.setattr(build, "MAX_EVENTS", count - 1)
    with pytest.raises(
        ResourceError, match=f"trace of test: {count} instructions are executed, loops counted; at most"
    ):
        trace(program)


def test_executions_are_counted_not_walked() -> None:
    """A program of 2^48 iterations is refused at once."""
    code = (*[table.Loop(count=1 << 12)] * 4, table.SyncLoad(), *[table.End()] * 4, table.Halt())
    with pytest.raises(ResourceError, match="281474976710656 instructions are executed"):
        trace(replace(layers(), code=code, debug=()))


def test_every_queue_has_a_track(case: Case) -> None:
    names = [r["args"]["name"] for r in trace(case.program, case.target)["traceEvents"] if r["name"] == "thread_name"]
    assert names[: len(Queue)] == ["sequencer", "load", "weights", "compute", "store"]
    assert {queue.name.lower() for queue in Queue} == set(names[: len(Queue)])
    used = {op.instr.queue for op, _ in operations(parse(case.program.code))}
    assert used >= {Queue.LOAD, Queue.WEIGHTS, Queue.COMPUTE, Queue.STORE}
