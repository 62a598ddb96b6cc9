"""`mmac simulate` under limits: those that change from run to run, and those on quality."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from mmac.isa.container import load, save
from mmac.isa.program import Prediction
from mmac.runtime import Policy, Session, estimate
from mmac.runtime.governor import Governor
from tests.cli.conftest import images
from tests.commands import mmac

FIGURES = {"latency_ms", "energy_mj", "sqnr_db"}


@pytest.fixture
def limits(folder: Path, tmp_path: Path) -> Path:
    """Limits of five runs, on time and energy, all of them possible."""
    levels = estimate(load(folder / "net.mmac")).levels
    lines = [f"{levels[0].latency_ms!r},", "1000,", f",{levels[0].energy_mj!r}", f"{levels[0].latency_ms!r},", ","]
    (tmp_path / "limits.csv").write_text("\n".join(["max_latency_ms,max_energy_mj", *lines]))
    return tmp_path / "limits.csv"


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


def test_json(folder: Path, limits: Path) -> None:
    levels = estimate(load(folder / "net.mmac")).levels
    best = max(levels, key=lambda level: level.sqnr_db or 0)
    low = max((level for level in levels if level.latency_ms <= levels[0].latency_ms), key=lambda x: x.sqnr_db or 0)
    cheap = max((level for level in levels if level.energy_mj <= levels[0].energy_mj), key=lambda x: x.sqnr_db or 0)
    expected = [low, best, cheap, low, best]
    about = document(mmac("simulate", folder / "net.mmac", "--limits", limits, "--json"))
    assert [level["level"] for level in about["levels"]] == [level.level for level in levels]
    assert [run["level"] for run in about["runs"]] == [level.level for level in expected]
    switches = [False, *(a != b for a, b in zip(expected[1:], expected, strict=False))]
    assert [run["switched"] for run in about["runs"]] == switches
    assert about["switches"] == sum(switches) > 1
    assert about["total_energy_mj"] == sum(level.energy_mj for level in expected)
    assert about["total_latency_ms"] == sum(level.latency_ms for level in expected)
    for number, (run, level) in enumerate(zip(about["runs"], expected, strict=True)):
        assert {key: run[key] for key in FIGURES} == {key: getattr(level, key) for key in FIGURES}
        assert (run["run"], run["host_ms"]) == (number + 1, None)
    assert about["runs"][2]["max_energy_mj"] == levels[0].energy_mj
    assert about["runs"][2]["max_latency_ms"] is about["runs"][2]["min_sqnr_db"] is None
    assert "outputs" not in about


def test_text(folder: Path, limits: Path) -> None:
    about = document(mmac("simulate", folder / "net.mmac", "--limits", limits, "--json"))
    text = mmac("simulate", folder / "net.mmac", "--limits", limits).stdout
    first, title, table = text.partition("runs, in their order:\n")
    assert title
    assert "SQNR dB" in first.splitlines()[1]
    columns, *rows, total = table.splitlines()
    assert columns.split("  ")[0] == "run"
    for name in ("at most ms", "at most mJ", "level", "switch", "latency ms", "energy mJ", "SQNR dB"):
        assert f"  {name}" in columns
    assert "at least dB" not in columns
    assert ["yes" in row for row in rows] == [run["switched"] for run in about["runs"]]
    for row, run in zip(rows, about["runs"], strict=True):
        assert row.split()[0] == str(run["run"])
        assert row.split()[-3:] == [f"{run['latency_ms']:.4f}", f"{run['energy_mj']:.4f}", f"{run['sqnr_db']:.2f}"]
        assert f" {run['level']} " in row
    sums = [f"{about['total_latency_ms']:.4f}", f"{about['total_energy_mj']:.4f}"]
    assert total.split() == ["total", str(about["switches"]), *sums]


def test_inputs_are_run_in_turn(folder: Path, limits: Path, tmp_path: Path) -> None:
    samples, out = folder / "samples.npz", tmp_path / "out.npz"
    arguments = ("simulate", folder / "net.mmac", "--limits", limits, "-i", samples, "-o", out)
    about = document(mmac(*arguments, "--json"))
    session = Session(folder / "net.mmac", "reference")
    with np.load(out) as got:
        assert got.files == ["scores"]
        scores = got["scores"]
    assert about["outputs"] == [{"level": None, "name": "scores", "dtype": "float32", "shape": [5, 5]}]
    for number, run in enumerate(about["runs"]):
        image = images(4)[[number % 4]]
        np.testing.assert_array_equal(scores[[number]], session.run(None, {"image": image}, level=run["level"])[0])
        assert run["host_ms"] > 0
    ran = {run["level"] for run in about["runs"]}
    assert {level["level"] for level in about["levels"] if level["host_ms"] is not None} == ran
    text = mmac(*arguments).stdout
    assert text.endswith(f"results in {out}\n")
    table = text.partition("runs, in their order:\n")[2].splitlines()
    assert table[0].endswith("SQNR dB  host ms")
    assert all(float(row.split()[-1]) > 0 for row in table[1:7])
    assert "output scores" not in text


def test_it_goes_by_the_cell_and_the_constants_that_are_asked_for(folder: Path, tmp_path: Path) -> None:
    rows = estimate(load(folder / "net.mmac"), mac="bmac", constants="paper")
    (tmp_path / "limits.csv").write_text(f"max_energy_mj\n{rows.levels[2].energy_mj!r}\n")
    options = ("--mac", "bmac", "--constants", "paper", "--limits", tmp_path / "limits.csv", "--json")
    about = document(mmac("simulate", folder / "net.mmac", *options))
    level = Governor.of_report(rows).choose(Policy(max_energy_mj=rows.levels[2].energy_mj))
    assert about["runs"][0]["level"] == rows.levels[level].level
    assert about["total_energy_mj"] == rows.levels[level].energy_mj


def test_a_limit_on_quality_takes_the_cheapest_level(folder: Path, tmp_path: Path) -> None:
    program = load(folder / "net.mmac")
    predictions = [Prediction(p.latency_ms, p.energy_mj, float(n)) for n, p in enumerate(program.predictions)]
    save(dataclasses.replace(program, predictions=tuple(predictions)), tmp_path / "a.mmac")
    about = document(mmac("simulate", tmp_path / "a.mmac", "--min-sqnr", "2.5", "--json"))
    cheapest = min(range(3, 8), key=lambda n: (predictions[n].energy_mj, predictions[n].latency_ms))
    assert [level["level"] for level in about["levels"]] == [str(program.plan.levels[cheapest])]
    assert about["levels"][0]["sqnr_db"] == float(cheapest)
    result = mmac("simulate", tmp_path / "a.mmac", "--min-sqnr", "7.5")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "limit of at least 7.5 dB: no level of the program keeps to it; the closest is 20x3 with" in result.stderr


def test_a_program_without_calibration_data(folder: Path, tmp_path: Path) -> None:
    assert mmac("compile", folder / "net.onnx", "-o", tmp_path / "a.mmac").exit_code == 0
    assert "SQNR" not in mmac("simulate", tmp_path / "a.mmac").stdout
    assert "latency ms" in (text := mmac("inspect", tmp_path / "a.mmac").stdout)
    assert "\nSQNR dB" not in text
    result = mmac("simulate", tmp_path / "a.mmac", "--min-sqnr", "3")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: limit of at least 3 dB: the program does not know the SQNR of its levels; limits on latency and "
        "energy; compile it with --calibration\n"
    )
    (tmp_path / "limits.csv").write_text("max_latency_ms\n1000\n")
    about = document(mmac("simulate", tmp_path / "a.mmac", "--limits", tmp_path / "limits.csv", "--json"))
    assert [(run["level"], run["sqnr_db"]) for run in about["runs"]] == [("20x3", None)]
    assert "SQNR" not in mmac("simulate", tmp_path / "a.mmac", "--limits", tmp_path / "limits.csv").stdout


@pytest.mark.parametrize(
    ("status", "content", "options", "message"),
    [
        (
            2,
            None,
            [],
            "limits.csv: cannot be read (No such file or directory); CSV with a first line of max_latency_ms,",
        ),
        (4, "", [], "limits.csv: empty; CSV with a first line of"),
        (4, "latency\n1\n", [], "limits.csv:1: no column can be called 'latency'; CSV"),
        (4, "max_latency_ms\nfast\n", [], "limits.csv:2: max_latency_ms: 'fast'; a number"),
        (4, "max_latency_ms\n1\n-1\n", [], "limits.csv:3: max_latency_ms: -1.0; a finite number, 0 or more"),
        (4, "min_sqnr_db\nnan\n", [], "limits.csv:2: min_sqnr_db: nan; a finite number"),
        (2, "max_energy_mj\n1000\n1e-9\n", [], "limits.csv:3: limit of 1e-09 mJ: no level of the program keeps to it"),
        (2, "max_energy_mj\n1\n", ["--level", "0"], "--level: given together with a limit; a level, or a limit"),
        (2, "max_energy_mj\n1\n", ["--max-latency", "1"], "--max-latency: given together with --limits; one limit, or"),
        (2, "max_energy_mj\n1\n", ["--min-sqnr", "1"], "--min-sqnr: given together with --limits"),
        (2, "max_energy_mj\n1\n", ["-o", "out.npz"], "--output: there is nothing to compute; inputs as well (-i)"),
        (4, "max_energy_mj\n1000\n", ["-i", "image={type}"], "input 'image': dtype float64; float32"),
        (2, "max_energy_mj\n1000\n", ["-o", "{limits}", "-i", "{samples}"], "--output would overwrite --limits"),
        (2, None, ["--max-latency", "nan"], "--max-latency: nan; a finite number, 0 or more"),
        (2, None, ["--max-energy", "-1"], "--max-energy: -1.0; a finite number, 0 or more"),
        (2, None, ["--min-sqnr", "inf"], "--min-sqnr: inf; a finite number"),
        (2, None, ["--level", "0", "--min-sqnr", "3"], "--level: given together with a limit"),
    ],
)
def test_bad_limits(
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    empty: Path,
    status: int,
    content: str | None,
    options: list[str],
    message: str,
) -> None:
    place = tmp_path_factory.mktemp("limits")
    np.save(place / "type.npy", images(2).astype(np.float64))
    path = place / "limits.csv"
    if content is not None:
        path.write_text(content)
    places = {"type": place / "type.npy", "limits": path, "samples": folder / "samples.npz"}
    given = [] if content is None and options else ["--limits", path]
    result = mmac("simulate", folder / "net.mmac", *given, *(text.format(**places) for text in options), "--json")
    assert (result.exit_code, result.stdout) == (status, "")
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
