"""Every command and every piece of Python in the README and in docs/ runs as printed, after `make demo`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmac.runtime.targets import load_target
from tests.commands import ROOT, environment

PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```(sh|python|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
"""Fenced blocks. A toml block begins with a comment that names its file."""


ACTIVATE = """
export PATH="$PWD/.venv/bin:$PATH"
"""
COMMANDS = {"mmac": f'exec "{sys.executable}" -m mmac.cli "$@"', "python": f'exec "{sys.executable}" "$@"'}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a checkout after `make demo`: an environment that has `mmac`, and what the demo has written."""
    root = tmp_path_factory.mktemp("checkout")
    binaries = root / ".venv/bin"
    binaries.mkdir(parents=True)
    (binaries / "activate").write_text(ACTIVATE)
    for name, line in COMMANDS.items():
        (binaries / name).write_text(f"#!/bin/sh\n{line}\n")
        (binaries / name).chmod(0o755)
    command = ["make", "--no-print-directory", "--dry-run", "demo"]  # the tests may themselves run under make
    recipe = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert recipe.splitlines()[-1] == ".venv/bin/mmac demo"
    subprocess.run([binaries / "mmac", "demo"], cwd=root, env=environment(), check=True, capture_output=True)
    (root / "runtime").symlink_to(ROOT / "runtime")
    # docs/targets.md takes a target of one's own for granted
    text = (ROOT / "runtime/mmac/runtime/targets/vc707.toml").read_text("utf-8")
    (root / "demo/small.toml").write_text(text.replace('"vc707"', '"small"').replace("blocks = 128", "blocks = 16"))
    assert load_target(root / "demo/small.toml").array.blocks == 16
    return root


def script(page: str) -> str:
    """A page as one shell script: its commands as they are printed, its Python, and the files that it shows.

    The first command of the README is where every page begins: it finds `mmac` and goes into the demo's folder.
    """
    readme, text = ((ROOT / name).read_text("utf-8") for name in ("README.md", page))
    first = BLOCK.findall(readme)[0][1].splitlines()[0]
    lines = [] if page == "README.md" else [first]
    for kind, block in BLOCK.findall(text):
        before = {"sh": "", "python": "python - <<'END'", "toml": f"cat > {block.split()[1]} <<'END'"}[kind]
        lines += [block] if kind == "sh" else [before, f"{block}END"]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("page", PAGES)
def test_page(page: str, demo: Path, tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    shutil.copytree(demo, root, symlinks=True)
    done = subprocess.run(
        ["sh", "-ex"], input=script(page), cwd=root, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


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


TARGETS = ["help", "demo", "test", "lint", "types", "bench", "paper", "accuracy", "bench-test", "docs", "clean"]


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_the_target(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 50
