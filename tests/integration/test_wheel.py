"""The wheel holds everything: the command works from a fresh environment, outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.commands import ROOT


def run(*line: object, cwd: Path) -> str:
    """Standard output of a command that sees nothing of the checkout."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(list(map(str, line)), cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def binaries(wheel: Path) -> Path:
    """Commands of a fresh environment: its own mmac, and the other packages of this one."""
    folder = wheel.parent / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = ("-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    run(sys.executable, *pip, cwd=wheel.parent)
    site_packages = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    (site_packages / "dependencies.pth").write_text(f"{Path(np.__file__).parent.parent}\n")
    return python.parent


def test_has_all_sources_and_data_and_nothing_else(wheel: Path) -> None:
    layers = ("isa", "runtime", "compiler", "cli")
    wanted = {
        str(path.relative_to(ROOT / layer))
        for layer in layers
        for path in (ROOT / layer / "mmac").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert {"mmac/cli/data/fashion_mnist_cnn.onnx", "mmac/runtime/targets/vc707.toml", "mmac/isa/py.typed"} < names
    assert any(name.endswith("/LICENSE") for name in names)


def test_help_and_version(binaries: Path, tmp_path: Path) -> None:
    assert run(binaries / "mmac", "--help", cwd=tmp_path).startswith("Usage: mmac ")
    assert run(binaries / "mmac", "--version", cwd=tmp_path).startswith("mmac 0.")


def test_the_installed_package_is_the_one_that_runs(binaries: Path, tmp_path: Path) -> None:
    code = "import mmac.isa, mmac.runtime, mmac.compiler, mmac.cli; print(*mmac.__path__)"
    for path in run(binaries / "python", "-c", code, cwd=tmp_path).split():
        assert Path(path).is_relative_to(binaries.parent)


def test_demo(binaries: Path, tmp_path: Path) -> None:
    about = json.loads(run(binaries / "mmac", "demo", "--json", cwd=tmp_path))
    assert len(about["levels"]) == 8
    assert (tmp_path / about["program"]).is_file()
