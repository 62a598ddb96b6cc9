"""Traces: the format, the sums that must hold exactly, and counters against naive recounts."""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmac.compiler import Options, compile_model
from mmac.isa import table
from mmac.isa.errors import ResourceError, UsageError
from mmac.isa.program import Program
from mmac.isa.spec import Queue
from mmac.isa.structure import Op, parse
from mmac.isa.verify.uses import USES, Content
from mmac.runtime import estimate
from mmac.runtime.targets import load_target
from mmac.runtime.timing.analyse import analyse
from mmac.runtime.timing.cost import Action, Machine
from mmac.runtime.timing.events import batches, executions
from mmac.runtime.timing.formulas import ArrayWork
from mmac.runtime.timing.runs import operations
from mmac.runtime.trace import build, trace, write_trace
from mmac.runtime.trace.facts import parts_per_block
from mmac.runtime.trace.timeline import Timeline
from tests.compiler import nets
from tests.runtime.timing.builders import Network, Random

TARGET = load_target("vc707")
Records = list[dict[str, Any]]
Steps = list[tuple[float, float]]


@pytest.fixture(scope="module", params=["residual", "branches", "sequence"])
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Small networks that between them use every unit, and the host."""
    path = nets.save(request.param, tmp_path_factory.mktemp("nets"))
    return compile_model(path, Options(calibration=nets.inputs(nets.build(request.param)))).program


def layers() -> Program:
    """Layers whose parts do not fill all blocks evenly."""
    made = Network()
    made.conv((28, 28), (32, 64), 3, (8, 28, 16))
    made.conv((14, 14), (64, 40), 1, (5, 14, 40), weights_outer=False)
    made.conv((9, 9), (16, 16), 3, (9, 9, 16), depthwise=True)
    return made.build()


def slices(document: Mapping[str, Any]) -> dict[str, dict[str, Records]]:
    """Slices by group and track, in order of time."""
    names: dict[tuple[str, int], str] = {}
    found: dict[str, dict[str, Records]] = defaultdict(lambda: defaultdict(list))
    for record in document["traceEvents"]:
        if record["ph"] == "M" and "name" in record["args"]:
            names[record["name"], record["tid"]] = record["args"]["name"]
    for record in document["traceEvents"]:
        if record["ph"] == "X":
            found[names["process_name", record["pid"]]][names["thread_name", record["tid"]]].append(record)
    for tracks in found.values():
        for own in tracks.values():
            own.sort(key=lambda record: record["args"]["start_cycle"])
    return found


def counters(document: Mapping[str, Any]) -> dict[str, Steps]:
    """Counters by name and unit: µs and value."""
    found: dict[str, Steps] = defaultdict(list)
    for record in document["traceEvents"]:
        if record["ph"] == "C":
            ((unit, value),) = record["args"].items()
            found[f"{record['name']} {unit}"].append((record["ts"], value))
    return found


# ------------------------------------------------------------------------------------------------------------- format


def check_format(document: Mapping[str, Any]) -> None:
    """The rules of the trace-event format."""
    assert document["displayTimeUnit"] == "ns"
    named: dict[str, set[int]] = {"process_name": set(), "thread_name": set()}
    ordered: dict[str, set[int]] = {"process_sort_index": set(), "thread_sort_index": set()}
    for record in document["traceEvents"]:
        assert record.keys() >= {"ph", "ts", "pid", "tid", "name", "args"}
        assert type(record["pid"]) is type(record["tid"]) is int
        assert isinstance(record["name"], str)
        assert math.isfinite(record["ts"])
        assert record["ts"] >= 0
        if record["ph"] == "M":
            number = record["pid"] if record["name"].startswith("process") else record["tid"]
            names = named | ordered
            assert number not in names[record["name"]]
            names[record["name"]].add(number)
        elif record["ph"] == "X":
            assert record["dur"] >= 0
            assert record["pid"] in named["process_name"]
            assert record["tid"] in named["thread_name"]
        else:
            assert record["ph"] == "C"
            assert record["pid"] in named["process_name"]
            assert all(type(value) in (int, float) and math.isfinite(value) for value in record["args"].values())
    assert list(named.values()) == list(ordered.values())


def check_times(document: Mapping[str, Any]) -> None:
    """No track has overlaps, neither in cycles nor in the ns that Perfetto rounds to; times are those of the cycles."""
    for tracks in slices(document).values():
        for own in tracks.values():
            for record in own:
                first, last = record["args"]["start_cycle"], record["args"]["end_cycle"]
                assert record["args"]["cycles"] == last - first >= 0
                assert abs(record["ts"] - first / TARGET.clock.mhz) <= 0.000_5001
                assert abs(record["ts"] + record["dur"] - last / TARGET.clock.mhz) <= 0.000_5001
            for before, after in pairwise(own):
                assert before["args"]["end_cycle"] <= after["args"]["start_cycle"]
                assert round(before["ts"] * 1000) + round(before["dur"] * 1000) <= round(after["ts"] * 1000)


@pytest.mark.parametrize("level", [0, 7])
def test_format_and_times(compiled: Program, level: int) -> None:
    document = trace(compiled, level=level)
    check_format(document)
    check_times(document)


@given(seed=st.integers(0, 1 << 30), level=st.integers(0, 2))
def test_format_and_times_of_random_code(seed: int, level: int) -> None:
    program = Random(random.Random(seed)).build()
    document = trace(program, TARGET, level)
    check_format(document)
    check_times(document)
    check_sums(program, document, level)


def test_the_file_is_the_document(compiled: Program, tmp_path: Path) -> None:
    write_trace(compiled, tmp_path / "trace.json", level=2)
    text = (tmp_path / "trace.json").read_text("ascii")
    assert json.loads(text, parse_constant=pytest.fail) == json.loads(json.dumps(trace(compiled, level=2)))
    assert all(len(line) < 1000 for line in text.splitlines())
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]


def test_a_file_that_cannot_be_written(compiled: Program, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be written \(No such file or directory\)"):
        write_trace(compiled, tmp_path / "nowhere" / "trace.json")


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", 'quo"te\n\x1b[2J', "ß…\udcff", "/very/long" * 1000])
def test_names_are_text(name: str, tmp_path: Path) -> None:
    program = layers()
    debug = (replace(program.debug[0], node=name), *program.debug[1:])
    write_trace(replace(program, debug=debug), tmp_path / "trace.json")
    document = json.loads((tmp_path / "trace.json").read_text("ascii"))
    check_format(document)
    first = slices(document)["layers"]["share of the latency"][0]
    assert first["args"]["layer"] == name
    labels = {record["name"] for record in document["traceEvents"] if record["ph"] == "X"}
    assert max(map(len, labels)) <= 100
    label = name if len(name) <= 80 else f"{name[:39]}…{name[-40:]}"
    assert {label, f"{label} mmac", f"dispatch {label}"} <= labels


# --------------------------------------------------------------------------------------------------------------- sums


def check_sums(program: Program, document: Mapping[str, Any], level: int) -> None:
    """Latest end = latency = sum of the layers' shares, which are those of the analysis; every execution is a slice."""
    analysis = analyse(program, TARGET)
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
    assert executed == executions(parse(program.code))


