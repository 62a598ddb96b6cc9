"""The command as a whole: help, errors, exit statuses, interruptions."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from mmac.cli.app import COMMANDS
from mmac.isa import container
from tests.cli.conftest import images
from tests.commands import command, environment, mmac

HEAVY = ("numpy", "onnx", "onnxruntime", "onnx_ir", "networkx", "rich", "safetensors")


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = "import sys\ntry:\n from mmac.cli import main; main(['--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    *text, modules = done.stdout.splitlines()
    listed = [line.split()[0] for line in text[text.index("Commands:") + 1 :]]
    assert listed == list(COMMANDS)
    assert not set(HEAVY) & set(modules.split())


def test_help_takes_less_than_0_3_cpu_seconds() -> None:
    """CPU time, because the machine may be busy."""
    before = os.times()
    assert command("--help").returncode == 0
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.3


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str) -> None:
    result = mmac(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: mmac {name}")


def test_without_a_command_there_is_help_on_stderr() -> None:
    result = mmac()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Commands:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "where", "found"),
    [
        (["nope"], "mmac", "nope"),
        (["--nope"], "mmac", "--nope"),
        (["compile"], "mmac compile", "MODEL.onnx"),
        (["compile", "a.onnx"], "mmac compile", "--output"),
        (["simulate", "a", "--max-latency", "x"], "mmac simulate --max-latency", "'x'"),
        (["simulate", "a", "--constants", "x"], "mmac simulate --constants", "paper"),
        (["disasm", "a", "b"], "mmac disasm", "b"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_status_2(arguments: list[str], where: str, found: str) -> None:
    result = mmac(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    first, second, rest = result.stderr.split(": ", 2)
    assert (first, second) == ("error", where)
    assert found in rest
    assert rest.endswith(f"; see `{' '.join(where.split()[:2])} --help`\n")
    assert rest.count("\n") == 1


def test_an_unknown_command_is_answered_with_the_known_ones() -> None:
    assert ", ".join(COMMANDS) in mmac("nope").stderr


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("one\ntwo")

    monkeypatch.setattr(container, "load", fail)


@pytest.mark.usefixtures("broken")
def test_an_unexpected_exception_is_one_line_and_exit_status_1() -> None:
    result = mmac("disasm", "a.mmac")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: mmac: unexpected ValueError: one two; this is a fault of mmac; set MMAC_TRACEBACK=1 to see where\n"
    )


@pytest.mark.usefixtures("broken")
def test_the_traceback_is_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAC_TRACEBACK", "1")
    result = mmac("disasm", "a.mmac")
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr


def test_too_little_memory_is_a_resource_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(container, "load", fail)
    result = mmac("disasm", "a.mmac")
    assert result.exit_code == 5
    assert result.stderr.startswith("error: memory: ")


@pytest.mark.parametrize(
    ("failure", "status", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 5, "error: {}: cannot be written (No space left on device)"),
        (OSError(errno.EIO, "Input/output error"), 2, "error: {}: cannot be written (Input/output error)"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
    ],
)
def test_a_failed_write_leaves_nothing(
    folder: Path, empty: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, status: int, message: str
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    for arguments in (
        ("compile", folder / "net.onnx", "-o", empty / "out", "--calibration", folder / "samples.npz"),
        ("simulate", folder / "net.mmac", "-i", f"image={folder / 'image.npy'}", "-o", empty / "out"),
        ("disasm", folder / "net.mmac", "-o", empty / "out"),
        ("inspect", folder / "net.onnx", "-o", empty / "out"),
    ):
        result = mmac(*arguments)
        assert (result.exit_code, result.stdout) == (status, "")
        assert message.format(empty / "out") in result.stderr


def test_ctrl_c_ends_a_running_command_with_130(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    fifo = tmp_path_factory.mktemp("fifo") / "in.s"
    os.mkfifo(fifo)
    line = [sys.executable, "-m", "mmac.cli", "asm", str(fifo), "-o", str(empty / "out.mmac")]
    with (
        subprocess.Popen(line, env=environment(), stderr=subprocess.PIPE, text=True) as process,
        fifo.open("w"),  # returns when the command has opened the other end
    ):
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.strip() == "error: interrupted"


def interrupted_at(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `mmac` after `code`, which may press Ctrl-C by `press()`."""
    head = "import os, signal, sys\ndef press(): os.kill(os.getpid(), signal.SIGINT)"
    line = [
        sys.executable,
        "-c",
        f"{head}\n{code}\nfrom mmac.cli import main; main(sys.argv[1:])",
        *map(str, arguments),
    ]
    return subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)


