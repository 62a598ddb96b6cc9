"""Layers on the cell engine: values against the definitions and the reference engine, cycles against `cost`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmac.isa import structure, table
from mmac.isa.errors import ResourceError
from mmac.isa.plan import FULL, PAPER_LEVELS, Level
from mmac.isa.program import Program
from mmac.isa.verify import verify
from mmac.runtime import engines
from mmac.runtime.engines.cell import CellEngine, cycles
from mmac.runtime.engines.cell.cells import KINDS
from mmac.runtime.memory import Memory
from mmac.runtime.targets import Multipliers, Target, load_target
from mmac.runtime.timing.analyse import analyse
from tests.runtime.definition import Array, Window
from tests.runtime.engines.cell.machines import target
from tests.runtime.engines.cell.programs import formula, one_layer, with_channels, with_fields
from tests.runtime.test_reference import Layer, check_array_layer, execute, layers


def step(program: Program, machine: Target, mac: str, level: int, inputs: dict[str, Array]) -> Array:
    """Tensor y, after the cycles of every `mmac` have been held to what `cost` says."""
    engine = CellEngine(program, engines.split(program, structure.parse(program.code)), target=machine, mac=mac)
    memory = Memory(program)
    for key, array in inputs.items():
        memory.write(key, array.transpose(0, 3, 1, 2))
    y = engine.run(0, memory, level, {"y"})["y"].transpose(0, 2, 3, 1)
    assert engine.durations
    for (pc, indices), taken in engine.durations.items():
        assert formula(program, machine, mac, level, pc, indices) == taken
    return y


def check_layer(layer: Layer, machine: Target, mac: str, fields: dict[str, int]) -> None:
    def run(program: Program, level: int, inputs: dict[str, Array]) -> Array:
        return step(with_fields(program, **fields), machine, mac, level, inputs)

    check_array_layer(layer, (Level(1, 1), Level(4, 2)), run)


shapes = st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(1, 8))
splits = st.fixed_dictionaries({f"split_{axis}": st.integers(1, 4) for axis in "mnk"})


@given(layers(), shapes, splits)
@settings(max_examples=10)
def test_tiled_layers_on_the_array(layer: Layer, shape: tuple[int, int, int], split: dict[str, int]) -> None:
    check_layer(layer, target(*shape), "mmac", split)


@given(
    layers(),
    st.sampled_from([Multipliers(1, 9, 2000), Multipliers(5, 4, 2000), Multipliers(128, 1, 2000)]),
    st.integers(1, 0b11),
)
@settings(max_examples=12)
def test_tiled_layers_on_the_multipliers_at_some_levels(layer: Layer, unit: Multipliers, levels: int) -> None:
    check_layer(layer, target(multipliers=unit), "mmac", {"multipliers": levels})


SHAPES: dict[str, tuple[tuple[int, ...], Window, int]] = {
    "pointwise": ((5, 1, 1, 40), Window(), 1),
    "3 × 3": ((5, 3, 3, 7), Window((3, 3), (2, 1), pads=(1, 0, 1, 1)), 1),
    "dilated": ((3, 2, 3, 5), Window((2, 3), (1, 1), (2, 1)), 1),
    "depthwise": ((6, 3, 3, 1), Window((3, 3), pads=(1, 1, 1, 1)), 6),
    "grouped": ((6, 1, 2, 9), Window((1, 2)), 3),
}


@pytest.mark.parametrize("mac", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_cell_gives_what_the_reference_engine_gives(shape: str, mac: str) -> None:
    weights_shape, window, groups = SHAPES[shape]
    rng = np.random.default_rng(7)
    levels = (PAPER_LEVELS[0], FULL) if mac == "mmac" else (PAPER_LEVELS[3],)
    size = (1, 4, 3) if mac == "bmac_serial" else (1, 5, 4)
    program = one_layer(rng.integers(-128, 129, weights_shape), size, levels, window=window, groups=groups)
    program = with_fields(program, split_m=2, split_k=2)
    x = rng.integers(0, 256, (*size, weights_shape[3] * groups)).astype(np.uint8)
    machine = target(3, 2, 4)
    for level in range(len(levels)):
        expected = execute(program, level, {"x": x}, ["y"])["y"]
        np.testing.assert_array_equal(step(program, machine, mac, level, {"x": x}), expected)


@pytest.mark.parametrize("kind", list(table.TermFormat))
@pytest.mark.parametrize("unit", list(table.Unit))
@pytest.mark.parametrize(("first", "size"), [(-1, 2), (-3, 1), (-2, 4), (1, 4), (-1, 4), (3, 4)])
def test_boxes_that_start_anywhere(first: int, size: int, unit: table.Unit, kind: table.TermFormat) -> None:
    """Two convolution groups of two channels: below 0, inside a convolution group, over the end of the view."""
    rng = np.random.default_rng(7)
    program = one_layer(rng.integers(-99, 99, (4, 1, 1, 20)), (1, 3, 3), (Level(8, 2),), window=Window(), groups=2,
                        kind=kind)  # fmt: skip
    program = with_channels(with_fields(program, multipliers=int(unit), split_n=2, split_k=2), first, size)
    verify(program)
    x = rng.integers(0, 256, (1, 3, 3, 40)).astype(np.uint8)
    machine = target(2, 2, 2, rankers=3, multipliers=Multipliers(2, 7, 12))
    expected = execute(program, 0, {"x": x}, ["y"])["y"]
    np.testing.assert_array_equal(step(program, machine, "mmac", 0, {"x": x}), expected)
    assert cycles(program, machine, 0) == analyse(program, machine).cycles[0]


def test_the_hardware_is_the_target_of_the_program() -> None:
    rng = np.random.default_rng(7)
    program = one_layer(rng.integers(-128, 129, (4, 3, 3, 3)), (1, 4, 4), PAPER_LEVELS, window=Window((3, 3)))
    engine = engines.create("cell", program, engines.split(program, structure.parse(program.code)))
    assert isinstance(engine, CellEngine)
    assert engine.machine.hardware.target == load_target("vc707")
    assert engine.machine.hardware.mac == "mmac"
    x = rng.integers(0, 256, (1, 4, 4, 3)).astype(np.uint8)
    memory = Memory(program)
    memory.write("x", x.transpose(0, 3, 1, 2))
    kept = engine.run(0, memory, 1, {"y"})["y"]
    np.testing.assert_array_equal(kept.transpose(0, 2, 3, 1), execute(program, 1, {"x": x}, ["y"])["y"])


def test_too_much_to_step_is_refused_at_once() -> None:
    program = one_layer(np.ones((64, 3, 3, 64), int), (1, 34, 34), (FULL,), window=Window((3, 3)))
    engine = CellEngine(program, engines.split(program, structure.parse(program.code)), target=target(4, 8, 8))
    with pytest.raises(ResourceError, match=r"engine cell: about .*e\+.. register steps; at most .*; use engine fast"):
        engine.run(0, Memory(program), 0, set())
