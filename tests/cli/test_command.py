"""What all commands refuse before they begin: outputs that are inputs or cannot be written, options given twice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click
import pytest

from mmac.cli import command
from mmac.cli.app import COMMANDS, main
from mmac.isa.errors import UsageError
from tests.commands import mmac


@pytest.fixture
def work(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own, with nothing in the way of work but the check of the outputs: it fails if it begins."""
    for name in ("net.onnx", "net.mmac", "net.s", "image.npy", "samples.npz"):
        shutil.copy(folder / name, tmp_path)
    (tmp_path / "b.toml").write_text("")
    (tmp_path / "link.onnx").symlink_to("net.onnx")
    os.link(tmp_path / "net.mmac", tmp_path / "hard.mmac")
    (tmp_path / "stages").mkdir()
    shutil.copy(folder / "net.onnx", tmp_path / "stages/00_import.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(name: str) -> click.Command:
    """The click command of that name."""
    result = main.get_command(click.Context(main), name)
    assert result is not None
    return result


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("compile net.onnx -o net.onnx", "net.onnx: --output would overwrite MODEL.onnx; a file that is no input"),
        ("compile net.onnx -o ./stages/../net.onnx", "--output would overwrite MODEL.onnx"),
        ("compile link.onnx -o net.onnx", "--output would overwrite MODEL.onnx"),
        ("compile net.onnx -o samples.npz --calibration samples.npz", "--output would overwrite --calibration"),
        ("compile net.onnx -o b.toml --budgets b.toml", "--output would overwrite --budgets"),
        ("compile net.onnx -o b.toml --target b.toml", "--output would overwrite --target"),
        ("compile stages/00_import.onnx -o a.mmac --dump stages", "--dump would overwrite MODEL.onnx; another folder"),
        ("compile net.onnx -o stages/10_emit.s --dump stages", "--dump would overwrite --output; another folder"),
        ("compile net.onnx -o new --dump new", "--dump would overwrite --output; another folder"),
        ("compile net.onnx -o a.mmac --dump net.s", "net.s: cannot be made a folder (net.s is a file); a folder"),
        ("compile net.onnx -o a.mmac --dump net.s/x", "net.s/x: cannot be made a folder (net.s is a file); a folder"),
        ("asm net.s -o net.s", "--output would overwrite FILE.s"),
        ("disasm net.mmac -o hard.mmac", "hard.mmac: --output would overwrite PROGRAM.mmac"),
        ("simulate net.mmac --trace net.mmac", "net.mmac: --trace would overwrite PROGRAM.mmac"),
        ("simulate net.mmac --report net.mmac", "net.mmac: --report would overwrite PROGRAM.mmac"),
        ("simulate net.mmac -i image=image.npy -o image.npy", "image.npy: --output would overwrite --input"),
        ("simulate net.mmac -i image.npy -o image.npy", "image.npy: --output would overwrite --input"),
        ("simulate net.mmac --trace a --report ./a", "written by both --trace and --report; different files"),
        ("inspect net.onnx -o net.onnx", "net.onnx: --output would overwrite"),
        ("disasm net.mmac -o -", "--output -: not a file name; a file; for stdout give /dev/stdout; ./- is a file"),
        ("disasm net.mmac -o stages", "stages: cannot be written (Is a directory); a file in a folder that you may"),
        (
            "disasm net.mmac -o no/a.s",
            "(No such file or directory); a file in a folder that you may write to; make the",
        ),
        ("disasm net.mmac -o net.s/a", "net.s/a: cannot be written (Not a directory)"),
        (f"disasm net.mmac -o {'a' * 300}", "cannot be written (File name too long)"),
        ("disasm net.mmac -o /proc/a.s", "/proc/a.s: cannot be written ("),
    ],
)
def test_outputs_that_cannot_be(work: Path, line: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(work)
    monkeypatch.setattr(found(line.split()[0]), "callback", lambda **_: pytest.fail("the work began"))
    result = mmac(*line.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert contents(work) == before


@pytest.mark.parametrize(
    "line",
    [
        "disasm net.mmac -o net.s",  # an existing file
        "disasm net.mmac -o /dev/null",
        "simulate net.mmac --trace /dev/null --report /dev/null",
        "compile net.onnx -o stages/net.mmac --dump stages",
        "compile net.onnx -o a.mmac --dump new/folder",
    ],
)
def test_outputs_that_can_be(work: Path, line: str) -> None:
    result = mmac(*line.split())
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_checks(name: str) -> None:
    """Each is a `Command`, and each option that names a file says what is done with it."""
    assert isinstance(found(name), command.Command)
    for param in found(name).params:
        if "FILE" in str(param.metavar) or "." in str(param.metavar) or param.metavar == "DIR":
            assert isinstance(param.type, command.Reads | command.Writes | command.Fills), param.name


def test_an_option_given_twice(work: Path) -> None:
    result = mmac("disasm", "net.mmac", "-o", "a.s", "--output", "b.s")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: mmac disasm --output: given more than once; see `mmac disasm --help`\n"
    assert mmac("disasm", "net.mmac", "--no-data", "--no-data").exit_code == 0


def test_an_error_is_not_its_own_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise UsageError("program", "no such thing")

    monkeypatch.setattr(found("disasm"), "callback", fail)
    with pytest.raises(UsageError) as caught:
        found("disasm").main(["x.mmac"], standalone_mode=False)
    assert caught.value.__cause__ is None
