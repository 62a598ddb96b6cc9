"""How tests run `mmac`: in this process, or as a command of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from mmac.cli.app import main

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "cli/mmac/cli/data"


def mmac(*arguments: object) -> Result:
    """Run a command line in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def environment(**more: str) -> dict[str, str]:
    """Environment of a process that imports the sources under test."""
    path = ":".join(str(ROOT / layer) for layer in ("isa", "runtime", "compiler", "cli"))
    return os.environ | {"PYTHONPATH": path} | more


def command(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `mmac` in a process of its own, with more environment variables."""
    line = [sys.executable, "-m", "mmac.cli", *map(str, arguments)]
    return subprocess.run(line, env=environment(**more), capture_output=True, text=True, check=False)
