from __future__ import annotations

import re
from dataclasses import replace
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
    for resource in ("lut", "ff", "dsp"):
        assert getattr(used, resource) <= 0.98 * getattr(target.part, resource)
    assert used.bram36 < target.part.bram36


def test_resources_add_up() -> None:
    target = load_target("vc707")
    used = target.used()
    assert used.lut == 4096 * 50 + 512 * 30 + 128 * (80 + 10 + 60 + 56 + 180) + 16 * 150 + 64 * 100 + 15000 + 4000
    assert used.ff == 4096 * 22 + 2048 * 80 + 512 * 30 + 128 * (60 + 20 + 190 + 220) + 16 * 100 + 64 * 60 + 13000 + 5000
    assert used.dsp == 128 + 9 * 128 + 4 * 128
    assert used.bram36 == 896 + 16 + 18
    assert target.overflow() == {}
    assert set(target.overflow("pmac")) == {"lut"}  # as many bit-parallel cells do not fit: facts, not a bug


def test_resources_follow_the_design() -> None:
    """Each number of the design moves what it should, and nothing else."""
    target = load_target("vc707")
    array, units = target.array, target.multipliers
    assert units is not None

    def more(**sections: object) -> tuple[int, int, int, int]:
        used, now = target.used(), replace(target, **sections).used()  # type: ignore[arg-type]
        return now.lut - used.lut, now.ff - used.ff, now.bram36 - used.bram36, now.dsp - used.dsp

    assert more() == (0, 0, 0, 0)
    assert more(array=replace(array, encoders=5)) == (128 * 30, 128 * 30, 0, 0)
    assert more(array=replace(array, rankers=17)) == (150, 100, 0, 0)
    assert more(array=replace(array, decoders=65)) == (100, 60, 0, 0)
    block = 32 * 50 + 4 * 30 + 80 + 10, 32 * 22 + 16 * 80 + 4 * 30 + 60 + 20, 0, 1
    assert more(array=replace(array, blocks=129)) == block
    odd = more(array=replace(array, blocks=1, rows=1, columns=4095))  # as many bus registers, one cell less
    assert odd[1] == -22 - 127 * (4 * 30 + 60 + 20)
    assert more(multipliers=replace(units, units=129)) == (60 + 56, 28 + 9 * 18, 0, 9)
    assert more(multipliers=replace(units, taps=10)) == (128 * 4, 128 * 18, 0, 128)  # 15 × 6 bits hold 10 weights of 9
    assert more(multipliers=replace(units, words=33)) == (128 * 56, 0, 0, 0)
    assert more(multipliers=None) == (-128 * 116, -128 * 190, 0, -128 * 9)
    assert more(lanes=replace(target.lanes, vector=127)) == (0, 0, 0, 0)  # as many lanes as requantize
    assert more(lanes=replace(target.lanes, vector=129)) == (180, 220, 0, 4)
    assert more(buffer=replace(target.buffer, size_bytes=0)) == (0, 0, -448, 0)


def test_what_the_synthesized_cell_lacks_is_said_in_the_file() -> None:
    target = load_target("vc707")
    wider = target.used().lut + (5 + 4 + 3) * target.cell_count
    said = TEXT.replace("\n# ", " ")
    assert f"the design would need {wider:,} LUT = {wider / target.part.lut:.0%}".replace("%", " %") in said
    assert f"fewer than the {target.used().lut:,} booked here" in said
    page = (Path(__file__).parents[2] / "docs" / "targets.md").read_text("utf-8").replace("\n  ", " ")
    assert f"the design would need {wider:,} LUTs = {wider / target.part.lut:.0%}".replace("%", " %") in page
    assert f"fewer than the {target.used().lut:,} booked here" in page
    assert f"`vc707` with {target.used().lut / target.part.lut:.1%}".replace("%", " %") in page


def test_the_paper_set_says_only_what_differs() -> None:
    first, paper = (load_target("vc707").constants[name] for name in ("first_principles", "paper"))
    assert paper == replace(
        first,
        arithmetic_pj_per_cycle={"mmac": 2.98, "bmac": 2.14, "bmac_serial": 0.535, "pmac": 30.9},
        movement_pj_per_cycle={"mmac": 3.66, "bmac": 2.63, "bmac_serial": 0.657, "pmac": 38.0},
    )
    with_more = parse_target(TEXT.replace("[constants.paper]", "[constants.paper]\nstatic_w = 0.5"), "my.toml")
    assert with_more.constants["paper"] == replace(paper, static_w=0.5)
    nothing = re.sub(r"\[constants\.paper\.(.|\n)*", "", TEXT)
    assert parse_target(nothing, "my.toml").constants == {"first_principles": first, "paper": first}


