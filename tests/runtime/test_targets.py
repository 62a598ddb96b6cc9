from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from mmac.isa.errors import MalformedError, MmacError, ResourceError, UsageError
from mmac.runtime.targets import load_target, parse_target, target_names

TEXT = (files("mmac.runtime") / "targets" / "vc707.toml").read_text("utf-8")


def test_vc707_is_what_the_design_says() -> None:
    target = load_target("vc707")
    assert target.name == "vc707"
    assert target.cell_count == 4096
    assert sum(target.scratchpads.values()) + target.buffer.size_bytes == 3584 * 1024
    assert target.cell("mmac").group_cycles is None
    assert "vc707" in target_names()


@pytest.mark.parametrize("name", target_names())
def test_targets_leave_some_of_their_parts_free(name: str) -> None:
    target = load_target(name)
    used = target.used()
    assert target.name == name
    for resource in ("lut", "ff", "bram36", "dsp"):
        assert getattr(used, resource) <= 0.94 * getattr(target.part, resource)


def test_resources_add_up() -> None:
    target = load_target("vc707")
    used = target.used()
    components = sum(c.lut for c in target.components.values())
    assert used.lut == 4096 * 50 + components
    assert used.ff == (4096 * 22 + 2048 * 64 + 512 * 30 + 128 * (60 + 20 + 190 + 220) + 16 * 100 + 13000 + 5000)
    assert used.dsp == 128 + 9 * 128 + 4 * 128
    assert used.bram36 == 896 + 16 + 18
    assert target.overflow() == {}
    assert set(target.overflow("pmac")) == {"lut"}  # as many bit-parallel cells do not fit: facts, not a bug


@pytest.mark.parametrize("name", target_names())
def test_every_number_has_its_source(name: str) -> None:
    labelled = re.compile(r"# (quoted|measured|modelled|assumed)\b")
    text = (files("mmac.runtime") / "targets" / f"{name}.toml").read_text("utf-8")
    numbers = [line for line in text.splitlines() if re.match(r"\w+ = [\d.]*[1-9]", line)]
    assert len(numbers) > 60
    assert [line for line in numbers if not labelled.search(line)] == []


@pytest.mark.parametrize(
    ("old", "new", "error", "text"),
    [
        ("mhz = 170.0", "mhz = 0", MalformedError, r"\[clock\] mhz: 0.0; 1…10000"),
        ("mhz = 170.0", "mhz = nan", MalformedError, r"\[clock\] mhz: nan"),
        ("mhz = 170.0", "mhz = 'fast'", MalformedError, "'fast'; a value of type float"),
        ("mhz = 170.0", "mhz = true", MalformedError, "True; a value of type float"),
        ("mhz = 170.0", "mhz = 170.0\nghz = 1", MalformedError, "unknown key 'ghz'; keys mhz"),
        ("mhz = 170.0", "", MalformedError, "'mhz' is missing; keys mhz"),
        ("rows = 2 ", "rows = 2.5 ", MalformedError, "rows: 2.5; a value of type int"),
        ("rows = 2 ", "rows = -1 ", MalformedError, r"rows: -1; 1…4095"),
        ("blocks = 128 ", "blocks = 192 ", ResourceError, "lut: the design needs .* XC7VX485T has 303600; use fewer"),
        ("act = 262144", "act = 4194304", ResourceError, "bram36: the design needs"),
        ('cell = "mmac"', 'cell = "nmac"', MalformedError, r"\[array\] cell: 'nmac'; mmac, bmac"),
        ("rows = 2 ", "rows = 4000 ", MalformedError, "cells; at most 1048576"),
        (
            'mmac]\ncycles_per_group = "gamma"',
            'mmac]\ncycles_per_group = "delta"',
            MalformedError,
            "group: 'delta'",
        ),
        ("cycles_per_group = 128 ", "cycles_per_group = 0 ", MalformedError, r"cycles_per_group: 0; 1…100000"),
        ("[constants.paper]", "[constants.mine]", MalformedError, "unknown key 'mine'; keys first_principles, paper"),
        ("bmac = 2.30 ", "bmac = -2.30 ", MalformedError, "movement_pj_per_cycle bmac: -2.3"),
        ("pmac = 7.34 ", "", MalformedError, "arithmetic_pj_per_cycle: 'pmac' is missing"),
        ("static_w = 0.25 ", "static_w = inf ", MalformedError, "static_w: inf"),
        ("act = 262144", "act = 262144\nact2 = 1", MalformedError, "unknown key 'act2'"),
        ("act = 262144", "act = 0", MalformedError, r"\[scratchpads\] act: 0"),
        ("count = 2048 ", "count = -1 ", MalformedError, r"\[resources.data_bus\] count: -1"),
        ('name = "vc707"', "name = 7", MalformedError, "name: 7; a string"),
        ('name = "vc707"', 'name = "vc707"\nclock = 3', MalformedError, "not TOML"),
        ("[clock]\n", "[clok]\n", MalformedError, "unknown key 'clok'; .*; did you mean 'clock'?"),
        ("encoders = ", "encoder = ", MalformedError, "unknown key 'encoder'; keys .*; did you mean 'encoders'?"),
        ("[multipliers]", "[multiplier]", MalformedError, "did you mean 'multipliers'?"),
        ("units = 128 ", "units = 0 ", MalformedError, r"\[multipliers\] units: 0; 1…65536"),
        ("size_bytes = 1835008 ", "size_bytes = 18350080 ", ResourceError, "bram36: the design needs"),
        ("[clock]\nmhz = 170.0", "", MalformedError, "'clock' is missing"),
    ],
)
def test_what_cannot_be_is_refused(old: str, new: str, error: type[MmacError], text: str) -> None:
    assert old in TEXT
    with pytest.raises(error, match=text):
        parse_target(TEXT.replace(old, new, 1), "my.toml")


def test_a_section_that_is_no_table() -> None:
    text = TEXT.replace("[clock]\nmhz = 170.0", "", 1)
    with pytest.raises(MalformedError, match=r"my.toml: \[clock\]: 170; a table"):
        parse_target("clock = 170\n" + text, "my.toml")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT.replace('name = "vc707"', 'name = "mine"'), "utf-8")
    assert load_target(path).name == "mine"
    assert load_target(str(path)).name == "mine"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(MalformedError, match="not UTF-8"):
        load_target(path)
    with pytest.raises(UsageError, match="cannot be read"):
        load_target(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="no such target; vc707, zedboard"):
        load_target("vc708")


def test_unknown_cell_and_constants() -> None:
    target = load_target("vc707")
    with pytest.raises(UsageError, match="cell 'x'"):
        target.cell("x")
    with pytest.raises(UsageError, match="constants 'x': no such set; first_principles, paper"):
        target.energies("x")