DURING_IMPORT = """
import importlib.abc
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            try:
                press()
            except KeyboardInterrupt:
                raise {error}
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("click", "KeyboardInterrupt"),
        ("mmac.cli.app", "KeyboardInterrupt"),
        ("mmac.isa.errors", "ImportError('initialization failed')"),
        ("mmac.cli.commands.disasm", "KeyboardInterrupt"),
        ("numpy", "ImportError('initialization failed')"),  # what extension modules make of an interruption
        ("safetensors", "SystemError"),
    ],
)
def test_ctrl_c_while_something_is_imported(folder: Path, name: str, error: str) -> None:
    done = interrupted_at(DURING_IMPORT.format(name=name, error=error), "disasm", folder / "net.mmac")
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "error: interrupted")


def test_ctrl_c_when_the_work_is_done_changes_nothing() -> None:
    done = interrupted_at("import atexit; atexit.register(press)", "--version")
    assert (done.returncode, done.stderr) == (0, "")


def test_where_sigint_is_ignored_it_stays_ignored() -> None:
    code = f"signal.signal(signal.SIGINT, signal.SIG_IGN)\n{DURING_IMPORT.format(name='click', error='ImportError')}"
    done = interrupted_at(code, "--version")
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_during_a_compilation_leaves_no_program_and_only_whole_stages(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "many.npz", image=np.resize(images(4), (20_000, 3, 8, 8)))  # calibration takes a while
    stages, out = tmp_path / "stages", tmp_path / "out.mmac"
    line = ["compile", folder / "net.onnx", "--calibration", tmp_path / "many.npz", "--dump", stages, "-o", out]
    with subprocess.Popen(
        [sys.executable, "-m", "mmac.cli", *map(str, line)], env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        while not (stages / "01_fold.onnx").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "error: interrupted"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.npz", "stages"]
    assert sorted(path.name for path in stages.iterdir()) == ["00_import.onnx", "01_fold.onnx"]
    for path in stages.iterdir():
        onnx.checker.check_model(path)


def test_a_disk_that_fills_up_leaves_nothing(folder: Path, empty: Path) -> None:
    """A limit on the size of files stands in for the disk: the write fails in the middle."""
    for arguments in (
        ("compile", folder / "net.onnx", "-o", empty / "out"),
        ("asm", folder / "net.s", "-o", empty / "out"),
    ):
        code = "import resource, sys; from mmac.cli import main; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))"
        line = [sys.executable, "-c", f"{code}; main(sys.argv[1:])", *map(str, arguments)]
        done = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 5, done.stderr
        assert done.stderr.splitlines()[-1] == (
            f"error: {empty / 'out'}: cannot be written (File too large); free some space; nothing was written"
        )


def test_a_closed_pipe_is_no_news(folder: Path) -> None:
    line = [sys.executable, "-m", "mmac.cli", "disasm", str(folder / "net.mmac")]
    with subprocess.Popen(line, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_full_disk_behind_stdout(folder: Path) -> None:
    line = [sys.executable, "-m", "mmac.cli", "disasm", str(folder / "net.mmac")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(line, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr.startswith("error: stdout: cannot be written (No space left on device)")


def test_a_terminal_without_greek_letters(folder: Path) -> None:
    done = command("simulate", folder / "net.mmac", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split()[:4] == ["level", "?", "?", "?"]
