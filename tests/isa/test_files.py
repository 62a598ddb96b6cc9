import errno
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mmac.isa.errors import ResourceError, UsageError
from mmac.isa.files import atomic_write, check_readable, check_writable, write_file


def test_writes_bytes_and_text(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a", b"\x00\xff")
    atomic_write(str(tmp_path / "b"), "α\n")
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert (tmp_path / "b").read_text("utf-8") == "α\n"
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_replaces_and_keeps_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o640)
    atomic_write(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    atomic_write(tmp_path / "a", "")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_follows_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    atomic_write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, call: str
) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(failure)):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "no" / "a", "")


def test_what_can_be_written_is_found_out_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "dangling").symlink_to("new")
    for path in (tmp_path / "new", tmp_path / "old", tmp_path / "dangling", Path("/dev/null")):
        check_writable(path)
    assert sorted(os.listdir(tmp_path)) == ["dangling", "old"]
    assert (tmp_path / "old").read_text() == "old"


@pytest.mark.parametrize("write", [check_writable, lambda path: write_file(path, "")])
def test_what_cannot_be_written(tmp_path: Path, write: Callable[[Path], None]) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to("no/file")
    for name, message in (
        ("no/a", f"cannot be written (No such file or directory); a file in a folder that you may write to; make the "
                 f"folder {tmp_path / 'no'} first"),
        ("file/a", "cannot be written (Not a directory)"),
        ("nowhere", "cannot be written (No such file or directory)"),
        ("", "cannot be written (Is a directory); a file in a folder that you may write to; give another name"),
    ):  # fmt: skip
        with pytest.raises(UsageError) as info:
            write(tmp_path / name)
        assert str(info.value).startswith(f"{tmp_path / name}: {message}")


def test_a_folder_that_is_read_only_or_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> None:
        def fail(**_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(tempfile, "TemporaryFile", fail)

    refuse(errno.EROFS)
    with pytest.raises(UsageError, match="Read-only file system"):
        check_writable(tmp_path / "a")
    refuse(errno.ENOSPC)
    with pytest.raises(ResourceError, match="free some space"):
        check_writable(tmp_path / "a")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        check_readable(tmp_path / "none", "a file of samples")
    assert str(error.value) == f"{tmp_path / 'none'}: cannot be read (No such file or directory); a file of samples"
    check_readable(tmp_path, "a folder")
