"""The search as a whole, on a small network."""

from __future__ import annotations

import dataclasses
import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mmac.compiler import Goal, Options, compile_model, read_budgets, search_budgets
from mmac.compiler.search import Found, choose, to_toml
from mmac.compiler.search.choose import Chooser, _names
from mmac.compiler.search.page import render_page
from mmac.isa.errors import MalformedError, UnsupportedError, UsageError
from mmac.isa.plan import MAX_LEVELS, PAPER_LEVELS, parse_levels
from mmac.runtime import estimate
from tests.cli.conftest import images, net

LEVELS = parse_levels("8x2,14x3")
OPTIONS = Options(levels=LEVELS, calibration={"image": images(9)})


@pytest.fixture(scope="module", autouse=True)
def _few_programs() -> Iterator[None]:
    """Searches of small nets that have little to choose from need no more to be tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "_PROGRAMS", 4)
        patch.setattr(choose, "_MOST_PROGRAMS", 4)
        patch.setattr(choose, "_TRIALS", (2, 2))
        yield


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "net.onnx"
    onnx.save(net(), path)
    return path


@pytest.fixture(scope="module", name="state")
def _state(model: Path) -> Path:
    return model.parent / "state.npz"


@pytest.fixture(scope="module", name="found")
def _found(model: Path, state: Path) -> Found:
    return search_budgets(model, OPTIONS, state=state)


def test_plans_nest_and_keep_the_limits(found: Found):
    assert [row.level for row in found.levels] == list(LEVELS)
    for row, uniform in zip(found.levels, found.uniform, strict=True):
        assert row.limit == uniform.latency_ms
        assert row.latency_ms <= row.limit * 1.002
    for plan in found.plans.values():
        for low, high in itertools.pairwise(plan):
            assert (low.alpha, low.beta) <= (high.alpha, high.beta)
            assert low.beta <= high.beta


def test_what_is_expected_is_what_is_simulated(found: Found):
    for row in found.levels:
        assert row.sqnr_db == pytest.approx(row.predicted_db, abs=0.2)


def test_searched_levels_are_no_worse_in_all(found: Found):
    pairs = zip(found.levels, found.uniform, strict=True)
    ratios = [10 ** ((uniform.predicted_db - row.predicted_db) / 5) for row, uniform in pairs]
    assert sum(ratios) <= len(LEVELS) * (1 + 1e-9)


def test_compile_takes_the_file(found: Found, model: Path, tmp_path: Path):
    path = tmp_path / "budgets.toml"
    path.write_text(to_toml(found, "mmac search"), "utf-8")
    budgets = read_budgets(path, LEVELS)
    assert budgets == found.budgets()
    program = compile_model(model, Options(levels=LEVELS, budgets=budgets, calibration={"image": images(6)})).program
    for layer in program.plan.layers:
        assert layer.levels == found.plans[layer.name]
    costs = [level.latency_ms for level in estimate(program).levels]
    assert costs == pytest.approx([row.latency_ms for row in found.levels], rel=0.02)


def test_names_are_quoted(found: Found):
    named = dataclasses.replace(
        found, plans={'a "b"\n\x7f[é]': found.plans["conv0"]}, full={'a "b"\n\x7f[é]': found.full["conv0"]}
    )
    assert list(tomllib.loads(to_toml(named, "x\ny"))) == ['a "b"\n\x7f[é]']


def test_a_search_goes_on_from_its_state(found: Found, model: Path, state: Path):
    begun: list[str] = []
    again = search_budgets(model, OPTIONS, state=state, verify=False, progress=lambda what, *_: begun.append(what))
    assert again.plans == found.plans
    assert not {"errors of layers", "gains of layers", "uniform levels"} & set(begun)


def test_an_interrupted_search_keeps_what_it_has(found: Found, model: Path, tmp_path: Path):
    path = tmp_path / "state.npz"

    def interrupt(what: str, *_: int) -> None:
        if what == "gains of layers":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_budgets(model, OPTIONS, state=path, progress=interrupt)
    begun: list[str] = []
    again = search_budgets(model, OPTIONS, state=path, verify=False, progress=lambda what, *_: begun.append(what))
    assert "errors of layers" not in begun
    assert "gains of layers" in begun
    assert again.plans == found.plans


@pytest.mark.parametrize(
    ("changed", "edges", "text"),
    [
        ({"calibration": {"image": images(5)}}, False, "a different set of calibration data;"),
        ({"levels": parse_levels("8x2,12x3")}, False, "levels 8x2,14x3 (now 8x2,12x3);"),
        ({"target": "zedboard"}, True, "target vc707 (now zedboard) and edges searched (now kept);"),
        ({"correct": False}, False, "correction on (now off);"),
    ],
)
def test_a_state_of_other_options_is_kept(
    model: Path, found: Found, state: Path, tmp_path: Path, changed: dict[str, Any], edges: bool, text: str
):
    other = tmp_path / "state.npz"
    other.write_bytes(state.read_bytes())
    with pytest.raises(UsageError) as caught:
        search_budgets(model, dataclasses.replace(OPTIONS, **changed), keep_edges=edges, state=other, verify=False)
    assert f"{other}: measured with {text}" in str(caught.value)
    assert "name another file, or remove this one" in str(caught.value)
    assert other.read_bytes() == state.read_bytes()


def test_no_state(model: Path, tmp_path: Path):
    other = tmp_path / "state.npz"
    np.savez(other, image=images(1))
    with pytest.raises(MalformedError, match="not the state of a search"):
        search_budgets(model, OPTIONS, state=other)
    assert np.load(other).files == ["image"]
    np.savez(other, digest=np.array(["mmac search 1", "0"]))
    with pytest.raises(UsageError, match="measured with a different version of mmac"):
        search_budgets(model, OPTIONS, state=other)


def test_limits_that_uniform_plans_keep_can_be_kept(model: Path, found: Found, state: Path):
    limits = tuple(row.energy_mj * 1.0005 for row in found.uniform)
    own = search_budgets(model, OPTIONS, Goal("energy_mj", limits), state=state, verify=False)
    for row, limit, uniform in zip(own.levels, limits, found.uniform, strict=True):
        assert row.energy_mj <= limit * 1.002
        assert row.predicted_db >= uniform.predicted_db - 1e-9


def test_the_cheapest_plan_can_be_had(model: Path, found: Found, state: Path):
    with pytest.raises(UsageError, match="below what any plan costs") as caught:
        search_budgets(model, OPTIONS, Goal("energy_mj", (1e-9,)), state=state, verify=False)
    least = float(re.findall(r"the cheapest one takes ([0-9.e-]+) mJ; give at least that", str(caught.value))[0])
    cheap = search_budgets(model, OPTIONS, Goal("energy_mj", (least * 1.001,)), state=state, verify=False)
    assert cheap.levels[0].energy_mj <= least * 1.003


@pytest.mark.parametrize("levels", ["64x5", "60x4", "63x3,64x5", "8x2,64x2,64x3"])
def test_levels_with_the_same_plan_have_different_names(levels: str):
    of = parse_levels(levels)
    plan = (*of, *of[-1:] * (MAX_LEVELS - len(of)))
    names = _names({"a": plan, "b": plan})
    assert parse_levels(",".join(map(str, names))) == names
    assert _names({"a": of}) == of


def test_levels_that_are_held_to_uniform_plans_say_so(found: Found):
    held = [dataclasses.replace(found.levels[0], held_to=found.uniform[0].level), *found.levels[1:]]
    some = dataclasses.replace(found, levels=held)
    assert some.held == "held to the uniform plan, as nothing better was found within the limits: 8x2"
    assert some.to_json()["levels"][0]["held_to"] == "8x2"
    text = to_toml(some, "mmac search")
    assert "  uniform 8x2\n" in text
    assert "# Held to the uniform plan, as nothing better was found within the limits: 8x2.\n" in text
    assert "searched: held to uniform 8x2" in render_page(some)
    every = [dataclasses.replace(row, held_to=row.level) for row in found.levels]
    assert dataclasses.replace(found, levels=every).held.endswith(": every level")


def test_a_uniform_plan_is_recognised(model: Path, state: Path, found: Found, monkeypatch: pytest.MonkeyPatch):
    assert [row.held_to for row in found.levels] == [None, None]
    monkeypatch.setattr(Chooser, "least_error", lambda self, limits, units, start, *_: start)
    own = search_budgets(model, OPTIONS, state=state, verify=False)
    # the highest uniform level that costs no more, which for 8x2 may be 14x3
    fitting = [[row.level for row in own.uniform if row.latency_ms <= same.latency_ms * 1.001] for same in own.uniform]
    assert [row.held_to for row in own.levels] == [levels[-1] for levels in fitting]
    limits = tuple(row.energy_mj for row in found.uniform)
    own = search_budgets(model, OPTIONS, Goal("energy_mj", limits), state=state, verify=False)
    assert all(row.held_to in (*LEVELS, *PAPER_LEVELS) for row in own.levels)


def test_edges_keep_all_terms_on_request(model: Path):
    found = search_budgets(model, OPTIONS, keep_edges=True, verify=False)
    for name in ("conv0", "gemm5"):
        assert set(found.plans[name]) == {found.full[name]}


def test_a_model_without_errors_keeps_its_uniform_plans(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    zero = net()
    for tensor in zero.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(values), tensor.name))
    onnx.save(zero, tmp_path / "zero.onnx")
    found = search_budgets(tmp_path / "zero.onnx", OPTIONS, verify=False)
    assert all(row.held_to is not None for row in found.levels)
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]


def test_outputs_that_no_level_changes(tmp_path: Path):
    """The largest of five scores is the same at all levels: no error, at layers that differ in their options."""
    largest = net()
    largest.graph.node.append(onnx.helper.make_node("ArgMax", ["scores"], ["class"], "argmax", axis=1, keepdims=0))
    largest.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("class", onnx.TensorProto.INT64, ["batch"]))
    onnx.save(largest, tmp_path / "largest.onnx")
    found = search_budgets(tmp_path / "largest.onnx", OPTIONS, verify=False)
    assert all(row.predicted_db >= same.predicted_db for row, same in zip(found.levels, found.uniform, strict=True))


def test_higher_levels_may_take_less_energy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Chooser, "least_error", lambda self, limits, units, start, *_: start)
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]> convs (float[1,16,12,12] x) => (float[1,32,12,12] y) {
            a = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, v)
            b = Relu (a)
            c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (b, w)
            d = Relu (c)
            y = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (d, w)
        }"""
    )
    for name, channels in {"v": 16, "w": 32}.items():
        weights = (rng.normal(size=(32, channels, 3, 3)) / 12).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
    onnx.save(model, tmp_path / "convs.onnx")
    samples = rng.normal(size=(8, 16, 12, 12)).astype(np.float32)
    options = Options(levels=parse_levels("8x2,14x3,16x3,18x3,20x3,30x3,40x4,48x5,full"), calibration={"x": samples})
    found = search_budgets(tmp_path / "convs.onnx", options, Goal("energy_mj"), verify=False)
    limits = [row.energy_mj for row in found.uniform]
    assert limits != sorted(limits)
    for row, limit in zip(found.levels, limits, strict=True):
        assert row.energy_mj <= limit * 1.002


