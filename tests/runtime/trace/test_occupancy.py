"""Bytes in use of scratchpads and global buffer, recounted byte by byte and line by line."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmac.isa import table
from mmac.isa.program import Program
from mmac.isa.spec import NONE_LOOP
from mmac.isa.structure import Op
from mmac.isa.verify.uses import USES, Content
from mmac.runtime.timing.events import batches
from mmac.runtime.timing.machine import Machine
from mmac.runtime.trace import trace
from tests.runtime.timing.builders import Random
from tests.runtime.trace.documents import TARGET, Case, counters, layers

PAD_BYTES = 1 << 20
"""More than the addresses that the programs here use."""


def executed(case: Case, level: int) -> Iterator[tuple[Op, tuple[int, ...], int, int, int]]:
    """Instructions in program order: operation, loop indices, start and end, bytes of the weight tile."""
    for batch in batches(Machine(case.program, case.target, "mmac"), level):
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


def naive_pads(case: Case, level: int) -> dict[str, Counter[int]]:
    """Changes of the bytes in use of each scratchpad by cycle, byte by byte."""
    start_of, last_of = (np.full((len(table.Pad), PAD_BYTES), -1, np.int64) for _ in range(2))
    changes: dict[str, Counter[int]] = {pad.name.lower(): Counter() for pad in table.Pad}

    def forget(pad: table.Pad, place: slice) -> None:
        known = start_of[pad, place] >= 0
        for times, sign in ((start_of, 1), (last_of, -1)):
            for time, count in zip(*np.unique(times[pad, place][known], return_counts=True), strict=True):
                changes[pad.name.lower()][int(time)] += sign * int(count)

    for op, indices, start, end, tile in executed(case, level):
        for use in USES.get(type(op.instr), ()):
            ring = op.rings[use.ring]
            low = ring.address(indices)
            place = slice(low, low + (tile if use.content is Content.TILE else use.size(op)))
            assert place.stop <= PAD_BYTES
            first = op.instr.first if isinstance(op.instr, table.Mmac) else NONE_LOOP
            if use.writes and not (first < len(indices) and indices[first]):
                forget(ring.pad, place)
                start_of[ring.pad, place], last_of[ring.pad, place] = start, end
            else:
                last = last_of[ring.pad, place]
                last[:] = np.where(start_of[ring.pad, place] >= 0, np.maximum(last, end), last)
    for pad in table.Pad:
        forget(pad, slice(None))
    return changes


def check_counter(document: Mapping[str, Any], memory: str, changes: Counter[int]) -> None:
    """The counter goes up and down by the changes, and does nothing else."""
    (steps,) = (own for name, own in counters(document).items() if name.startswith(f"{memory} bytes"))
    expected, total = [(0.0, 0)], 0
    for cycle in sorted(cycle for cycle, change in changes.items() if change):
        total += changes[cycle]
        expected.append((round(cycle * 1000 / TARGET.clock.mhz) / 1000, total))
    assert total == 0
    assert steps == expected[1 if changes[0] else 0 :]


def check_pads(case: Case, level: int) -> None:
    document = trace(case.program, case.target, level)
    for pad, changes in naive_pads(case, level).items():
        check_counter(document, pad, changes)


def accumulating(program: Program) -> Program:
    """Let every `mmac` inside a loop add to what is there, unless it is in the first iteration of the outermost."""
    depth, code = 0, []
    for instr in program.code:
        depth += isinstance(instr, table.Loop) - isinstance(instr, table.End)
        code.append(replace(instr, first=0) if isinstance(instr, table.Mmac) and depth else instr)
    return replace(program, code=tuple(code))


@settings(max_examples=20)
@given(seed=st.integers(0, 1 << 30))
def test_scratchpads_in_random_code(seed: int) -> None:
    check_pads(Case(accumulating(Random(random.Random(seed)).build()), TARGET), 1)


def test_scratchpads(case: Case) -> None:
    check_pads(case, 4)


def test_sums_are_in_use_between_the_instructions_that_add_to_them() -> None:
    program = accumulating(layers())
    assert program != layers()
    assert counters(trace(program)) != counters(trace(layers()))


def naive_buffer(case: Case, level: int, cycles: int) -> Counter[int]:
    """Changes of the bytes in use of the global buffer by cycle, line by line, tensors as wholes."""
    program = case.program
    base, size = program.buffer
    image = range(base, max(base, program.image.size))
    spans: dict[int, list[Any]] = {}
    for op, _, start, end, _ in executed(case, level):
        if isinstance(op.instr, table.Load | table.Store | table.StoreAcc):
            spans.setdefault(op.pc, [op, start, end])[2] = end
    for batch in batches(Machine(case.program, case.target, "mmac"), level):
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

    def forget(line: int, by: int) -> None:
        start, last, _ = since.pop(line)
        changes[start] += 64
        changes[min(last, by)] -= 64

    def read(touched: set[int], end: int) -> None:
        for line in touched:
            start, last, _ = since.get(line, (0, 0, True))
            since[line] = start, max(last, end), True

    def write(touched: set[int], start: int, end: int) -> None:
        for line in touched:
            if line in since and since[line][2]:
                forget(line, start)
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
        forget(line, cycles)
    whole = -(-len([byte for byte in image if byte < base + size]) // 64) * 64
    changes[0] += whole
    changes[cycles] -= whole
    return changes


def check_buffer(case: Case) -> None:
    document = trace(case.program, case.target, level=4)
    changes = naive_buffer(case, 4, document["otherData"]["cycles"])
    assert sum(change > 0 for change in changes.values()) > 0
    check_counter(document, "buffer", changes)


def test_global_buffer(case: Case) -> None:
    assert case.program.buffer[1] > 0
    check_buffer(case)


def test_everything_in_the_global_buffer(case: Case) -> None:
    """Inputs, outputs and what the host writes too."""
    check_buffer(replace(case, program=replace(case.program, buffer=(0, -(-case.program.dram_bytes // 64) * 64))))


def test_everything_but_the_image_in_the_global_buffer(case: Case) -> None:
    base = -(-case.program.image.size // 64) * 64
    size = -(-case.program.dram_bytes // 64) * 64 - base
    check_buffer(replace(case, program=replace(case.program, buffer=(base, size))))