@pytest.mark.parametrize("level", range(8))
def test_sums(compiled: Program, level: int) -> None:
    check_sums(compiled, trace(compiled, level=level), level)


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


def test_layers_at_work_are_the_spans_of_their_instructions(compiled: Program) -> None:
    groups = slices(trace(compiled))
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


def test_units_work_when_their_queue_does(compiled: Program) -> None:
    groups = slices(trace(compiled))
    by_place = {(r["args"]["pc"], r["args"]["start_cycle"]): r for own in groups["queues"].values() for r in own
                if "pc" in r["args"]}  # fmt: skip
    seen = Counter({name: len(own) for name, own in groups["units"].items()})
    expected: Counter[str] = Counter()
    for (pc, _), _record in by_place.items():
        instr = compiled.code[pc]
        if isinstance(instr, table.Mmac):
            expected[table.Unit(instr.unit).name.lower()] += 1
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
def test_utilization_adds_up_to_the_reports(compiled: Program, mac: str) -> None:
    document = trace(compiled, level=5, mac=mac)
    row = estimate(compiled, levels=[5], mac=mac).levels[0]
    assert document["otherData"] | {"cycles": row.cycles} == document["otherData"]
    busy = sum(r["args"]["utilization"] * r["args"]["cycles"] for name in ("array", "multipliers")
               for r in slices(document)["units"].get(name, ()))  # fmt: skip
    assert busy / row.cycles == pytest.approx(row.utilization, abs=1e-4)


