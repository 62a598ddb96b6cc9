"""Every script in examples/ runs."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.commands import ROOT, environment

EXAMPLES = {"paper_hardware.py", "train_fashion_mnist.py"}


def test_no_example_is_forgotten() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == EXAMPLES


def test_paper_hardware(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "examples.paper_hardware", "--quick", "--out-dir", str(tmp_path)]
    path = os.pathsep.join(str(ROOT / part) for part in (".", "isa", "compiler", "runtime", "cli"))
    done = subprocess.run(line, cwd=ROOT, env=environment(PYTHONPATH=path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "hardware.json").read_text("utf-8"))
    titles = [section["title"] for section in document["sections"]]
    assert [title.split()[0] for title in titles] == ["§7.1", "§7.2"]
    for section in document["sections"]:
        assert section["verdicts"]
        assert all(f"* {verdict}" in done.stdout for verdict in section["verdicts"])
    page = (tmp_path / "hardware.html").read_text("utf-8")
    assert all(title in page for title in titles)


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
