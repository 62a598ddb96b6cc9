"""`mmac simulate`: costs, results, limits, and bad programs and inputs."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from mmac.cli.commands.simulate import CONSTANTS, ENGINES, command
from mmac.isa.asm import assemble, disassemble
from mmac.isa.container import load, save
from mmac.isa.plan import PAPER_LEVELS
from mmac.runtime import Session, engines, estimate
from mmac.runtime.compiled_for import NOTE
from mmac.runtime.page import render_page
from mmac.runtime.targets import CONSTANT_SETS, load_target, target_names
from tests.cli.conftest import images
from tests.commands import mmac

NAMES = [str(level) for level in PAPER_LEVELS]
REQUIRED = {
    "level",
    "alpha",
    "beta",
    "gamma",
    "cycles",
    "latency_ms",
    "energy_mj",
    "dram_bytes",
    "weight_bytes",
    "utilization",
    "host_ms",
}


def energies(folder: Path, **options: Any) -> dict[str, object]:
    """Energy of each level by each set of constants, as the JSON has it."""
    reports = [estimate(load(folder / "net.mmac"), constants=name, **options) for name in CONSTANTS]
    return {"energy_mj_by_constants": {each.constants: [row.energy_mj for row in each.levels] for each in reports}}


def unmeasured(report: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a report without inputs: the host has no time."""
    return report | {"levels": [level | {"host_ms": None} for level in report["levels"]]}


