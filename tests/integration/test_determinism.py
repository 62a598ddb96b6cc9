"""Equal models and options give equal bytes, whatever the hash seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.commands import DATA, environment
from tests.compiler.nets import NAMES, build

SEEDS = ("1", "2")
WITH_DATA = "fashion_mnist_cnn"
COMPILE = """
import sys
from click.testing import CliRunner
from mmac.cli.app import main

for line in sys.stdin:
    done = CliRunner().invoke(main, line.split())
    if done.exit_code:
        sys.exit(done.stderr)
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each seed a folder with a program of each model, and a folder of its stages."""
    folder = tmp_path_factory.mktemp("seeds")
    for name in NAMES:
        onnx.save(build(name), folder / f"{name}.onnx")
    (folder / f"{WITH_DATA}.onnx").write_bytes((DATA / f"{WITH_DATA}.onnx").read_bytes())
    with np.load(DATA / "fashion_mnist_test.npz") as data:
        np.savez(folder / "samples.npz", image=data["calibration"][:8, None].astype(np.float32) / 255)
    more = {WITH_DATA: "--calibration samples.npz --calibration-method entropy --levels 8x2,full"}
    for seed in SEEDS:
        (folder / seed).mkdir()
        lines = [f"compile {name}.onnx -o {seed}/{name}.mmac --dump {seed}/{name} {more.get(name, '')}"
                 for name in (*NAMES, WITH_DATA)]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", COMPILE], input="\n".join(lines), cwd=folder, env=environment(PYTHONHASHSEED=seed),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", [*NAMES, WITH_DATA])
def test_two_seeds(name: str, compiled: Path) -> None:
    written = []
    for seed in SEEDS:
        stages = sorted((compiled / seed / name).iterdir())
        assert stages
        written.append({file.name: file.read_bytes() for file in (*stages, compiled / seed / f"{name}.mmac")})
    differing = [file for file in written[0] if written[0][file] != written[1][file]]
    assert not differing