def test_energies_agree_with_the_resources_that_they_are_derived_from() -> None:
    """The arithmetic of the comments, 60 fJ per LUT and flip-flop and 7.5 pJ per DSP."""
    for name in target_names():
        target = load_target(name)
        each = {key: component.each for key, component in target.components.items()}
        fabric = {key: (amount.lut + amount.ff) * 0.060 for key, amount in each.items()}
        table = target.constants["first_principles"]
        control = fabric["sequencer"] + fabric["dma_and_memory_controller"]
        assert table.control_pj_per_cycle == pytest.approx(control)
        assert table.requant_pj == table.vector_pj == pytest.approx(fabric["lane"] + each["lane"].dsp / 2 * 7.5)
        tap = fabric["multiplier_unit"] / 9 + fabric["multiplier_tap"]
        assert table.multiply_pj == pytest.approx(7.5 + tap + 1 / 9, abs=0.05)
        assert table.data_term_pj == pytest.approx(fabric["data_encoder"])


@pytest.mark.parametrize("name", target_names())
def test_every_number_has_its_source(name: str) -> None:
    labelled = re.compile(r"# (quoted|measured|modelled|assumed)\b")
    text = (files("mmac.runtime") / "targets" / f"{name}.toml").read_text("utf-8")
    numbers = [line for line in text.splitlines() if re.match(r"\w+ = [\d.]*[1-9]", line)]
    assert len(numbers) > (5 if re.search("^base = ", text, re.M) else 50)
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
        (
            'per = "cell_pair"',
            'per = "pair"',
            MalformedError,
            "per: 'pair'; design, block, cell, cell_pair, encoder, ranker, decoder, unit, tap, ram32m, lane",
        ),
        ('per = "cell_pair"', "per = 2048", MalformedError, r"\[resources.data_bus\] per: 2048; a value of type str"),
        ('per = "cell_pair"', "count = 2048", MalformedError, r"\[resources.data_bus\]: unknown key 'count'; keys per"),
        ("ff = 80 ", "ff = -80 ", MalformedError, r"\[resources.data_bus\] ff: -80"),
        (
            "units = 128 ",
            "units = 65536 ",
            ResourceError,
            "lut: .*; use fewer blocks, units or lanes, smaller memories",
        ),
        (
            "[constants.paper]",
            "[constants.paper]\nstatic = 1",
            MalformedError,
            r"paper\]: unknown key 'static'; .*static_w",
        ),
        ("bmac = 2.63 ", "bmac = -2.63 ", MalformedError, r"constants.paper\] movement_pj_per_cycle bmac: -2.63"),
        (
            "bmac = 2.63 ",
            "cmac = 2.63 ",
            MalformedError,
            r"constants.paper\] movement_pj_per_cycle: unknown key 'cmac'",
        ),
        ('name = "vc707"', "name = 7", MalformedError, "name: 7; a string"),
        ('name = "vc707"', 'name = "vc707"\nclock = 3', MalformedError, "not TOML"),
        ("[clock]\n", "[clok]\n", MalformedError, "unknown key 'clok'; .*; did you mean 'clock'?"),
        ("encoders = ", "encoder = ", MalformedError, "unknown key 'encoder'; keys .*; did you mean 'encoders'?"),
        ("[multipliers]", "[multiplier]", MalformedError, "did you mean 'multipliers'?"),
        ("units = 128 ", "units = 0 ", MalformedError, r"\[multipliers\] units: 0; 1…65536"),
        ("size_bytes = 1835008 ", "size_bytes = 18350080 ", ResourceError, "bram36: the design needs"),
        ("[clock]\nmhz = 170.0", "", MalformedError, "'clock' is missing"),
        ('"activations"', '"all"', MalformedError, r"\[buffer\] prefer: 'all'; activations, weights"),
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


def test_a_target_says_what_differs_from_its_base() -> None:
    own = 'base = "vc707"\nname = "mine"\n[array]\nblocks = 64\n[constants.paper]\nstatic_w = 0.5'
    target, base = parse_target(own, "mine.toml"), load_target("vc707")
    array = replace(base.array, blocks=64)
    paper = replace(base.constants["paper"], static_w=0.5)
    assert target == replace(base, name="mine", array=array, constants={**base.constants, "paper": paper})


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ('base = "vc708"', MalformedError, "mine.toml: base: 'vc708'; vc707, vc707_weights, zedboard"),
        ('base = "vc707"', MalformedError, "mine.toml: 'name' is missing"),
        ("base = 7", MalformedError, "mine.toml: base: 7; a value of type str"),
        ('base = "vc707"\nname = "mine"\narray = 3', MalformedError, r"mine.toml: \[array\]: 3; a table"),
        ('base = "vc707"\nname = "mine"\n[array]\nblock = 3', MalformedError, "unknown key 'block'"),
    ],
)
def test_what_is_wrong_beside_a_base(text: str, error: type[MmacError], said: str) -> None:
    with pytest.raises(error, match=said):
        parse_target(text, "mine.toml")


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
    with pytest.raises(UsageError, match="no such target; vc707, vc707_weights, zedboard"):
        load_target("vc708")


def test_unknown_cell_and_constants() -> None:
    target = load_target("vc707")
    with pytest.raises(UsageError, match="cell 'x'"):
        target.cell("x")
    with pytest.raises(UsageError, match="constants 'x': no such set; first_principles, paper"):
        target.energies("x")
