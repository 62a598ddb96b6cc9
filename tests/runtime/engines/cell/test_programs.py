"""Compiled networks: every tensor as on the reference engine, total cycles as `analyse` has them, at every level."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmac.compiler.pipeline import Options, passes
from mmac.isa import structure, table
from mmac.isa.errors import ResourceError
from mmac.isa.plan import Level
from mmac.isa.program import Program
from mmac.runtime import Session, engines
from mmac.runtime.engines.cell import CellEngine, cycles
from mmac.runtime.targets import Multipliers, Target, load_target
from mmac.runtime.timing.analyse import analyse
from tests.compiler import nets

LEVELS = (Level(4, 1), Level(8, 2), Level(14, 3))


def tiny(multipliers: Multipliers | None) -> Target:
    """Four blocks of 2 × 4."""
    return replace(nets.tiny_target(4), multipliers=multipliers)


TARGETS = {"array": tiny(None), "both": tiny(Multipliers(2, 3, 64)), "vc707": load_target("vc707")}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Networks compiled for the targets, by (network, target)."""
    folder, made = tmp_path_factory.mktemp("nets"), {}

    def compile_(name: str, target: str) -> Program:
        if (name, target) not in made:
            state = nets.save(name, folder)
            options = Options(calibration=nets.inputs(nets.build(name), 7), levels=LEVELS)
            for step in passes(options, TARGETS[target]):
                state = step.apply(state)
            made[name, target] = state
        return made[name, target]

    return compile_


@pytest.mark.parametrize(
    ("name", "target", "mac"),
    [
        ("residual", "array", "mmac"),
        ("residual", "array", "pmac"),
        ("residual", "both", "mmac"),
        ("sequence", "both", "mmac"),
        ("sequence", "both", "pmac"),
    ],
)
def test_cycles_are_those_of_the_analysis(name, target, mac, compiled):
    program = compiled(name, target)
    units = {instr.unit(0) for instr in program.code if isinstance(instr, table.Mmac)}
    assert units == ({table.Unit.ARRAY} if target == "array" else set(table.Unit))
    for level, expected in enumerate(analyse(program, TARGETS[target], mac).cycles):
        assert cycles(program, TARGETS[target], level, mac) == expected


@pytest.mark.parametrize("target", ["array", "both"])
def test_every_tensor_is_that_of_the_reference_engine(target, compiled):
    program = compiled("residual", target)
    session, stepped = Session(program, "reference"), Session(program, "reference")
    segments = engines.split(program, structure.parse(program.code))
    stepped._engine = CellEngine(program, segments, target=TARGETS[target])
    names = [tensor.name for tensor in program.tensors if tensor.place is not None]
    assert names
    feeds = nets.inputs(nets.build("residual"))
    for level in range(len(LEVELS)):
        pairs = zip(session.run(names, feeds, level), stepped.run(names, feeds, level), strict=True)
        for name, (ours, theirs) in zip(names, pairs, strict=True):
            np.testing.assert_array_equal(ours, theirs, name)


def test_a_session_on_the_default_target(compiled):
    program = compiled("sequence", "vc707")
    feeds = nets.inputs(nets.build("sequence"))
    results = [Session(program, engine).run(None, feeds, "8x2")[0] for engine in ("cell", "reference")]
    np.testing.assert_array_equal(*results)
    assert cycles(program, TARGETS["vc707"], 1) == analyse(program, TARGETS["vc707"]).cycles[1]


def test_cycles_of_too_much_are_refused(compiled, monkeypatch):
    program = compiled("residual", "array")
    monkeypatch.setattr("mmac.runtime.engines.cell.hardware.LIMIT", 1 << 20)
    with pytest.raises(ResourceError, match="engine cell: about"):
        cycles(program, TARGETS["array"], 0)
