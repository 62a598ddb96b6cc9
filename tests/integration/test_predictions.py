"""What a compiled program says about its levels, and that a session goes by it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mmac.compiler import Options, compile_model
from mmac.isa import asm, container
from mmac.isa.errors import UsageError
from mmac.isa.program import Program
from mmac.runtime import Policy, Session, estimate
from tests.commands import DATA

IMAGES = 12


def images(name: str) -> np.ndarray:
    with np.load(DATA / "fashion_mnist_test.npz") as arrays:
        return arrays[name][:IMAGES, None].astype(np.float32) / 255


@pytest.fixture(scope="module")
def program() -> Program:
    options = Options(calibration={"image": images("calibration")})
    return compile_model(DATA / "fashion_mnist_cnn.onnx", options).program


def test_costs_are_the_estimate_to_the_last_bit(program):
    rows = estimate(program).levels
    assert [(p.latency_ms, p.energy_mj, p.sqnr_db) for p in program.predictions] == [
        (row.latency_ms, row.energy_mj, row.sqnr_db) for row in rows
    ]
    assert program.predictions[0].sqnr_db < program.predictions[-1].sqnr_db


def test_costs_are_those_of_the_target_compiled_for(tmp_path):
    text = (Path(estimate.__code__.co_filename).parent / "targets/vc707.toml").read_text("utf-8")
    (tmp_path / "own.toml").write_text(text.replace('"vc707"', '"own"').replace("mhz = 170", "mhz = 85"), "utf-8")
    options = Options(calibration={"image": images("calibration")}, target=str(tmp_path / "own.toml"))
    own = compile_model(DATA / "fashion_mnist_cnn.onnx", options).program
    rows = estimate(own, str(tmp_path / "own.toml")).levels
    assert [p.latency_ms for p in own.predictions] == [row.latency_ms for row in rows]
    assert own.predictions[0].latency_ms > 1.5 * estimate(own, "vc707").levels[0].latency_ms
    # a session needs the predictions only
    limit = own.predictions[2].latency_ms
    session = Session(own, policy=Policy(max_latency_ms=limit))
    session.run(None, {"image": images("images")[:1]})
    assert own.predictions[session.last_level].latency_ms <= limit


def test_they_survive_text_and_file(program, tmp_path):
    container.save(program, tmp_path / "a.mmac")
    assert container.load(tmp_path / "a.mmac").predictions == program.predictions
    again = asm.assemble(asm.disassemble(program))
    assert again.predictions == program.predictions
    assert container.to_bytes(again) == container.to_bytes(program)


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_a_policy_chooses_for_each_run(program, engine):
    image = {"image": images("images")[:1]}
    session = Session(program, engine)
    assert session.last_level is None
    session.run(None, image)
    assert session.last_level == len(program.predictions) - 1
    for wanted in (3, 0, 5):
        session.policy = Policy(max_latency_ms=program.predictions[wanted].latency_ms)
        (result,) = session.run(None, image)
        level = session.last_level
        assert level == session.governor.choose(session.policy) <= wanted
        np.testing.assert_array_equal(result, Session(program).run(None, image, level=level)[0])
    session.run(None, image, level=7)
    assert session.last_level == 7
    session.policy = Policy(max_energy_mj=1e-9)
    with pytest.raises(UsageError, match="limit of 1e-09 mJ: no level of the program keeps to it; the closest is 8x2"):
        session.run(None, image)
    assert session.last_level == 7


def test_a_session_on_another_target_goes_by_its_costs(program):
    image = {"image": images("images")[:1]}
    board = estimate(program, "vc707", mac="bmac").levels
    session = Session(program, mac="bmac", policy=Policy(max_latency_ms=board[1].latency_ms))
    session.run(None, image)
    fitting = [n for n, row in enumerate(board) if row.latency_ms <= board[1].latency_ms]
    assert session.last_level == max(fitting, key=lambda n: (board[n].sqnr_db, -board[n].energy_mj))
    bare = dataclasses.replace(program, predictions=())
    assert Session(bare).governor.predictions[0].latency_ms == program.predictions[0].latency_ms
