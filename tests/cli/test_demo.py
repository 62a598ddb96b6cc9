"""`mmac demo`: the bundled model at every level."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import mmac.cli.commands.demo as commands_demo
from mmac.compiler import PASS_NAMES
from mmac.isa.plan import PAPER_LEVELS
from mmac.runtime import Session
from tests.commands import DATA, mmac


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object], float]:
    folder = tmp_path_factory.mktemp("demo") / "new"
    before = os.times()
    result = mmac("demo", "--dir", folder, "--json")
    after = os.times()
    assert result.exit_code == 0, result.stderr
    return folder, json.loads(result.stdout), after.user - before.user


def test_json(demo: tuple[Path, dict[str, object], float]) -> None:
    folder, about, _ = demo
    assert about["images"] == 300
    assert about["float_accuracy"] == pytest.approx(0.9367, abs=1e-4)
    levels = about["levels"]
    assert isinstance(levels, list)
    assert [(level["alpha"], level["beta"]) for level in levels] == [(x.alpha, x.beta) for x in PAPER_LEVELS]
    assert levels[-1]["accuracy"] >= 0.92
    for key in ("latency_ms", "weight_bytes"):
        values = [level[key] for level in levels]
        assert values == sorted(values)
    energy = [level["energy_mj"] for level in levels]  # falls where a layer goes over to the multipliers
    assert energy[0] == min(energy)
    assert about["program"] == str(folder / "fashion_mnist_cnn.mmac")
    assert len(list((folder / "stages").iterdir())) == len(PASS_NAMES)


def test_takes_less_than_20_seconds(demo: tuple[Path, dict[str, object], float]) -> None:
    assert demo[2] < 20


def test_accuracy_is_that_of_the_program_it_leaves(demo: tuple[Path, dict[str, object], float]) -> None:
    folder, about, _ = demo
    session = Session(folder / "fashion_mnist_cnn.mmac", "fast")
    with np.load(DATA / "fashion_mnist_test.npz") as data:
        images, labels = data["images"][:, None].astype(np.float32) / np.float32(255), data["labels"]
    logits = [session.run(["logits"], {"image": image[None]}, "14x2")[0] for image in images]
    levels = about["levels"]
    assert isinstance(levels, list)
    assert levels[3]["accuracy"] == float((np.concatenate(logits).argmax(1) == labels).mean())


def test_evaluate_measures_the_same(demo: tuple[Path, dict[str, object], float], tmp_path: Path) -> None:
    folder, about, _ = demo
    with np.load(DATA / "fashion_mnist_test.npz") as data:
        images, labels = data["images"][:, None].astype(np.float32) / np.float32(255), data["labels"]
    np.savez(tmp_path / "test.npz", image=images, labels=labels)
    line = ("evaluate", folder / "fashion_mnist_cnn.mmac", "--data", tmp_path / "test.npz", "--level", "14x2", "--json")
    found = json.loads(mmac(*line, "--model", folder / "model.onnx").stdout)
    levels = about["levels"]
    assert isinstance(levels, list)
    assert found["levels"][0]["metrics"]["top1"] == levels[3]["accuracy"]
    assert found["original"]["top1"] == about["float_accuracy"]


def test_text(demo: tuple[Path, dict[str, object], float], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, about, _ = demo
    monkeypatch.setattr(commands_demo, "run", lambda *_: about)
    result = mmac("demo", "--dir", folder)
    assert result.exit_code == 0
    columns, *rows = result.stdout.splitlines()
    assert columns.split() == ["level", "α", "β", "γ", "accuracy", "latency", "ms", "energy", "mJ", "weight", "bytes"]
    assert [row.split()[0] for row in rows[:8]] == [str(level) for level in PAPER_LEVELS]
    assert rows[-3] == f"program: {folder / 'fashion_mnist_cnn.mmac'}"
    assert rows[-2] == f"stages:  {folder / 'stages'}"
    assert rows[-1] == f"to try:  {folder / 'model.onnx'} {folder / 'samples.npz'} {folder / 'image.npy'}"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = mmac("demo", "--dir", tmp_path / "file")
    assert result.exit_code == 2
    assert "cannot be made a folder" in result.stderr


def test_its_files_make_its_program_again(demo: tuple[Path, dict[str, object], float], tmp_path: Path) -> None:
    """The commands of the README name them."""
    folder, about, _ = demo
    assert about["files"] == [str(folder / name) for name in ("model.onnx", "samples.npz", "image.npy")]
    more = ("--calibration", folder / "samples.npz", "-o", tmp_path / "a.mmac")
    assert mmac("compile", folder / "model.onnx", *more).exit_code == 0
    assert (tmp_path / "a.mmac").read_bytes() == (folder / "fashion_mnist_cnn.mmac").read_bytes()
    result = mmac("simulate", tmp_path / "a.mmac", "-i", f"image={folder / 'image.npy'}")
    assert result.exit_code == 0, result.stderr


def test_files_of_the_user_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("mine")
    result = mmac("demo", "--dir", tmp_path)
    assert result.exit_code == 2
    assert "model.onnx: there is another file of this name" in result.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("model.onnx", "mine")]


def test_an_engine_that_is_not_there_is_found_at_once(empty: Path) -> None:
    result = mmac("demo", "--engine", "warp")
    assert result.exit_code == 2
    assert "'warp' is not one of" in result.stderr
