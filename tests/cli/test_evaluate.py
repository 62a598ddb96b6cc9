"""`mmac evaluate`: what it prints, and what it says about bad data, metrics and models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from mmac.cli.commands.evaluate import LABELS
from mmac.compiler import evaluate, read_dataset
from mmac.compiler.evaluation import dataset
from mmac.isa.container import load
from mmac.isa.plan import PAPER_LEVELS
from tests.cli.conftest import images, net
from tests.commands import environment, mmac

NAMES = [str(level) for level in PAPER_LEVELS]
COUNT = 6
METRICS = """
def spread(outputs, labels):
    print("looking")
    return {"largest": outputs[0].max(axis=1), "labels": labels.sum()}

def fails(outputs, labels):
    raise ValueError("no such luck")

def text(outputs, labels):
    return "good"
"""


@pytest.fixture(scope="module")
def data(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled images, functions to measure with, and a folder that holds no images."""
    path = tmp_path_factory.mktemp("labelled")
    np.savez(path / "data.npz", image=images(COUNT), labels=np.arange(COUNT) % 5, y=np.zeros(COUNT, np.uint8))
    np.savez(path / "other.npz", image=images(COUNT), y=np.zeros(COUNT))
    (path / "cli_metrics.py").write_text(METRICS)
    (path / "empty").mkdir()
    return path


def test_text(folder: Path, data: Path) -> None:
    result = mmac("evaluate", folder / "net.mmac", "--data", data / "data.npz", "--model", folder / "net.onnx")
    assert result.exit_code == 0, result.stderr
    title, columns, *rows, original, host = result.stdout.splitlines()
    assert title == "net on vc707, 6 samples"
    assert columns.split() == ["level", "α", "β", "γ", "top1", "agreement", "latency", "ms", "energy", "mJ"]
    assert [row.split()[0] for row in rows] == NAMES
    assert original.startswith("the original model in onnxruntime: top1 ")
    assert host == "latency and energy leave out 1 host segment, run by onnxruntime"
    assert result.stderr == ""


def test_json_is_what_the_function_gives(folder: Path, data: Path) -> None:
    arguments = ("--data", data / "data.npz", "--labels", "y", "--samples", "4", "--level", "14x3", "--json")
    result = mmac("evaluate", folder / "net.mmac", *arguments)
    about = json.loads(result.stdout)
    program = load(folder / "net.mmac")
    found = evaluate(program, read_dataset(data / "data.npz", program.inputs, "y"), levels=[4], samples=4)
    assert about | {"seconds": 0} == found.to_json() | {"seconds": 0}
    assert [level["level"] for level in about["levels"]] == ["14x3"]