def test_budgets_of_an_mmac(compiled: Program) -> None:
    level = compiled.plan.levels[3]
    for record in slices(trace(compiled, level=3))["units"].get("array", ()):
        instr, args = compiled.code[record["args"]["pc"]], record["args"]
        assert isinstance(instr, table.Mmac)
        budget = compiled.plan.layers[instr.layer].levels[3]
        assert 0 < args["alpha"] <= budget.alpha
        assert args["beta"] == budget.beta
        assert args["gamma"] == args["alpha"] * args["beta"]
        assert args["beat_cycles"] >= max(args["gamma"], TARGET.array.columns)
        assert 0 < args["blocks"] <= TARGET.array.blocks
    assert level in compiled.plan.levels


# -------------------------------------------------------------------------------------------------------------- blocks


def dealt(blocks: int, work: ArrayWork) -> list[int]:
    """The parts of each block, one by one, as docs/hardware.md says."""
    found = [0] * blocks
    s = min(work.split_n, work.conv_groups)
    q = work.split_n // s
    sizes = [-(-work.m // work.split_m), -(-work.conv_groups // s), -(-work.n // q), -(-work.g // work.split_k)]
    for pm, ps, pq, pk in product(range(work.split_m), range(s), range(q), range(work.split_k)):
        wholes = work.m, work.conv_groups, work.n, int(work.g)
        empty = any(part * size >= whole for part, size, whole in zip((pm, ps, pq, pk), sizes, wholes, strict=True))
        if not empty:
            found[((pm * work.split_n + ps * q + pq) * work.split_k + pk) % blocks] += 1
    return found


@given(
    blocks=st.integers(1, 20),
    sizes=st.tuples(st.integers(1, 30), st.integers(1, 20), st.integers(1, 200), st.integers(1, 9)),
    split=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
)
def test_parts_per_block(blocks: int, sizes: tuple[int, ...], split: tuple[int, ...]) -> None:
    work = ArrayWork(*sizes, *split)
    assert parts_per_block(blocks, work).tolist() == dealt(blocks, work)


def test_nothing_to_do_is_no_part() -> None:
    assert not parts_per_block(8, ArrayWork(0, 4, 16)).any()
    assert not parts_per_block(8, ArrayWork(4, 0, 16)).any()


def test_tracks_of_blocks_are_all_blocks() -> None:
    document = trace(layers(), level=3)
    groups = slices(document)
    members: dict[str, list[int]] = {}
    for name in groups["blocks of the array"]:
        ranges = [part.split("-") for part in name.removeprefix("block").removeprefix("s").strip().split(", ")]
        members[name] = [block for ends in ranges for block in range(int(ends[0]), int(ends[-1]) + 1)]
    assert len(members) > 2
    assert len({block for own in members.values() for block in own}) == sum(map(len, members.values()))
    in_use = counters(document)[f"array blocks of {TARGET.array.blocks}"]
    for record in groups["units"]["array"]:
        at = [len(members[name]) for name, own in groups["blocks of the array"].items()
              if any(r["ts"] == record["ts"] for r in own)]  # fmt: skip
        assert sum(at) == record["args"]["blocks"] == value_at(in_use, record["ts"])


def value_at(steps: Steps, time: float) -> float:
    return next(value for when, value in reversed(steps) if when <= time)


# ------------------------------------------------------------------------------------------------------------ memories


def integral(steps: Steps) -> float:
    assert steps[-1][1] == 0
    return sum(value * (after - time) for (time, value), (after, _) in pairwise(steps))


def test_traffic_is_that_of_the_analysis(compiled: Program) -> None:
    document = trace(compiled, level=6)
    actions = analyse(compiled, TARGET).actions
    found = counters(document)
    names = {"DRAM read": Action.DRAM_READ, "DRAM write": Action.DRAM_WRITE,
             "buffer read": Action.BUFFER_READ, "buffer write": Action.BUFFER_WRITE}  # fmt: skip
    total = 0.0
    for name, action in names.items():
        steps = found.get(f"{name} GB/s", [(0, 0)])
        # GB/s × µs = KB; the times are rounded to ns, which matters for the shortest transfers
        assert integral(steps) * 1000 == pytest.approx(int(actions[action][6]), rel=1e-2)
        bytes_ = sum(r["args"].get(f"{action}_bytes", 0) for own in slices(document)["queues"].values() for r in own)
        assert bytes_ == actions[action][6]
        total += bytes_
    assert total > 0


def executed(program: Program, level: int) -> Iterator[tuple[Op, tuple[int, ...], int, int, int]]:
    """Instructions in program order: operation, loop indices, start and end, bytes of the weight tile."""
    for batch in batches(Machine(program, TARGET, "mmac"), level):
        rows = {}
        for group in batch.groups:
            for number, position in enumerate(group.positions):
                indices = tuple(int(index[number, 0]) for index in group.at.indices)
                tile = 0
                if group.at.source is not None:
                    sizes = group.at.tile().size
                    tile = int(np.broadcast_to(sizes, (len(group.positions), sizes.shape[-1]))[number, level])
                rows[position] = group.op, indices, batch.events[position].start, batch.events[position].end, tile
        for position in sorted(rows):
            yield rows[position]


def naive_pads(program: Program, level: int) -> dict[str, Counter[int]]:
    """Changes of the bytes in use of each scratchpad by cycle, byte by byte."""
    since: dict[tuple[str, int], tuple[int, int]] = {}
    changes: dict[str, Counter[int]] = {pad.name.lower(): Counter() for pad in table.Pad}

    def forget(pad: str, byte: int) -> None:
        start, last = since.pop((pad, byte))
        changes[pad][start] += 1
        changes[pad][last] -= 1

    for op, indices, start, end, tile in executed(program, level):
        for use in USES.get(type(op.instr), ()):
            ring = op.rings[use.ring]
            pad, low = ring.pad.name.lower(), ring.address(indices)
            size = tile if use.content is Content.TILE else use.size(op)
            adds = isinstance(op.instr, table.Mmac) and use.writes and op.instr.first < len(indices)
            for byte in range(low, low + size):
                if use.writes and not (adds and indices[op.instr.first]):
                    if (pad, byte) in since:
                        forget(pad, byte)
                    since[pad, byte] = start, end
                elif (pad, byte) in since:
                    since[pad, byte] = since[pad, byte][0], max(end, since[pad, byte][1])
    for pad, byte in list(since):
        forget(pad, byte)
    return changes


def in_use(document: Mapping[str, Any], pad: str, cycle: int) -> float:
    (steps,) = (own for name, own in counters(document).items() if name.startswith(f"{pad} bytes"))
    return value_at(steps, round(cycle * 1000 / TARGET.clock.mhz) / 1000)


def check_pads(program: Program, level: int) -> None:
    document = trace(program, TARGET, level)
    for pad, changes in naive_pads(program, level).items():
        total = 0
        for cycle in sorted(changes):
            total += changes[cycle]
            assert in_use(document, pad, cycle) == total
        assert total == 0


@settings(max_examples=10)
@given(seed=st.integers(0, 1 << 30))
def test_bytes_in_use_of_random_code(seed: int) -> None:
    check_pads(Random(random.Random(seed)).build(), 1)


def test_bytes_in_use(compiled: Program) -> None:
    check_pads(compiled, 4)


def test_memories_do_not_overflow(compiled: Program) -> None:
    found = counters(trace(compiled))
    sizes = {name: int(name.rpartition(" ")[2].replace(",", "")) for name in found if " bytes of " in name}
    assert {name.split()[0] for name in sizes} == {"act", "aux", "out", "wgt", "prm", "acc", "buffer"}
    for name, size in sizes.items():
        values = [value for _, value in found[name]]
        assert min(values) >= 0
        assert max(values) <= size
    assert max(value for _, value in found[next(name for name in sizes if name.startswith("act"))]) > 0


def naive_buffer(program: Program, level: int, cycles: int) -> Counter[int]:
    """Changes of the bytes in use of the global buffer by cycle, line by line, tensors as wholes."""
    base, size = program.buffer
    image = range(base, max(base, program.image.size))
    spans: dict[int, list[Any]] = {}
    for op, _, start, end, _ in executed(program, level):
        if isinstance(op.instr, table.Load | table.Store | table.StoreAcc):
            spans.setdefault(op.pc, [op, start, end])[2] = end
    for batch in batches(Machine(program, TARGET, "mmac"), level):
        for event in batch.events:
            if isinstance(program.code[event.pc], table.Host):
                spans[event.pc] = [None, event.end, event.end]

    def lines(first: int, elem: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> set[int]:
        found = set()
        for index in product(*(range(n) for n in shape)):
            address = first + sum(i * stride for i, stride in zip(index, strides, strict=True))
            found |= {byte // 64 for byte in range(address, address + elem)
                      if base <= byte < base + size and byte not in image}  # fmt: skip
        return found

    def placed(names: tuple[str, ...]) -> set[int]:
        found: set[int] = set()
        for tensor in (program.tensor[name] for name in names):
            if tensor.place:
                elem = np.dtype(tensor.dtype).itemsize
                found |= lines(tensor.place.base, elem, tensor.shape, tensor.place.strides)
        return found

    since: dict[int, tuple[int, int, bool]] = {}
    changes: Counter[int] = Counter()

    def forget(line: int) -> None:
        start, last, _ = since.pop(line)
        changes[start] += 64
        changes[last] -= 64

    def read(touched: set[int], end: int) -> None:
        for line in touched:
            start, last, _ = since.get(line, (0, 0, True))
            since[line] = start, max(last, end), True

    def write(touched: set[int], start: int, end: int) -> None:
        for line in touched:
            if line in since and since[line][2]:
                forget(line)
            first, last, _ = since.get(line, (start, end, False))
            since[line] = first, max(last, end), False

    for pc, (op, start, end) in sorted(spans.items()):
        instr = program.code[pc]
        if isinstance(instr, table.Host):
            read(placed(program.host[instr.segment].inputs), end)
            write(placed(program.host[instr.segment].outputs), end, end)
            continue
        view = op.views["t"]
        touched = lines(view.base, view.elem, view.shape, view.strides)
        if isinstance(instr, table.Load):
            read(touched, end)
        else:
            write(touched, start, end)
    read(placed(tuple(name for port in program.outputs for name in port.tensors)), cycles)
    for line in list(since):
        forget(line)
    whole = -(-len([byte for byte in image if byte < base + size]) // 64) * 64
    changes[0] += whole
    changes[cycles] -= whole
    return changes


def test_bytes_in_use_of_the_global_buffer(compiled: Program) -> None:
    document = trace(compiled, level=4)
    assert compiled.buffer[1] > 0
    total = 0
    changes = naive_buffer(compiled, 4, document["otherData"]["cycles"])
    assert len(changes) > 3
    for cycle in sorted(changes):
        total += changes[cycle]
        assert in_use(document, "buffer", cycle) == total
    assert total == 0


def test_no_counters_of_a_buffer_that_there_is_not() -> None:
    assert not [name for name in counters(trace(layers())) if name.startswith("buffer")]


def test_a_timeline_begins_at_zero_and_keeps_no_rests() -> None:
    line = Timeline()
    assert line.steps() == [(0, 0)]
    for start in range(3, 3000, 7):
        line.add(start, start + 7, 0.1)
        line.add(start, start + 5, 1 / 3)
    steps = line.steps()
    assert steps[0] == (0, 0)
    assert steps[-1] == (3006, 0)
    assert [value for _, value in steps[1:-1]] == [0.433333, 0.1] * 429


# ------------------------------------------------------------------------------------------------------------- options


def test_the_level_is_the_one_asked_for(compiled: Program) -> None:
    for level, chosen in ((None, "20x3"), (0, "8x2"), ("14x2", "14x2"), (compiled.plan.levels[1], "10x2")):
        about = trace(compiled, level=level)["otherData"]
        assert about["level"] == chosen
        assert about["model"] == compiled.name
        assert (about["target"], about["mac"], about["clock_mhz"]) == ("vc707", "mmac", 170.0)
        assert about["gamma"] == about["alpha"] * about["beta"]
    with pytest.raises(UsageError, match="level '9x2': not in this program"):
        trace(compiled, level="9x2")


def test_unknown_cell(compiled: Program) -> None:
    with pytest.raises(UsageError, match="cell 'xmac': not in target vc707"):
        trace(compiled, mac="xmac")


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


def test_every_queue_has_a_track(compiled: Program) -> None:
    names = [r["args"]["name"] for r in trace(compiled)["traceEvents"] if r["name"] == "thread_name"]
    assert names[: len(Queue)] == ["sequencer", "load", "weights", "compute", "store"]
    assert {queue.name.lower() for queue in Queue} == set(names[: len(Queue)])
    used = {op.instr.queue for op, _ in operations(parse(compiled.code))}
    assert used >= {Queue.LOAD, Queue.WEIGHTS, Queue.COMPUTE, Queue.STORE}
