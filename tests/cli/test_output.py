"""What a terminal gets that a pipe does not: progress bars on stderr and framed tables on stdout."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from mmac.cli import output
from tests.commands import environment


def on_terminal(stream: str, *arguments: object, status: int = 0) -> tuple[str, str]:
    """Run `mmac` with one of its two streams on a terminal; what that one and the other received."""
    ours, theirs = pty.openpty()
    code = "import sys; from mmac.cli import main, output; output.PATIENCE_S = 0; main(sys.argv[1:])"
    line = [sys.executable, "-c", code, *map(str, arguments)]
    other = "stdout" if stream == "stderr" else "stderr"
    streams = {stream: theirs, other: subprocess.PIPE}
    with subprocess.Popen(line, env=environment(TERM="xterm", COLUMNS="120"), **streams) as process:  # type: ignore[call-overload]
        os.close(theirs)
        shown = bytearray()
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # how Linux says that the other end is closed
            pass
        piped = getattr(process, other).read()
    os.close(ours)
    assert process.returncode == status
    return shown.decode(), piped.decode()


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        (("compile", "{0}/net.onnx", "--calibration", "{0}/samples.npz", "-o", "{1}/a.mmac", "--json"), "compile: "),
        (("simulate", "{0}/net.mmac", "-i", "image={0}/image.npy", "--level", "all", "--json"), "simulate: "),
        (("check", "{0}/net.onnx", "--json"), "check: "),
        (("inspect", "{0}/net.mmac", "--format", "json"), "net.mmac: verify"),
    ],
)
def test_progress_goes_to_a_terminal_on_stderr(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], title: str
) -> None:
    shown, piped = on_terminal("stderr", *(text.format(folder, tmp_path) for text in arguments))
    assert title in shown
    assert json.loads(piped)


def test_tables_are_framed_on_a_terminal(folder: Path) -> None:
    shown, piped = on_terminal("stdout", "simulate", folder / "net.mmac")
    assert "┏━" in shown
    assert "│ 14x2  │" in shown
    assert piped.startswith("warning: ")


def test_what_would_steer_the_terminal_is_printed_as_repr_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("node", "n"), [("a\nb\tc\x1b[31m", "1"), ("α 层", "2")])
    output.error("in\nout\x1b")
    out, err = capsys.readouterr()
    assert out.splitlines()[1:] == [r"a\nb\tc\x1b[31m  1", "α 层              2"]
    assert err == "error: in\\nout\\x1b\n"


def test_a_binary_file_does_not_go_to_a_terminal(folder: Path) -> None:
    shown, piped = on_terminal("stdout", "inspect", folder / "net.onnx", "--format", "onnx", status=2)
    assert (shown, piped) == (
        "",
        "error: --format onnx: a binary file cannot go to the terminal; a file or a pipe; -o FILE.onnx\n",
    )