def document(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.stderr
    parsed: dict[str, object] = json.loads(result.stdout)
    return parsed


def test_text_is_a_table_of_all_levels(folder: Path) -> None:
    result = mmac("simulate", folder / "net.mmac")
    assert result.exit_code == 0
    title, columns, *rows = result.stdout.splitlines()
    assert title == "net on vc707, mmac cells, first_principles constants"
    assert columns.split()[:4] == ["level", "α", "β", "γ"]
    *rows, streamed, note = rows
    assert [row.split()[0] for row in rows] == NAMES
    assert streamed.startswith("weights from DRAM in every inference: ")
    assert note == "latency and energy leave out 1 host segment, run by onnxruntime"
    assert result.stderr == "warning: host segments are not timed without inputs (-i)\n"


def test_json_has_what_the_design_asks_for(folder: Path) -> None:
    about = document(mmac("simulate", folder / "net.mmac", "--json"))
    expected = unmeasured(estimate(load(folder / "net.mmac")).to_json())
    assert about == expected | energies(folder) | {"overflow": {}}
    assert {"model", "target", "levels"} <= about.keys()
    assert all(level.keys() >= REQUIRED for level in expected["levels"])
    assert "layers" not in about


def test_layers(folder: Path) -> None:
    about = document(mmac("simulate", folder / "net.mmac", "--layers", "--level", "3", "--json"))
    expected = unmeasured(estimate(load(folder / "net.mmac"), levels=[3]).to_json(layers=True))
    assert about == expected | energies(folder, levels=[3]) | {"overflow": {}}
    text = mmac("simulate", folder / "net.mmac", "--layers", "--level", "3").stdout
    assert "layers at 14x2" in text
    assert any(line.startswith("conv2 ") for line in text.splitlines())


@pytest.mark.parametrize(("level", "chosen"), [("0", ["8x2"]), ("14x3", ["14x3"]), ("all", NAMES)])
def test_level(folder: Path, level: str, chosen: list[str]) -> None:
    about = document(mmac("simulate", folder / "net.mmac", "--level", level, "--json"))
    assert [each["level"] for each in about["levels"]] == chosen  # type: ignore[attr-defined]


def test_other_cells_and_constants(folder: Path) -> None:
    program = load(folder / "net.mmac")
    about = document(mmac("simulate", folder / "net.mmac", "--mac", "bmac", "--constants", "paper", "--json"))
    expected = unmeasured(estimate(program, mac="bmac", constants="paper").to_json())
    overflow = {name: list(pair) for name, pair in load_target("vc707").overflow("bmac").items()}
    assert about == expected | energies(folder, mac="bmac") | {"overflow": overflow}


def test_choices_are_those_of_the_runtime() -> None:
    """They are written out in the command, whose help imports nothing heavy."""
    assert CONSTANTS == CONSTANT_SETS
    assert set(ENGINES) == set(engines.ENGINES)
    (mac,) = (param for param in command.params if param.name == "mac")
    for target in target_names():
        assert set(str(mac.metavar).split("|")) == set(load_target(target).cells)


def test_the_host_has_no_time_at_levels_that_did_not_run(folder: Path) -> None:
    feed = f"image={folder / 'image.npy'}"
    _, columns, *rows = mmac("simulate", folder / "net.mmac", "-i", feed).stdout.splitlines()
    assert columns.endswith("host ms")
    assert [row.split()[-1] for row in rows[:7]] == ["–"] * 7
    assert float(rows[7].split()[-1]) > 0


def test_both_sets_of_constants_are_shown_where_they_differ(folder: Path, tmp_path: Path) -> None:
    """They do for cells of the array, which the small network uses if there are no multipliers."""
    text = resources.files("mmac.runtime.targets").joinpath("vc707.toml").read_text("utf-8")
    target = tmp_path / "array.toml"
    target.write_text(re.sub(r"^\[multipliers\][^[]*", "", text, flags=re.MULTILINE), "utf-8")
    path = tmp_path / "array.mmac"
    options = ("--calibration", folder / "samples.npz", "--target", target)
    assert mmac("compile", folder / "net.onnx", "-o", path, *options).exit_code == 0
    lines = mmac("simulate", path, "--mac", "pmac", "--target", target).stdout.splitlines()
    cheap, dear = (estimate(load(path), str(target), mac="pmac", constants=name).levels[0] for name in CONSTANTS)
    assert "  energy mJ  paper mJ  " in lines[1]
    assert lines[2].split()[6:8] == [f"{cheap.energy_mj:.4f}", f"{dear.energy_mj:.4f}"]


def test_an_array_that_does_not_fit_on_the_part_is_named(folder: Path) -> None:
    ((name, (needed, available)),) = load_target("vc707").overflow("pmac").items()
    result = mmac("simulate", folder / "net.mmac", "--mac", "pmac")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[0] == (
        "warning: an array of pmac cells does not fit on the XC7VX485T: "
        f"it needs {needed:,} of {name}, there are {available:,}"
    )
    about = document(mmac("simulate", folder / "net.mmac", "--mac", "pmac", "--json"))
    assert about["overflow"] == {name: [needed, available]}


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_results_are_those_of_a_session(folder: Path, tmp_path: Path, engine: str) -> None:
    out = tmp_path / "out.npz"
    feed = f"image={folder / 'image.npy'}"
    arguments = ("simulate", folder / "net.mmac", "-i", feed, "--engine", engine, "-o", out, "--json")
    about = document(mmac(*arguments))
    assert about["outputs"] == [{"level": "20x3", "name": "scores", "dtype": "float32", "shape": [1, 5]}]
    host = {level["level"]: level["host_ms"] for level in about["levels"]}  # type: ignore[attr-defined]
    assert host.pop("20x3") > 0
    assert set(host.values()) == {None}
    session = Session(folder / "net.mmac", "reference")
    with np.load(out) as got:
        assert got.files == ["scores"]
        np.testing.assert_array_equal(got["scores"], session.run(None, {"image": images(1)})[0])
    assert mmac(*arguments[:-1], "--level", "all").exit_code == 0
    with np.load(out) as got:
        assert got.files == [f"scores@{name}" for name in NAMES]
        for name in NAMES:
            expected = session.run(None, {"image": images(1)}, level=name)[0]
            np.testing.assert_array_equal(got[f"scores@{name}"], expected)


@pytest.mark.parametrize("form", ["image={}/one.npz", "{}/one.npz", "image={}/other.npz", "{}/image.npy"])
def test_inputs_come_from_npz_and_npy(folder: Path, tmp_path: Path, form: str) -> None:
    np.savez(tmp_path / "one.npz", image=images(1))
    np.savez(tmp_path / "other.npz", something=images(1))
    np.save(tmp_path / "image.npy", images(1))
    out = tmp_path / "out.npz"
    result = mmac("simulate", folder / "net.mmac", "-i", form.format(tmp_path), "-o", out, "--level", "8x2")
    assert result.exit_code == 0
    *_, line, last = result.stdout.splitlines()
    assert last == f"results in {out}"
    expected = Session(folder / "net.mmac").run(None, {"image": images(1)}, level="8x2")[0]
    with np.load(out) as got:
        np.testing.assert_array_equal(got["scores"], expected)
    about, _, values = line.partition(" = ")
    assert about == "output scores at 8x2: float32[1,5]"
    np.testing.assert_allclose(np.array(values.strip("[]").split(), float), expected[0], atol=1e-4)


def test_a_limit_chooses_the_best_level_that_fits(folder: Path) -> None:
    levels = estimate(load(folder / "net.mmac")).levels
    for option, key in (("--max-latency", "latency_ms"), ("--max-energy", "energy_mj")):
        limit = getattr(levels[4], key)
        about = document(mmac("simulate", folder / "net.mmac", option, repr(limit), "--json"))
        fitting = [level for level in levels if getattr(level, key) <= limit]
        best = max(fitting, key=lambda level: level.sqnr_db or 0)
        assert [level["level"] for level in about["levels"]] == [best.level]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("option", "unit"), [("--max-latency", "ms"), ("--max-energy", "mJ")])