def test_levels_that_drop_weights_only(model: Path):
    levels = parse_levels("8x2,12x5")
    found = search_budgets(model, dataclasses.replace(OPTIONS, levels=levels), verify=False)
    assert [row.level for row in found.levels] == list(levels)


def test_limits_on_energy(model: Path, found: Found, state: Path):
    limit = found.uniform[1].energy_mj
    cheap = search_budgets(model, OPTIONS, Goal("energy_mj", (limit,)), state=state, verify=False)
    assert cheap.levels[0].energy_mj <= limit * 1.002


def test_limits_on_quality(model: Path, found: Found, state: Path):
    wanted = (found.whole_db - 12, found.whole_db - 6)
    good = search_budgets(model, OPTIONS, Goal("sqnr_db", wanted), state=state, verify=False)
    for row, least in zip(good.levels, wanted, strict=True):
        assert row.predicted_db >= least - 0.01
    assert good.levels[0].latency_ms <= good.levels[1].latency_ms
    assert good.levels[0].level != good.levels[1].level
    with pytest.raises(UsageError, match="more than the model has if no term is dropped; below"):
        search_budgets(model, OPTIONS, Goal("sqnr_db", (found.whole_db + 1,)), state=state)


def test_page(found: Found):
    html = render_page(dataclasses.replace(found, model="<b>"))
    assert "&lt;b&gt;" in html
    assert "<b><b>" not in html


