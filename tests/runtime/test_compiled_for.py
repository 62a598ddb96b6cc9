"""Which target a program was compiled for, and what is said when another one is in use."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path

import pytest

from mmac.isa.errors import MmacWarning, UsageError
from mmac.isa.program import Program
from mmac.runtime.compiled_for import NOTE, digest, machine_for
from mmac.runtime.targets import load_target
from tests.isa import samples


@pytest.fixture
def faster(tmp_path: Path) -> Path:
    """A target file whose name is that of a packaged target, and whose clock is not."""
    text = resources.files("mmac.runtime.targets").joinpath("zedboard.toml").read_text("utf-8")
    mhz = load_target("zedboard").clock.mhz
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(f"mhz = {mhz:g}", f"mhz = {2 * mhz:g}"), "utf-8")
    assert load_target(path).clock.mhz == 2 * mhz
    return path


def compiled_for(target: str | Path) -> Program:
    machine = load_target(target)
    return dataclasses.replace(samples.program(), target=machine.name, notes={NOTE: digest(machine)})


def test_the_digest_is_of_the_content_only(tmp_path: Path, faster: Path) -> None:
    text = resources.files("mmac.runtime.targets").joinpath("zedboard.toml").read_text("utf-8")
    (tmp_path / "copy.toml").write_text(f"# a comment\n\n{text}", "utf-8")
    digests = [digest(load_target(target)) for target in ("zedboard", tmp_path / "copy.toml", faster, "vc707")]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_the_target_that_it_was_compiled_for(faster: Path) -> None:
    assert machine_for(compiled_for("zedboard")) == load_target("zedboard")
    assert machine_for(compiled_for(faster), faster) == load_target(faster)
    assert machine_for(compiled_for(faster), load_target(faster)) == load_target(faster)


def test_a_packaged_target_of_the_same_name(faster: Path) -> None:
    with pytest.warns(
        MmacWarning, match="compiled for another version of target zedboard; .* those of the packaged one; give"
    ):
        assert machine_for(compiled_for(faster)) == load_target("zedboard")


def test_another_target_on_purpose(faster: Path) -> None:
    assert machine_for(compiled_for("zedboard"), "vc707") == load_target("vc707")
    assert machine_for(compiled_for("zedboard"), faster) == load_target(faster)


def test_a_program_that_does_not_tell() -> None:
    assert NOTE not in samples.program().notes
    assert machine_for(samples.program(), "zedboard") == load_target("zedboard")


@pytest.mark.parametrize("name", ["mine", "../mine.toml"])
def test_a_target_that_is_not_packaged(name: str) -> None:
    with pytest.raises(UsageError) as info:
        machine_for(dataclasses.replace(samples.program(), target=name))
    assert str(info.value) == (
        f"target {name!r}: the program sample was compiled for it, and it is not a packaged one; "
        "vc707, vc707_weights, zedboard, or a file; give its file: --target FILE.toml"
    )
