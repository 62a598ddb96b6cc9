"""`mmac search`: what it writes, what it prints, and what it says about bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmac.compiler import read_budgets
from tests.commands import mmac


def search(folder: Path, *more: object) -> tuple[object, ...]:
    given = "search", folder / "net.onnx", "--calibration", folder / "samples.npz", "--levels", "8x2,12x3"
    return *given, "--no-verify", *more


def test_text(folder: Path, tmp_path: Path) -> None:
    out, page, program = (tmp_path / name for name in ("b.toml", "r.html", "a.mmac"))
    result = mmac(*search(folder, "-o", out, "--report", page))
    assert result.exit_code == 0
    assert result.stdout.startswith("net on vc707: SQNR at the outputs against float, on 1 samples\n")
    assert f"budgets in {out}, to be compiled with --levels 8x2,12x3 --budgets {out}\n" in result.stdout
    assert result.stderr.endswith(f"note: {page} is the report; any browser opens it\n")
    assert "# To be compiled with --levels 8x2,12x3\n" in out.read_text("utf-8")
    assert "Quality against cost" in page.read_text("utf-8")
    compiled = mmac("compile", folder / "net.onnx", "--levels", "8x2,12x3", "--budgets", out, "-o", program)
    assert compiled.exit_code == 0


def test_json_is_all_of_stdout(folder: Path, tmp_path: Path) -> None:
    result = mmac(*search(folder, "-o", tmp_path / "b.toml", "--max-latency", "1", "--json"))
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["output"] == str(tmp_path / "b.toml")
    assert [row["limit"] for row in found["levels"]] == [1]
    assert [row["level"] for row in found["uniform"]] == ["8x2", "12x3"]
    assert found["levels_option"] == found["levels"][0]["level"]
    assert read_budgets(tmp_path / "b.toml") == found["budgets"]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--max-latency", "1", "--min-sqnr", "9"], "--max-latency and --min-sqnr: given together; one kind of limit"),
        (["--max-energy", "1,x"], "--max-energy 1,x: not numbers; such as 1.5 or 1,1.5,2"),
        (["--max-latency", "1e-9"], "--max-latency 1e-09 ms: below what any plan costs; the cheapest one takes 0.00"),
        (["--max-energy", "1e-9"], "--max-energy 1e-09 mJ: below what any plan costs; the cheapest one takes 0.0"),
        (["--max-latency", "2,1"], "--max-latency: 2, 1; rising from one level to the next"),
        (["--target", "nowhere"], "--target 'nowhere': no such target; "),
    ],
)
def test_errors(folder: Path, empty: Path, more: list[str], text: str) -> None:
    result = mmac(*search(folder, "-o", "b.toml", *more))
    assert result.exit_code == 2
    assert text in result.stderr.splitlines()[-1]


def test_no_calibration(folder: Path, empty: Path) -> None:
    result = mmac("search", folder / "net.onnx", "-o", "b.toml")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].endswith(
        "no calibration data; samples to measure errors with; give --calibration"
    )