@pytest.mark.parametrize(
    ("goal", "text"),
    [
        (Goal("latency_ms", (1e-6,)), "below what any plan costs; the cheapest one takes 0.0"),
        (Goal("latency_ms", (2.0, 1.0)), "limits: 2, 1; rising from one level to the next"),
        (Goal("latency_ms", (-1.0,)), "limit -1: not a positive number"),
        (Goal("latency_ms", (float("nan"),)), "limit nan: not a positive number"),
        (Goal("latency_ms", tuple(map(float, range(1, 18)))), "limits: 17 of them; 1…16"),
        (Goal("sqnr_db"), "goal sqnr_db: no limits"),
        (Goal("speed"), "goal 'speed': no such quantity; latency_ms, energy_mj, sqnr_db"),
    ],
)
def test_goals_that_cannot_be_met(model: Path, found: Found, state: Path, goal: Goal, text: str):
    with pytest.raises(UsageError) as caught:
        search_budgets(model, OPTIONS, goal, state=state)
    assert text in str(caught.value)


def test_what_a_search_needs(model: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="no calibration data; samples to measure errors with; give --calibration"):
        search_budgets(model, Options())
    with pytest.raises(UsageError, match="budgets are given"):
        search_budgets(model, dataclasses.replace(OPTIONS, budgets={"conv0": {"alpha": 8}}))
    with pytest.raises(UsageError, match="nowhere"):
        search_budgets(model, dataclasses.replace(OPTIONS, target="nowhere"))
    text = '<ir_version: 8, opset_import: ["": 17]> relu (float[1,4] x) => (float[1,4] y) { y = Relu (x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "relu.onnx")
    with pytest.raises(UnsupportedError, match="no layer runs on the array"):
        search_budgets(tmp_path / "relu.onnx", Options(calibration={"x": np.ones((3, 4), np.float32)}))
