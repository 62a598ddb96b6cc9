"""`mmac disasm` and `mmac asm` invert each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmac.isa.asm import disassemble
from mmac.isa.container import load
from tests.commands import mmac


def test_there_and_back(folder: Path, tmp_path: Path) -> None:
    assert mmac("disasm", folder / "net.mmac", "-o", tmp_path / "net.s").stdout == ""
    assert (tmp_path / "net.s").read_text("utf-8") == mmac("disasm", folder / "net.mmac").stdout
    result = mmac("asm", tmp_path / "net.s", "-o", tmp_path / "net.mmac")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{tmp_path / 'net.mmac'}: net, ")
    assert (tmp_path / "net.mmac").read_bytes() == (folder / "net.mmac").read_bytes()


def test_to_read_only(folder: Path) -> None:
    assert mmac("disasm", folder / "net.mmac", "--no-data").stdout == disassemble(load(folder / "net.mmac"), data=False)


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (None, 2, "in.s: cannot be read (No such file or directory); a file of assembly text"),
        (b"\xff\xfe", 4, "in.s: not UTF-8 text"),
        (b"jump 3\n", 4, "in.s:1:1: no instruction 'jump'"),
        (b"halt\n", 4, "in.s"),
    ],
)
def test_bad_text(
    tmp_path_factory: pytest.TempPathFactory, empty: Path, content: bytes | None, status: int, message: str
) -> None:
    source = tmp_path_factory.mktemp("asm") / "in.s"
    if content is not None:
        source.write_bytes(content)
    result = mmac("asm", source, "-o", empty / "out.mmac")
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr
