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


LONG = "a/name/that/is/far/longer/than/any/line/should/have/to/be/for/the/sake/of/one/table"


def test_names_are_shortened_where_there_is_no_room(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    output.table(("node", "n"), [(LONG, "1" * 20), ("b", "2")])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == 100
    assert lines[1] == f"{output.shortened(LONG, 78)}  {'1' * 20}"
    monkeypatch.setenv("COLUMNS", "200")
    output.table(("node", "n"), [(LONG, "1" * 20)])
    assert capsys.readouterr().out.splitlines()[1] == f"{LONG}  {'1' * 20}"


def test_numbers_that_have_no_room_follow_in_a_table_of_their_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    names = [f"class {number}" for number in range(10)]
    output.table(("level", *names), [("8x2", *"abcdefghij")], total=("sum", *"klmnopqrst"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert [line.split()[0] for line in lines] == ["level", "8x2", "sum"] * 2
    assert [line.split()[1:] for line in lines[1::3]] == [list("abcdef"), list("ghij")]
    assert " ".join(" ".join(line.split()[1:]) for line in lines[::3]) == " ".join(names)


def test_sentences_take_several_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = "because " * 12
    output.table(("node", "why"), [(LONG, words), ("b", "")], left=2, wrapped=True)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("a/name/")
    start = lines[0].index("why")
    assert " ".join(line[start:] for line in lines[1:-1]) == words.strip()
    assert lines[-1] == "b"


def test_a_binary_file_does_not_go_to_a_terminal(folder: Path) -> None:
    shown, piped = on_terminal("stdout", "inspect", folder / "net.onnx", "--format", "onnx", status=2)
    assert (shown, piped) == (
        "",
        "error: --format onnx: a binary file cannot go to the terminal; a file or a pipe; -o FILE.onnx\n",
    )
