"""Every script in examples/ runs."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.commands import ROOT, environment

EXAMPLES = {"paper_hardware.py", "post_training.py", "train_fashion_mnist.py"}


def test_no_example_is_forgotten() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == EXAMPLES


def run(name: str, folder: Path) -> list[dict[str, Any]]:
    """A quick look of an example; its sections, which it prints, writes as JSON and shows on a page."""
    line = [sys.executable, "-m", f"examples.{name}", "--quick", "--out-dir", str(folder)]
    path = os.pathsep.join(str(ROOT / part) for part in (".", "isa", "compiler", "runtime", "cli"))
    done = subprocess.run(line, cwd=ROOT, env=environment(PYTHONPATH=path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (data, page) = sorted(folder.iterdir(), key=lambda file: file.suffix != ".json")
    sections: list[dict[str, Any]] = json.loads(data.read_text("utf-8"))["sections"]
    for section in sections:
        assert section["verdicts"]
        assert all(f"* {verdict}" in done.stdout for verdict in section["verdicts"])
        assert section["title"] in page.read_text("utf-8")
    return sections


def test_paper_hardware(tmp_path: Path) -> None:
    assert [section["title"].split()[0] for section in run("paper_hardware", tmp_path)] == ["§7.1", "§7.2"]


def test_post_training(tmp_path: Path) -> None:
    measured, published = run("post_training", tmp_path)
    assert measured["title"] == "Fashion-MNIST CNN: 60 test images"
    corrected, plain = (table["rows"] for table in measured["tables"])
    assert [row["α"] for row in corrected] == ["8", "20", "all"]
    assert corrected[0]["β = 3 dB"] > plain[0]["β = 3 dB"]
    assert published["title"] == "Published figures"


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_train_fashion_mnist(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    rng = np.random.default_rng(0)
    for split, count in (("train", 256), ("t10k", 300)):
        labels = np.arange(count) % 10
        images = rng.integers(0, 64, (count, 28, 28)) + 16 * labels[:, None, None]
        write_idx(tmp_path / f"{split}-images-idx3-ubyte.gz", images.astype(np.uint8))
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte.gz", labels.astype(np.uint8))
    line = [sys.executable, str(ROOT / "examples/train_fashion_mnist.py"), "--data", str(tmp_path)]
    small = ["--out-dir", str(tmp_path), "--epochs", "1", "--batch", "64", "--threads", "1"]
    done = subprocess.run([*line, *small], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    about = json.loads(done.stdout)
    assert about["parameters"] == 36370
    session = onnxruntime.InferenceSession(about["model"])
    with np.load(about["data"]) as data:
        assert data["images"].shape == (300, 28, 28)
        (logits,) = session.run(None, {"image": data["images"][:2, None].astype(np.float32) / 255})
    assert logits.shape == (2, 10)
