"""Equal models and options give equal bytes, whatever the hash seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.commands import DATA, command
from tests.compiler.nets import NAMES, build


def compile_twice(model: Path, folder: Path, *more: object) -> None:
    written = []
    for seed in ("1", "2"):
        out = folder / f"{seed}.mmac"
        stages = folder / seed
        done = command("compile", model, "-o", out, "--dump", stages, *more, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
        written.append({file.name: file.read_bytes() for file in sorted(stages.iterdir())} | {"": out.read_bytes()})
    differing = [name for name in written[0] if written[0][name] != written[1][name]]
    assert not differing


def test_with_calibration_data(tmp_path: Path) -> None:
    with np.load(DATA / "fashion_mnist_test.npz") as data:
        np.savez(tmp_path / "samples.npz", image=data["calibration"][:8, None].astype(np.float32) / 255)
    more = ("--calibration", tmp_path / "samples.npz", "--calibration-method", "entropy", "--levels", "8x2,full")
    compile_twice(DATA / "fashion_mnist_cnn.onnx", tmp_path, *more)


@pytest.mark.parametrize("name", NAMES)
def test_without(name: str, tmp_path: Path) -> None:
    onnx.save(build(name), tmp_path / "net.onnx")
    compile_twice(tmp_path / "net.onnx", tmp_path)