def test_a_function_of_ones_own(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    line = ("evaluate", folder / "net.mmac", "--data", "data.npz", "--level", "8x2", "--metric", "cli_metrics:spread")
    result = mmac(*line, "--json")
    (level,) = json.loads(result.stdout)["levels"]
    assert level["metrics"]["labels"] == 10
    assert 0.2 <= level["metrics"]["largest"] <= 1
    assert result.stderr == "looking\n"
    assert mmac(*line).stdout.splitlines()[1].split()[4:6] == ["largest", "labels"]


def test_images(folder: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="the extra `images` is not installed")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    for number, each in enumerate(pixels):
        (path := tmp_path / f"class{number % 2}").mkdir(exist_ok=True)
        image.fromarray(each).save(path / f"{number}.png")
    options = ("--mean", "0.5,0.4,0.3", "--std", "0.25", "--resize", "8", "--json")
    result = mmac("evaluate", folder / "net.mmac", "--data", tmp_path, *options)
    ordered = pixels[[0, 2, 1, 3]].transpose(0, 3, 1, 2) / np.float32(255)
    values = (ordered - np.array([0.5, 0.4, 0.3], np.float32)[:, None, None]) / np.float32(0.25)
    np.savez(tmp_path / "same.npz", image=values.astype(np.float32), labels=[0, 0, 1, 1])
    other = mmac("evaluate", folder / "net.mmac", "--data", tmp_path / "same.npz", "--json")
    assert json.loads(result.stdout)["levels"] == json.loads(other.stdout)["levels"]


@pytest.mark.parametrize(
    ("status", "arguments", "message"),
    [
        (
            2,
            ["--data", "no"],
            "no: cannot be read (No such file or directory); an NPZ file of samples and labels, or a",
        ),
        (2, ["--data", "other.npz"], "other.npz: no array 'labels' in it; there are 'image', 'y'; say which holds"),
        (4, ["--data", "other.npz", "--labels", "y"], "labels: float64[6]; one whole number for each sample"),
        (4, ["--data", "cli_metrics.py"], "cli_metrics.py: neither an .npz nor an .npy file"),
        (2, ["--data", "empty"], "empty: no images; one folder for each class, with images in it"),
        (2, ["--data", "data.npz", "--resize", "8"], "data.npz: arrays are taken as they are"),
        (2, ["--data", "empty", "--mean", "1;2"], "--mean: '1;2'; numbers with commas between them"),
        (2, ["--data", "data.npz", "--metric", "top5"], "--metric 'top5': there are 5 classes; more than 5 classes"),
        (2, ["--data", "data.npz", "--metric", "cli_metrics:none"], "no function none in cli_metrics; fails, spread"),
        (
            1,
            ["--data", "data.npz", "--metric", "cli_metrics:fails"],
            "cli_metrics:fails: raised ValueError: no such luck",
        ),
        (4, ["--data", "data.npz", "--metric", "cli_metrics:text"], "metric cli_metrics:text: returned a str"),
        (2, ["--data", "no.npz", "--level", "99x9"], "--level '99x9': out of range"),
        (2, ["--data", "no.npz", "--target", "none"], "--target 'none': no such target"),
        (2, ["--data", "data.npz", "--samples", "7"], "--samples: 7; 1…6, as many as the dataset has"),
        (2, ["--data", "data.npz", "--jobs", "0"], "mmac evaluate --jobs: 0 is not in the range x>=1"),
        (4, ["--data", "data.npz", "--model", "data.npz"], "data.npz: onnxruntime refuses it"),
        (
            2,
            ["--data", "data.npz", "--model", "none.onnx"],
            "none.onnx: cannot be read (No such file or directory); the",
        ),
        (2, [], "mmac evaluate: Missing option '--data'"),
    ],
)
def test_errors(
    folder: Path, data: Path, status: int, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data)
    result = mmac("evaluate", folder / "net.mmac", *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("delay_s", [0, 0.4, 2])
def test_ctrl_c_ends_all_processes_at_once(folder: Path, tmp_path: Path, delay_s: float) -> None:
    count = 20_000
    np.savez(tmp_path / "many.npz", image=np.resize(images(4), (count, 3, 8, 8)), labels=np.zeros(count, np.int64))
    line = ["evaluate", folder / "net.mmac", "--data", tmp_path / "many.npz", "--jobs", 2]
    with subprocess.Popen(
        [sys.executable, "-m", "mmac.cli", *map(str, line)],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while len(children.read_text().split()) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(delay_s)
        begin = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr.strip()) == (130, "error: interrupted")
    assert time.monotonic() - begin < 5


def test_traceback_of_a_function(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    line = ("evaluate", folder / "net.mmac", "--data", "data.npz", "--metric", "cli_metrics:fails")
    monkeypatch.setenv("MMAC_TRACEBACK", "1")
    assert 'cli_metrics.py", line 7, in fails' in mmac(*line).stderr


def test_a_model_of_larger_batches_says_what_its_costs_are_of(folder: Path, data: Path, tmp_path: Path) -> None:
    onnx.save(net(), tmp_path / "net.onnx")
    options = ("--calibration", folder / "samples.npz", "--dim", "batch=2", "--levels", "8x2,full")
    assert mmac("compile", tmp_path / "net.onnx", "-o", tmp_path / "two.mmac", *options).exit_code == 0
    result = mmac("evaluate", tmp_path / "two.mmac", "--data", data / "data.npz")
    assert "latency and energy are of one run, which takes 2 samples" in result.stdout.splitlines()


def test_the_default_name_of_labels() -> None:
    """It is written out in the command, whose help imports nothing heavy."""
    assert LABELS == dataset.LABELS
