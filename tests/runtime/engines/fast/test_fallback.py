"""What cannot be proved to be a layer runs on the reference engine, and nobody sees the difference but the clock."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from mmac.isa import structure, table
from mmac.isa.plan import Level
from mmac.isa.program import Program
from mmac.isa.spec import Instr
from mmac.runtime import Session, engines
from mmac.runtime.engines.fast import FastEngine
from mmac.runtime.engines.fast.layers import Layer, Lookup, Opaque
from mmac.runtime.memory import Memory
from tests.isa import examples
from tests.runtime.definition import Array
from tests.runtime.programs import Builder

SHAPE = (1, 4, 4, 16)
X = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
BYTES = np.arange(256)
DOUBLE, SQUARE, PLUS = ((values % 256).astype(np.uint8) for values in (2 * BYTES, BYTES**2, BYTES + 5))


def three_tables() -> Builder:
    """a -> b -> c -> d, a table each, in four tiles of rows."""
    builder = Builder((Level(8, 2), Level(14, 2)))
    tensors = [builder.tensor(name, SHAPE) for name in "abcd"]
    for x, y, values in zip(tensors, tensors[1:], (DOUBLE, SQUARE, PLUS), strict=False):
        builder.lookup(x, y, values, (1, 1, 4, 16))
    builder.output("d", "uint8", "d")
    return builder


def fast(program: Program) -> FastEngine:
    return FastEngine(program, engines.split(program, structure.parse(program.code)))


def results(program: Program, engine: engines.Engine) -> dict[str, Array]:
    memory = Memory(program)
    memory.write("a", X.transpose(0, 3, 1, 2))
    kept = engine.run(0, memory, 1, {"b", "c"})
    return kept | {"d": memory.read("d")}


def check(program: Program) -> FastEngine:
    """Both engines agree; returns the fast one."""
    engine = fast(program)
    expected = results(program, engines.create("reference", program, engine.segments))
    found = results(program, engine)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name)
    return engine


def change(builder: Builder, position: int, edit: Callable[[Instr], Instr]) -> None:
    builder.code[position] = edit(builder.code[position])


def test_nothing_falls_back_unchanged() -> None:
    engine = check(three_tables().build())
    assert [type(layer) for layer in engine.lifted[0]] == [Lookup] * 3


def in_second_table(t: int, dim: table.Dim, **fields: int) -> Callable[[Builder], None]:
    """An edit of a walk of the second operation."""

    def edit(builder: Builder) -> None:
        walks = [i for i, w in enumerate(builder.code) if isinstance(w, table.Walk) and (w.t, w.dim) == (t, dim)]
        change(builder, walks[1], lambda walk: dataclasses.replace(walk, **fields))

    return edit


EDITS = {
    "rows written backwards": in_second_table(1, table.Dim.H, origin=3, step=-1),
    "rows read backwards": in_second_table(0, table.Dim.H, origin=3, step=-1),
    "boxes that overlap": in_second_table(1, table.Dim.C, origin=1),
}


@pytest.mark.parametrize("name", EDITS)
def test_one_nest_falls_back_among_others(name: str) -> None:
    builder = three_tables()
    EDITS[name](builder)
    engine = check(builder.build())
    first, second, third = engine.lifted[0]
    assert isinstance(first, Lookup)
    assert isinstance(second, Opaque)
    assert second.reason
    assert isinstance(third, Lookup)


def shared_table() -> Program:
    """The second operation uses the table that the first one has left in its scratchpad, by an equal pointer."""
    builder = three_tables()
    loads = [i for i, load in enumerate(builder.code) if isinstance(load, table.Load) and load.t == 2]
    waits = builder.code[loads[1]]
    assert isinstance(waits, table.Load)
    change(builder, loads[1], lambda _: table.SyncLoad(wait0=waits.wait0, signal0=waits.signal0))
    return builder.build()


def test_scratchpad_contents_that_outlive_a_nest_keep_the_whole_program_on_the_reference_engine() -> None:
    program = shared_table()
    engine = check(program)
    layers: tuple[Layer, ...] = engine.lifted[0]
    assert isinstance(layers[1], Opaque)
    assert not engine._is_separable
    memory = Memory(program)
    memory.write("a", X.transpose(0, 3, 1, 2))
    kept = engine.run(0, memory, 0, {"c"})
    np.testing.assert_array_equal(kept["c"].transpose(0, 2, 3, 1), DOUBLE[DOUBLE[X]])


@pytest.mark.parametrize("name", ["matrix_product", "convolution"])
def test_boxes_that_lie_outside_their_view_are_all_padding(name: str) -> None:
    program = getattr(examples, name)().program()
    code = [
        dataclasses.replace(i, origin=100_000) if isinstance(i, table.Walk) and (i.t, i.dim) == (0, table.Dim.H) else i
        for i in program.code
    ]
    far = dataclasses.replace(program, code=tuple(code))
    (port,) = far.inputs
    feeds = {port.name: np.arange(np.prod(port.shape)).reshape(port.shape).astype(port.dtype)}
    fast_result, reference = (Session(far, engine=engine).run(None, feeds)[0] for engine in ("fast", "reference"))
    np.testing.assert_array_equal(fast_result, reference)