def test_an_impossible_limit_says_what_the_closest_level_costs(folder: Path, option: str, unit: str) -> None:
    cheapest = estimate(load(folder / "net.mmac")).levels[0]
    result = mmac("simulate", folder / "net.mmac", option, "1e-6")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"limit of 1e-06 {unit}: no level of the program keeps to it; the closest is 8x2 with" in result.stderr
    assert f"{cheapest.latency_ms:.4g} ms and {cheapest.energy_mj:.4g} mJ" in result.stderr


@pytest.mark.parametrize("name", ["simulate", "inspect"])
def test_a_target_other_than_the_one_compiled_for(folder: Path, tmp_path: Path, name: str) -> None:
    program = load(folder / "net.mmac")
    save(dataclasses.replace(program, notes={NOTE: "0" * 64}), tmp_path / "other.mmac")
    result = mmac(name, tmp_path / "other.mmac")
    assert result.exit_code == 0
    assert "warning: the program was compiled for another version of target vc707; " in result.stderr
    save(dataclasses.replace(program, target="mine"), tmp_path / "mine.mmac")
    result = mmac(name, tmp_path / "mine.mmac")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "target 'mine': the program net was compiled for it, and it is not a packaged one; " in result.stderr
    assert result.stderr.endswith("give its file: --target FILE.toml\n")


