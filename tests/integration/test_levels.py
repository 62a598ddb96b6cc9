"""One program, all levels: the engines agree on every tensor, and a level is a setting, not another program."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mmac.compiler import Options, compile_model
from mmac.isa import container, streams, terms
from mmac.isa.plan import PAPER_LEVELS
from mmac.isa.program import Program
from mmac.isa.spec import BY_OPCODE
from mmac.runtime import Session

DATA = Path(__file__).parents[2] / "cli" / "mmac" / "cli" / "data"


def images(name: str, count: int) -> np.ndarray:
    with np.load(DATA / "fashion_mnist_test.npz") as arrays:
        return arrays[name][:count, None].astype(np.float32) / 255


@pytest.fixture(scope="module")
def program() -> Program:
    options = Options(calibration={"image": images("calibration", 64)})
    return compile_model(DATA / "fashion_mnist_cnn.onnx", options).program


def engines_agree(program: Program, feeds: dict[str, np.ndarray]) -> list[list[np.ndarray]]:
    """Compare every tensor in DRAM at every level; returns them per level."""
    names = [tensor.name for tensor in program.tensors if tensor.place is not None]
    fast, reference = Session(program, engine="fast"), Session(program, engine="reference")
    results = []
    for level in range(len(program.plan.levels)):
        ours, theirs = (session.run(names, feeds, level=level) for session in (fast, reference))
        for name, a, b in zip(names, ours, theirs, strict=True):
            assert np.array_equal(a, b), f"{name} at level {level}"
        results.append(ours)
    return results


def test_engines_agree_on_the_bundled_model(program):
    results = engines_agree(program, {"image": images("images", 1)})
    assert len(results) == 8
    # levels are not all the same computation
    assert any(not np.array_equal(a, b) for a, b in zip(results[0], results[7], strict=True))


@pytest.mark.models
def test_engines_agree_on_resnet8():
    from benchmarks.models import calibration, load

    data = calibration("tiny_resnet8", 8)
    program = compile_model(load("tiny_resnet8"), Options(calibration=data)).program
    engines_agree(program, {name: array[:1] for name, array in data.items()})


def switch_at_random(program: Program, feeds: list[dict[str, np.ndarray]], switches: int, engine: str = "fast") -> None:
    """Every run of a live session, each at another level than the one before, gives what a fresh session gives."""
    levels = len(program.plan.levels)
    fresh = [[Session(program, engine).run(None, feed, level) for feed in feeds] for level in range(levels)]
    for first, second in pairwise(fresh):  # otherwise nothing would be shown
        assert any(not np.array_equal(a, b) for a, b in zip(first[0], second[0], strict=True))
    live, rng, level = Session(program, engine), np.random.default_rng(switches), 0
    for _ in range(switches):
        level, sample = (level + int(rng.integers(1, levels))) % levels, int(rng.integers(len(feeds)))
        results = live.run(None, feeds[sample], level)
        assert live.last_level == level
        for result, expected in zip(results, fresh[level][sample], strict=True):
            assert np.array_equal(result, expected)


def test_a_thousand_random_switches(program):
    switch_at_random(program, [{"image": image[None]} for image in images("images", 3)], 1000)


def test_random_switches_on_the_reference_engine(program):
    switch_at_random(program, [{"image": image[None]} for image in images("images", 1)], 20, "reference")


@pytest.mark.models
def test_random_switches_on_mobilenet():
    from benchmarks.models import calibration, load

    data = calibration("mobilenet_v2", 8)
    program = compile_model(load("mobilenet_v2"), Options(calibration=data)).program
    switch_at_random(program, [{name: array[i : i + 1] for name, array in data.items()} for i in range(2)], 60)


@pytest.mark.models
def test_predicted_quality_of_mobilenet_is_that_of_the_program():
    from benchmarks.correction import sqnr_db
    from benchmarks.models import calibration, load

    data = calibration("mobilenet_v2", 4)
    program = compile_model(load("mobilenet_v2"), Options(calibration=data, correct=False)).program
    feeds = [{name: array[i : i + 1] for name, array in data.items()} for i in range(4)]
    found = sqnr_db(Session(program), load("mobilenet_v2"), feeds)
    assert [prediction.sqnr_db for prediction in program.predictions] == pytest.approx(found, abs=0.06)


def test_the_file_gives_the_same_results_as_the_program(program, tmp_path):
    container.save(program, tmp_path / "net.mmac")
    image = {"image": images("images", 1)}
    loaded, direct = Session(tmp_path / "net.mmac"), Session(program)
    for level in PAPER_LEVELS:
        assert np.array_equal(loaded.run(None, image, level=level)[0], direct.run(None, image, level=level)[0])


def test_no_instruction_carries_a_budget():
    fields = {name for cls in BY_OPCODE.values() for name in cls.layout}
    assert not fields & {"alpha", "beta", "gamma", "level"}


def test_a_level_reads_a_longer_prefix_than_the_one_below(program):
    report = Session(program).report
    for low, high in pairwise(report.levels):
        assert low.weight_bytes <= high.weight_bytes
        assert low.dram_bytes <= high.dram_bytes
        assert low.cycles <= high.cycles
    assert report.levels[0].weight_bytes < report.levels[-1].weight_bytes


def test_prefixes_of_a_stream_are_the_lower_levels():
    rng = np.random.default_rng(0)
    tile = rng.integers(-127, 128, (1, 3, 4, 16)).astype(np.int16)
    alphas = [level.alpha for level in PAPER_LEVELS]
    encoded = streams.encode(streams.TermFormat.PLAIN, tile, alphas)
    for level in range(8):
        prefix = encoded.data[: encoded.level_bytes[0, level]]
        decoded = streams.decode(streams.TermFormat.PLAIN, prefix, (3, 4), alphas[: level + 1]).table
        assert np.array_equal(decoded.values(), terms.truncate_groups(tile[0], alphas[level]))
