"""Dataflow, held against a plain execution that remembers for every byte who has written it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmac.isa import table
from mmac.isa.plan import PAPER_LEVELS
from mmac.isa.program import Program, TensorInfo
from mmac.isa.structure import Node, Op, View, parse
from mmac.runtime.dataflow import INPUTS, Dataflow, dataflow
from mmac.runtime.targets import load_target
from mmac.runtime.timing.analyse import analyse
from tests.runtime.programs import PLAIN, Builder, Tensor

ARENA = 192


# ------------------------------------------------------------------------------------------------------------- oracle


@dataclass
class Byte:
    """One content of one byte."""

    writer: int
    readers: set[int] = field(default_factory=set)


def addresses(view: View, indices: list[int]) -> Iterator[int]:
    ranges = view.inside(indices, 0)
    starts = view.starts(indices, 0)
    coordinates = [[start + i for i in range(*bounds)] for start, bounds in zip(starts, ranges, strict=True)]
    for point in itertools.product(*coordinates):
        first = view.base + sum(p * stride for p, stride in zip(point, view.strides, strict=True))
        yield from range(first, first + view.elem)


def tensor_addresses(tensor: TensorInfo) -> Iterator[int]:
    assert tensor.place is not None
    for point in np.ndindex(*tensor.shape):
        first = tensor.place.base + sum(p * stride for p, stride in zip(point, tensor.place.strides, strict=True))
        yield from range(first, first + np.dtype(tensor.dtype).itemsize)


def executed(program: Program) -> tuple[dict[tuple[int, int], int], dict[str, list[int]]]:
    """Edges and live bytes, by executing every iteration; parts are debug entries and what is between them."""
    memory: dict[int | str, Byte] = {}
    ended: list[tuple[int | str, Byte]] = []
    entries: list[object] = []

    def write(part: int, cells: Iterator[int | str]) -> None:
        for cell in cells:
            if cell in memory:
                ended.append((cell, memory[cell]))
            memory[cell] = Byte(part)

    def host(part: int, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        for name in inputs:
            for cell in cells_of(name):
                memory[cell].readers.add(part)
        for name in outputs:
            write(part, iter(cells_of(name)))

    def cells_of(name: str) -> list[int | str]:
        tensor = program.tensor[name]
        size = int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize
        return list(tensor_addresses(tensor)) if tensor.place else [f"{name}[{i}]" for i in range(size)]

    def run(node: Node, part: int, indices: list[int], stores: bool) -> None:
        if not isinstance(node, Op):
            for index in range(node.count):
                for child in node.body:
                    run(child, part, [*indices, index], stores)
        elif isinstance(node.instr, table.Load) and not stores:
            for cell in addresses(node.views["t"], indices):
                if cell in memory:
                    memory[cell].readers.add(part)
        elif isinstance(node.instr, table.Store | table.StoreAcc) and stores:
            write(part, addresses(node.views["t"], indices))

    host(INPUTS, (), tuple(name for port in program.inputs for name in port.tensors))
    for node in parse(program.code):
        entry = next((e for e in program.debug if e.start <= node.pc < e.stop), None)
        if not entries or entries[-1] != entry:
            entries.append(entry)
        part = len(entries) - 1
        if isinstance(node, Op) and isinstance(node.instr, table.Host):
            segment = program.host[node.instr.segment]
            host(part, segment.inputs, segment.outputs)
        for stores in (False, True):
            run(node, part, [], stores)
    host(len(entries), tuple(name for port in program.outputs for name in port.tensors), ())
    contents = ended + list(memory.items())
    edges = Counter((byte.writer, reader) for _, byte in contents for reader in byte.readers if reader != byte.writer)
    live = {"buffer": [0] * len(entries), "dram": [0] * len(entries)}
    base, size = program.buffer
    for cell, byte in contents:
        if isinstance(cell, int):
            where = "buffer" if base <= cell < base + size else "dram"
            for part in range(max(0, byte.writer), min(len(entries) - 1, max(byte.readers | {byte.writer})) + 1):
                live[where][part] += 1
    return dict(sorted(edges.items())), live


def check(program: Program) -> Dataflow:
    flow = dataflow(program)
    edges, live = executed(program)
    assert dict(flow.edges) == edges
    assert {memory: values.tolist() for memory, values in flow.live.items()} == live
    # the timing model refuses transfers that are partly in the buffer
    shares = analyse(replace(program, buffer=(0, 0)), load_target("vc707")).shares
    assert [part.entry for part in flow.parts] == [share.entry for share in shares]
    return flow


def named(program: Program) -> dict[tuple[str, str], int]:
    """Edges by the names of nodes."""
    flow = check(program)
    names = {INPUTS: "input", len(flow.parts): "output"}
    names |= {number: part.entry.node for number, part in enumerate(flow.parts) if part.entry}
    return {(names[start], names[stop]): size for (start, stop), size in flow.edges.items()}


# -------------------------------------------------------------------------------------------------------------- tests


def builder() -> Builder:
    return Builder(PAPER_LEVELS[:2], image_bytes=64)


def rename(build: Builder, *names: str) -> None:
    """Name the nodes that have been emitted."""
    assert len(build.debug) == len(names)
    build.debug = [
        type(entry)(entry.start, entry.stop, name, entry.op) for entry, name in zip(build.debug, names, strict=True)
    ]


def test_a_residual_has_two_readers() -> None:
    build = builder()
    x = build.tensor("x", (1, 2, 2, 4))
    build.input("x", "uint8", "x")
    a, b, y = (build.tensor(name, (1, 2, 2, 4)) for name in "aby")
    build.move(x, a, (1, 1, 2, 4))
    build.move(a, b, (1, 2, 1, 4))
    build.elementwise("vadd", (a, b), y, PLAIN, (1, 1, 1, 4))
    build.output("y", "uint8", "y")
    rename(build, "first", "second", "add")
    assert named(build.build()) == {
        ("input", "first"): 16,
        ("first", "second"): 16,
        ("first", "add"): 16,
        ("second", "add"): 16,
        ("add", "output"): 16,
    }


def test_channels_concatenated_in_place_keep_their_writers() -> None:
    """Interleaved bytes: a bounding box would link each reader with both writers."""
    build = builder()
    x = build.tensor("x", (1, 3, 3, 2))
    build.input("x", "uint8", "x")
    both = build.tensor("both", (1, 3, 3, 5))
    left = Tensor("left", both.base, (1, 3, 3, 2), both.strides)
    right = Tensor("right", both.base + 2, (1, 3, 3, 3), both.strides)
    y, z, whole = (build.tensor(name, (1, 3, 3, c)) for name, c in (("y", 2), ("z", 3), ("whole", 5)))
    build.move(x, left, (1, 2, 2, 2))
    build.move(x, right, (1, 1, 3, 3), fill=7)
    build.move(left, y, (1, 3, 3, 1))
    build.move(right, z, (1, 3, 3, 3))
    build.move(both, whole, (1, 3, 3, 5))
    for tensor in (y, z, whole):
        build.output(tensor.name, "uint8", tensor.name)
    rename(build, "left", "right", "y", "z", "whole")
    edges = named(build.build())
    assert {start for start, stop in edges if stop == "y"} == {"left"}
    assert {start for start, stop in edges if stop == "z"} == {"right"}
    assert (edges["left", "whole"], edges["right", "whole"]) == (18, 27)


def test_reused_memory_belongs_to_its_last_writer() -> None:
    build = builder()
    x = build.tensor("x", (1, 1, 4, 4))
    build.input("x", "uint8", "x")
    a, b = build.tensor("a", (1, 1, 4, 4)), build.tensor("b", (1, 1, 4, 4))
    again = build.tensor("again", (1, 1, 2, 4), base=a.base)
    y = build.tensor("y", (1, 1, 4, 4))
    build.move(x, a, (1, 1, 4, 4))
    build.move(a, b, (1, 1, 4, 4))
    build.move(b, again, (1, 1, 2, 4))
    build.move(a, y, (1, 1, 4, 4))
    build.output("y", "uint8", "y")
    rename(build, "a", "b", "again", "y")
    program = build.build()
    edges = named(program)
    assert edges["a", "y"] == edges["again", "y"] == 8
    live = dataflow(program).live["dram"]
    parts = [part.entry.node if part.entry else "" for part in dataflow(program).parts]
    # x, a | a, b | the upper half of a, the half of b that is read, again | the upper half of a, again, y
    assert [int(live[parts.index(name)]) for name in ("a", "b", "again", "y")] == [32, 32, 8 + 8 + 8, 8 + 8 + 16]


def test_what_is_never_read_lives_in_its_writer_only() -> None:
    build = builder()
    x = build.tensor("x", (1, 1, 1, 8))
    build.input("x", "uint8", "x")
    lost, y = build.tensor("lost", (1, 1, 1, 8)), build.tensor("y", (1, 1, 1, 8))
    build.move(x, lost, (1, 1, 1, 8))
    build.move(x, y, (1, 1, 1, 8))
    build.output("y", "uint8", "y")
    program = build.build()
    flow = check(program)
    rows = [number for number, part in enumerate(flow.parts) if part.entry]
    assert flow.live["dram"][rows].tolist() == [16, 16]
    assert all(stop != rows[1] for start, stop in flow.edges if start == rows[0])


def test_host_segments_hand_on_what_only_the_host_holds() -> None:
    build = builder()
    x = build.tensor("x", (1, 1, 1, 8))
    build.input("x", "uint8", "x")
    a, b, y = (build.tensor(name, (1, 1, 1, 8)) for name in "aby")
    build.tensors["state"] = TensorInfo("state", "float32", (3, 5))
    build.move(x, a, (1, 1, 1, 8))
    build.host(b"", ("a",), ("b", "state"))
    build.move(b, y, (1, 1, 1, 4))
    build.host(b"", ("state", "y"), ())
    build.output("b", "uint8", "b")
    flow = check(build.build())
    hosts = [n for n, part in enumerate(flow.parts) if any(isinstance(s[0].op.instr, table.Host) for s in part.nodes)]
    assert flow.edges[hosts[0], hosts[1]] == 3 * 5 * 4
    assert a.base != b.base


def test_bytes_in_the_buffer_are_counted_apart() -> None:
    build = builder()
    x = build.tensor("x", (1, 1, 1, 64))
    build.input("x", "uint8", "x")
    a, y = build.tensor("a", (1, 1, 1, 64)), build.tensor("y", (1, 1, 1, 64))
    build.move(x, a, (1, 1, 1, 64))
    build.move(a, y, (1, 1, 1, 64))
    build.output("y", "uint8", "y")
    flow = check(build.build(buffer=(a.base, 32)))
    rows = [number for number, part in enumerate(flow.parts) if part.entry]
    assert flow.live["buffer"][rows].tolist() == [32, 32]
    assert flow.live["dram"][rows].tolist() == [96, 96]


@st.composite
def slices(draw: st.DrawFn, low: int, high: int) -> Tensor:
    """A view of distinct bytes among `low` … `high`-1 of the arena, with gaps."""
    strides, room = [0, 0, 0, 0], high - low
    shape = [1, 1, 1, 1]
    step = 1
    for dim in (3, 2, 1):
        step = draw(st.integers(step, step + 2))
        shape[dim] = draw(st.integers(1, max(1, min(5, (room - 1) // step))))
        strides[dim] = step
        room -= (shape[dim] - 1) * step
        step *= shape[dim]
    base = draw(st.integers(low, low + room - 1))
    n, h, w, c = shape
    return Tensor("", base, (n, h, w, c), (ARENA, strides[1], strides[2], strides[3]))


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Moves between views of one arena that is written before, one after the other."""
    build = builder()
    arena = build.tensor("arena", (1, 1, 1, ARENA))
    build.input("arena", "uint8", "arena")
    for _ in range(draw(st.integers(1, 6))):
        cut = draw(st.integers(arena.base + 8, arena.base + ARENA - 8))
        halves = [(arena.base, cut), (cut, arena.base + ARENA)]
        source, target = draw(st.permutations(halves))
        x, y = draw(slices(*source)), draw(slices(*target))
        box = [draw(st.integers(1, size)) for size in y.shape]
        origin = [0, *(draw(st.integers(-2, 2)) for _ in range(3))]
        build.move(x, y, box, origin)
    build.output("arena", "uint8", "arena")
    base = draw(st.integers(0, ARENA))
    return build.build(buffer=(arena.base + base, draw(st.integers(0, ARENA - base))))


@given(programs())
def test_any_moves_are_followed(program: Program) -> None:
    check(program)