@pytest.fixture(scope="module")
def bad(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs and inputs that are wrong in one way each."""
    path = tmp_path_factory.mktemp("bad")
    data = (folder / "net.mmac").read_bytes()
    (path / "truncated.mmac").write_bytes(data[:-100])
    (path / "flipped.mmac").write_bytes(data[:-100] + bytes([data[-100] ^ 4]) + data[-99:])
    (path / "version.mmac").write_bytes(data.replace(b'\\"version\\":2', b'\\"version\\":9', 1))
    (path / "text.mmac").write_text("no program")
    text = disassemble(load(folder / "net.mmac"))
    lines = text.splitlines()
    position = next(i for i, line in enumerate(lines) if line.strip().startswith("sync."))
    save(assemble("\n".join(lines[:position] + lines[position + 1 :])), path / "unsafe.mmac")
    np.save(path / "shape.npy", images(2))
    np.save(path / "type.npy", images(1).astype(np.float64))
    with zipfile.ZipFile(path / "member.npz", "w") as archive:
        archive.writestr("text", "no array")
    np.savez(path / "two.npz", a=images(1), b=images(1))
    return path


@pytest.mark.parametrize(
    ("status", "arguments", "message"),
    [
        (2, ["{bad}/missing.mmac"], "missing.mmac: cannot be read"),
        (4, ["{bad}/truncated.mmac"], "truncated.mmac: "),
        (4, ["{bad}/flipped.mmac"], "flipped.mmac: the checksum does not fit"),
        (4, ["{bad}/version.mmac"], "version.mmac: format version 9; version 2; compile the model again"),
        (4, ["{bad}/text.mmac"], "text.mmac: not an intact .mmac file"),
        (6, ["{bad}/unsafe.mmac"], ""),
        (2, ["{net}", "--level", "9x2"], "level '9x2': not in this program; 0 (8x2), 1 (10x2)"),
        (2, ["{net}", "--level", "8"], "level '8': not in this program"),
        (2, ["{net}", "--level", "low"], "level 'low': not a level"),
        (
            2,
            ["{net}", "--engine", "warp", "-i", "image={folder}/image.npy"],
            "--engine: 'warp' is not one of 'fast', 'reference', 'cell'",
        ),
        (2, ["{net}", "--engine", "warp"], "--engine: 'warp' is not one of"),
        (2, ["{net}", "--level", "8x2", "--level", "20x3"], "mmac simulate --level: given more than once"),
        (
            2,
            ["{net}", "-i", "image={folder}/image.npy", "-i", "image={folder}/image.npy"],
            "input 'image' is given twice",
        ),
        (2, ["{net}", "-i", "{folder}/image.npy", "-i", "image={folder}/image.npy"], "input 'image' is given twice"),
        (2, ["{net}", "-o", "-", "-i", "image={folder}/image.npy"], "--output -: not a file name; a file; for stdout"),
        (4, ["{folder}/net.onnx"], "net.onnx: looks like an ONNX model; a file that `mmac compile` wrote; use `mmac"),
        (4, ["{net}", "-i", "image={folder}/net.onnx"], "net.onnx: neither an .npz nor an .npy file; an .npz or .npy"),
        (4, ["{net}", "-i", "{bad}/member.npz"], "member.npz: 'text' in it is not an array; "),
        (2, ["{net}", "--mac", "xmac"], "--mac 'xmac': not in target vc707; "),
        (2, ["{net}", "--target", "x.toml"], "x.toml: cannot be read"),
        (2, ["{net}", "--max-latency", "1", "--max-energy", "1"], "--max-latency and --max-energy: both are given"),
        (2, ["{net}", "--max-latency", "1", "--level", "0"], "--level: given together with a limit"),
        (2, ["{net}", "-o", "out.npz"], "--output: there is nothing to compute; inputs as well (-i)"),
        (2, ["{net}", "--report", "missing/report.html"], "missing/report.html: cannot be written (No such file"),
        (2, ["{net}", "-i", "picture={folder}/image.npy"], "picture"),
        (2, ["{net}", "-i", "image={bad}/two.npz"], "no array 'image' in the file; a, b"),
        (4, ["{net}", "-i", "image={bad}/shape.npy"], "'image'"),
        (4, ["{net}", "-i", "image={bad}/type.npy"], "float64"),
        (4, ["{net}", "-i", "image={bad}/text.mmac"], "text.mmac: neither an .npz nor an .npy file"),
    ],
)
def test_bad_input(folder: Path, bad: Path, empty: Path, status: int, arguments: list[str], message: str) -> None:
    places = {"folder": folder, "bad": bad, "net": folder / "net.mmac"}
    result = mmac("simulate", *(text.format(**places) for text in arguments), "--json")
    assert (result.exit_code, result.stdout) == (status, "")
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


@pytest.mark.parametrize(
    ("options", "level"), [((), "20x3"), (("--level", "12x2"), "12x2"), (("--level", "all"), "20x3")]
)
def test_trace(folder: Path, tmp_path: Path, options: tuple[str, ...], level: str) -> None:
    path = tmp_path / "trace.json"
    result = mmac("simulate", folder / "net.mmac", "--trace", path, "--json", *options)
    about = document(result)
    assert f"note: {path} is the trace of level {level}; ui.perfetto.dev opens it\n" in result.stderr
    trace = json.loads(path.read_text())
    assert trace["otherData"]["level"] == level
    assert trace["otherData"]["cycles"] == about["levels"][-1]["cycles"]  # type: ignore[index]


def test_trace_of_the_level_that_a_limit_chooses_and_of_another_cell(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    third = estimate(load(folder / "net.mmac"), mac="bmac").levels[2]
    options = ("--mac", "bmac", "--max-energy", repr(third.energy_mj))
    about = document(mmac("simulate", folder / "net.mmac", "--trace", path, "--json", *options))
    found = json.loads(path.read_text())["otherData"]
    assert found["mac"] == "bmac"
    assert [found["level"]] == [row["level"] for row in about["levels"]]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {}),
        (("--level", "12x2", "--mac", "bmac"), {"level": "12x2", "mac": "bmac"}),
        (("--constants", "paper"), {"constants": "paper"}),
    ],
)
def test_report(folder: Path, tmp_path: Path, options: tuple[str, ...], expected: dict[str, Any]) -> None:
    path = tmp_path / "report.html"
    result = mmac("simulate", folder / "net.mmac", "--report", path, "--json", *options)
    document(result)
    assert f"note: {path} is the report; any browser opens it\n" in result.stderr
    assert path.read_text("utf-8") == render_page(load(folder / "net.mmac"), **expected)


def test_report_has_the_measured_time_of_the_host(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    options = ("-i", f"image={folder / 'image.npy'}", "--level", "0", "--report", path)
    levels: Any = document(mmac("simulate", folder / "net.mmac", "--json", *options))["levels"]
    assert f"<td>{levels[0]['host_ms']:.3f}</td></tr>" in path.read_text("utf-8")


def test_report_needs_plotly(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    result = mmac("simulate", folder / "net.mmac", "--report", tmp_path / "report.html", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "plotly, which is not installed; pip install plotly\n" in result.stderr
    assert not list(tmp_path.iterdir())
