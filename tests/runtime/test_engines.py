"""How a program is cut into segments, and what the memory that engines share promises."""

from __future__ import annotations

import numpy as np
import pytest

from mmac.isa import structure
from mmac.isa.errors import UsageError
from mmac.isa.plan import FULL
from mmac.isa.program import Program
from mmac.runtime import engines
from mmac.runtime.memory import Memory
from tests.runtime.programs import Builder

SHAPE = (1, 2, 3, 4)
STEP = structure.Step(0, 1)


def program() -> Program:
    """a → b → (host) → c → d, one top-level node or more each."""
    builder = Builder((FULL,))
    a, b, c, d = (builder.tensor(name, SHAPE) for name in "abcd")
    builder.move(a, b, (1, 1, 3, 4))
    builder.host(b"", ["b"], ["c"])
    builder.move(c, d, (1, 2, 3, 4))
    builder.move(d, b, (1, 1, 1, 4))
    return builder.build()


def test_split_at_host_segments() -> None:
    made = program()
    nodes = structure.parse(made.code)
    first, second = engines.split(made, nodes)
    assert (first.host, second.host) == (0, None)
    assert (*first.nodes, nodes[len(first.nodes)], *second.nodes, nodes[-1]) == nodes


def test_completed_names_stand_at_the_last_node_of_their_code() -> None:
    made = program()
    first, second = engines.split(made, structure.parse(made.code))
    assert [names for names in first.completed if names] == [("b",)]
    assert first.completed[-1] == ("b",)
    assert [names for names in second.completed if names] == [("d",), ("b",)]
    assert second.completed[-1] == ("b",)
    for segment in (first, second):
        assert len(segment.completed) == len(segment.nodes)


def test_unknown_engine() -> None:
    with pytest.raises(UsageError, match="fast, reference"):
        engines.create("slow", program(), ())


def test_every_engine_can_be_made() -> None:
    made = program()
    for name in engines.ENGINES:
        engines.create(name, made, engines.split(made, structure.parse(made.code)))


def test_memory_reads_and_writes_in_onnx_shape() -> None:
    memory = Memory(program())
    array = np.arange(24, dtype=np.uint8).reshape(1, 4, 2, 3)
    memory.write("a", array)
    copy = memory.read("a")
    np.testing.assert_array_equal(copy, array)
    place = memory.program.tensor["a"].place
    assert place is not None
    view = structure.View(place.base, 1, 0, SHAPE, (24, 12, 4, 1), (STEP, STEP, STEP, STEP))
    np.testing.assert_array_equal(memory.view(view), array.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(
        memory.box(view, (0, 1, 1, 0), (1, 1, 2, 3)), array.transpose(0, 2, 3, 1)[:, 1:, 1:, :3]
    )
    memory.view(view)[...] = 0
    assert not memory.read("a").any()
    np.testing.assert_array_equal(copy, array)


def test_memory_refuses_addresses_outside_dram() -> None:
    memory = Memory(program())
    view = structure.View(memory.dram.size - 8, 1, 0, (1, 1, 1, 16), (16, 16, 16, 1), (STEP, STEP, STEP, STEP))
    with pytest.raises(ValueError, match="buffer"):
        memory.view(view)


def test_image_is_copied() -> None:
    made = program()
    memory = Memory(made)
    memory.dram[...] = 1
    assert not made.image.any()
