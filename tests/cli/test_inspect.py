"""`mmac inspect`: every stage, what passes change, and programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mmac.compiler import PASS_NAMES, Options, run_passes, stages
from mmac.isa.container import load
from mmac.runtime import Session, estimate
from tests.cli.conftest import images
from tests.commands import command, mmac

GRAPH_PASSES = PASS_NAMES[: PASS_NAMES.index("terms") + 1]


def of(folder: Path, *more: object) -> tuple[object, ...]:
    return "inspect", folder / "net.onnx", "--calibration", folder / "samples.npz", *more


def test_list_passes() -> None:
    result = mmac("inspect", "--list-passes")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(PASS_NAMES)
    assert all(len(line.split()) > 3 for line in result.stdout.splitlines())
    passes = json.loads(mmac("inspect", "--list-passes", "--format", "json").stdout)["passes"]
    assert [about["name"] for about in passes] == list(PASS_NAMES)
    assert passes[PASS_NAMES.index("budget")]["options"] == ["levels", "budgets"]


@pytest.mark.parametrize("name", PASS_NAMES)
def test_text_after_each_pass(folder: Path, name: str) -> None:
    result = mmac(*of(folder, "--after", name))
    assert result.exit_code == 0
    stage, _ = run_passes(folder / "net.onnx", Options(calibration={"image": images(4)}), name)
    if name == "budget":
        plan, rest = result.stdout.split("model ", 1)
        assert [line.split()[0] for line in plan.splitlines()] == ["layer", "#0", "#1", "#2"]
        assert "first or last layer" in plan
        assert mmac(*of(folder, "--plan")).stdout == plan
        assert f"model {rest}" == stages.to_text(stage)
    else:
        assert result.stdout == stages.to_text(stage)
    assert max(map(len, result.stdout.splitlines())) < 1000, "no weights in the text"


def test_groups_with_budgets_of_their_own_are_explained(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "spend.toml").write_text('["#1"]\nalpha = 8\nspend = "largest"\n')
    text = mmac(*of(folder, "--plan", "--levels", "8x2", "--budgets", tmp_path / "spend.toml")).stdout
    row = next(line for line in text.splitlines() if line.startswith("#1"))
    assert "≤ " in row
    assert text.splitlines()[-1].startswith("≤ 17x2 (8.0): groups of weights have budgets of their own")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--after", "budget"), "--plan: given with --after; --plan alone"),
        (("--level", "8x2"), "--plan: given with --level"),
        (("--format", "json"), "--plan: given with --format json"),
    ],
)
def test_plan_stands_alone(folder: Path, options: tuple[str, ...], message: str) -> None:
    result = mmac(*of(folder, "--plan", *options))
    assert result.exit_code == 2
    assert message in result.stderr
    assert "is a program, whose plan is shown anyway" in mmac("inspect", folder / "net.mmac", "--plan").stderr


@pytest.mark.parametrize("name", PASS_NAMES)
def test_json_after_each_pass(folder: Path, name: str) -> None:
    about = json.loads(mmac(*of(folder, "--after", name, "--format", "json")).stdout)
    assert about["model"] == "net"
    if name == "partition":
        units = {node["name"]: node.get("unit") for node in about["nodes"]}
        assert (units["conv0"], units["softmax6"]) == ("array", "host")


def test_without_a_pass_the_imported_model_is_shown(folder: Path) -> None:
    assert mmac("inspect", folder / "net.onnx").stdout == mmac(*of(folder, "--after", "import")).stdout


@pytest.mark.parametrize("name", PASS_NAMES)
def test_diff_of_each_pass(folder: Path, name: str) -> None:
    result = mmac(*of(folder, "--diff", name))
    assert result.exit_code == 0
    if name == "reorder":
        assert not result.stdout, "it has to be asked for"
        return
    assert result.stdout.startswith(f"--- before {name}\n+++ after {name}\n")
    if name == "budget":
        changed = [line for line in result.stdout.splitlines()[2:] if line[0] == "+"]
        assert any("mmac.alpha = '8,10,12,14,14,16,18,20'" in line for line in changed)


@pytest.mark.parametrize("name", GRAPH_PASSES)
def test_onnx_after_each_graph_pass_runs_in_onnxruntime(folder: Path, tmp_path: Path, name: str) -> None:
    result = mmac(*of(folder, "--after", name, "--format", "onnx", "-o", tmp_path / "stage.onnx"))
    assert (result.exit_code, result.stdout) == (0, "")
    onnx.checker.check_model(tmp_path / "stage.onnx")
    onnxruntime.InferenceSession(str(tmp_path / "stage.onnx")).run(None, {"image": images(1)})


@pytest.mark.parametrize("level", ["8x2", "4", None])
def test_terms_at_a_level_computes_what_the_program_computes(folder: Path, tmp_path: Path, level: str | None) -> None:
    chosen = () if level is None else ("--level", level)
    result = mmac(*of(folder, "--after", "terms", *chosen, "--format", "onnx", "-o", tmp_path / "terms.onnx"))
    assert result.exit_code == 0
    got = onnxruntime.InferenceSession(str(tmp_path / "terms.onnx")).run(None, {"image": images(1)})[0]
    expected = Session(folder / "net.mmac").run(None, {"image": images(1)}, level)[0]
    np.testing.assert_array_equal(got, expected)


def test_onnx_goes_to_a_pipe_as_it_is(folder: Path, tmp_path: Path) -> None:
    mmac("inspect", folder / "net.onnx", "--format", "onnx", "-o", tmp_path / "import.onnx")
    result = mmac("inspect", folder / "net.onnx", "--format", "onnx")
    assert result.stdout_bytes == (tmp_path / "import.onnx").read_bytes()


def test_a_program(folder: Path, tmp_path: Path) -> None:
    result = mmac("inspect", folder / "net.mmac")
    assert result.exit_code == 0
    assert "input image: float32[1,3,8,8]\noutput scores: float32[1,5]\n" in result.stdout
    plan = next(line for line in result.stdout.splitlines() if line.startswith("#1 "))
    assert plan.split()[1:] == ["conv2", "8x2", "10x2", "12x2", "14x2", "14x3", "16x3", "18x3", "20x3"]
    assert "layers at 20x3" in result.stdout
    after = result.stdout.partition("predicted for vc707 (SQNR at the outputs, on calibration samples):\n")[2]
    costs = estimate(load(folder / "net.mmac")).levels
    for line, key, digits in zip(
        after.splitlines()[1:4], ("latency_ms", "energy_mj", "sqnr_db"), (4, 4, 2), strict=True
    ):
        assert line.split()[2:] == [f"{getattr(level, key):.{digits}f}" for level in costs]
    assert mmac("inspect", folder / "net.mmac", "-o", tmp_path / "about.txt").stdout == ""
    assert (tmp_path / "about.txt").read_text("utf-8") == result.stdout
    about = json.loads(mmac("inspect", folder / "net.mmac", "--format", "json", "--level", "0").stdout)
    assert about["plan"]["conv2"][0] == "8x2"
    assert [level["level"] for level in about["costs"]["levels"]] == ["8x2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "mmac inspect: no file is given; MODEL.onnx, PROGRAM.mmac or --list-passes"),
        (["{net}", "--after", "magic"], "--after 'magic': no such pass; import, fold, "),
        (["{net}", "--diff", "magic"], "--diff 'magic': no such pass; import, fold, "),
        (["{net}", "--diff", "fold", "--after", "fold"], "--after and --diff: both are given"),
        (["{net}", "--diff", "fold", "--format", "json"], "--diff: --format json; --format text"),
        (["{net}", "--after", "tile", "--format", "onnx"], "--format onnx: the tile IR and the program are no ONNX"),
        (["{net}", "--after", "fold", "--level", "8x2"], "--level: given with the pass fold; --after terms"),
        (["{net}", "--after", "terms", "--level", "9x2"], "level '9x2': not in this program"),
        (["{program}", "--levels", "8x2"], "--levels: {program} is compiled already; --target, --level, "),
        (["{program}", "--dim", "batch=1"], "--dim: {program} is compiled already"),
        (
            ["{net}", "-o", "{net}"],
            "net.onnx: --output would overwrite MODEL.onnx|PROGRAM.mmac; a file that is no input",
        ),
        (["{program}", "--after", "fold"], "a program has no passes left to show"),
    ],
)
def test_bad_options(folder: Path, arguments: list[str], message: str) -> None:
    places = {"net": folder / "net.onnx", "program": folder / "net.mmac"}
    result = mmac("inspect", *(text.format(**places) for text in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert message.format(**places) in result.stderr.splitlines()[-1]


def test_text_is_the_same_in_every_process(folder: Path) -> None:
    texts = {command("inspect", folder / "net.onnx", "--after", "terms", PYTHONHASHSEED=s).stdout for s in "12"}
    assert len(texts) == 1
