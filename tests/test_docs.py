"""Every command and every piece of Python in the README and in docs/ runs, in the order it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmac.runtime.targets import load_target
from tests.commands import DATA, ROOT, environment

PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(sh|python|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
"""Fenced blocks. A toml block begins with a comment that names its file."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the pages take for granted: the command, a model, calibration samples, an image, a small target."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/mmac").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mmac.cli "$@"\n')
    (tmp_path / "bin/mmac").chmod(0o755)
    with np.load(DATA / "fashion_mnist_test.npz") as data:
        calibration, images = (data[key][:, None].astype(np.float32) / 255 for key in ("calibration", "images"))
    (tmp_path / "model.onnx").write_bytes((DATA / "fashion_mnist_cnn.onnx").read_bytes())
    np.savez(tmp_path / "samples.npz", image=calibration)
    np.save(tmp_path / "image.npy", images[:1])
    text = (ROOT / "runtime/mmac/runtime/targets/vc707.toml").read_text("utf-8")
    (tmp_path / "small.toml").write_text(text.replace('"vc707"', '"small"').replace("blocks = 128", "blocks = 16"))
    assert load_target(tmp_path / "small.toml").array.blocks == 16
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_page(page: str, folder: Path) -> None:
    for kind, block in BLOCK.findall((ROOT / page).read_text("utf-8")):
        if kind == "toml":
            (folder / block.split()[1]).write_text(block, "utf-8")
            continue
        command = ["sh", "-e"] if kind == "sh" else [sys.executable, "-"]
        env = environment(PATH=f"{folder / 'bin'}:{os.environ['PATH']}")
        done = subprocess.run(command, input=block, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stderr}"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^):#]+)", (ROOT / page).read_text("utf-8")):
            assert (ROOT / page).parent.joinpath(link).is_file(), f"{page}: {link}"


def test_the_map_of_the_sources_is_right() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8").partition("\n|---|---|\n")[2].partition("\n\n")[0]
    paths = [Path(name) for name in re.findall(r"`([a-z_/]+/[a-z_.]*)`", text)]
    assert len(paths) > 30
    for path in paths:
        layer = path.parts[0]
        short = ROOT / layer / "mmac" / path
        assert short.exists() or (ROOT / path).exists(), path


@pytest.mark.parametrize("target", ["help", "demo", "test", "lint", "types", "bench", "bench-test", "docs", "clean"])
def test_make_knows_the_target(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 50
