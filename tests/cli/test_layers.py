"""Tables of layers: what fits, totals, the most expensive layers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mmac.cli import layers
from mmac.isa.container import load
from mmac.isa.plan import PAPER_LEVELS
from mmac.runtime import estimate
from mmac.runtime.report import LayerReport, Report

NAMES = [str(level) for level in PAPER_LEVELS]
COLUMNS = ["layer", "operation", "unit", "MACs", "cycles", "ms", "share", "mJ", "DRAM bytes", "weight bytes", "util."]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return estimate(load(folder / "net.mmac"))


def printed(report: Report, capsys: pytest.CaptureFixture[str]) -> list[str]:
    layers.layer_table(report)
    return capsys.readouterr().out.splitlines()


def on_terminal(
    width: int, report: Report, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """What is printed on a terminal of some width, without colours; no line of a table may be longer."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    lines = [re.sub("\x1b\\[[0-9;]*m", "", line) for line in printed(report, capsys)]
    assert max(len(line) for line in lines if not line.startswith(("most ", "latency "))) <= width
    return lines


def cells(line: str) -> list[str]:
    """What stands in a line of a table, without empty cells."""
    return [cell.strip() for cell in re.split(r"\s{2,}|[│┃]", line) if cell.strip()]


def renamed(report: Report, name: str) -> Report:
    return replace(report, layers=[replace(report.layers[0], name=name), *report.layers[1:]])


def test_a_row_for_each_layer_in_program_order_and_the_total(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    title, columns, *rows = printed(report, capsys)
    assert title == "layers at 20x3:"
    assert cells(columns) == COLUMNS
    found = {row: cells(line) for row, line in enumerate(rows[: len(report.layers)])}
    for number, layer in enumerate(report.layers):
        expected = [
            layer.name or "(between layers)",
            *([layer.op, layer.unit[-1]] if layer.name else []),
            f"{layer.macs:,}",
            f"{layer.cycles[-1]:,}",
            f"{layer.latency_ms[-1]:.4f}",
            f"{layer.cycles[-1] / report.levels[-1].cycles:.1%}",
            f"{layer.energy_mj[-1]:.4f}",
            f"{layer.dram_bytes[-1]:,}",
            f"{layer.weight_bytes[-1]:,}",
            f"{layer.utilization[-1]:.1%}",
        ]
        assert found[number] == expected
    level = report.levels[-1]
    assert cells(rows[len(report.layers)]) == [
        "total",
        f"{sum(layer.macs for layer in report.layers):,}",
        f"{level.cycles:,}",
        f"{level.latency_ms:.4f}",
        "100.0%",
        f"{level.energy_mj:.4f}",
        f"{level.dram_bytes:,}",
        f"{level.weight_bytes:,}",
        f"{level.utilization:.1%}",
    ]


def test_the_rows_add_up_to_the_total(report: Report) -> None:
    for number, level in enumerate(report.levels):
        assert sum(layer.cycles[number] for layer in report.layers) == level.cycles
        assert sum(layer.dram_bytes[number] for layer in report.layers) == level.dram_bytes
        assert sum(layer.weight_bytes[number] for layer in report.layers) == level.weight_bytes
        assert sum(layer.energy_mj[number] for layer in report.layers) == pytest.approx(level.energy_mj)


def test_several_levels_are_compared(report: Report, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    lines = printed(report, capsys)
    start = lines.index("latency in ms at each level:")
    assert cells(lines[start + 1]) == ["layer", *NAMES]
    for layer, line in zip(report.layers, lines[start + 2 :], strict=False):
        assert cells(line)[1:] == [f"{ms:.4f}" for ms in layer.latency_ms]
    assert cells(lines[-1]) == ["total", *(f"{level.latency_ms:.4f}" for level in report.levels)]
    one = estimate(load(folder / "net.mmac"), levels=[2])
    alone = printed(one, capsys)
    assert alone[0] == "layers at 12x2:"
    assert alone[-2].startswith("most time: ")
    assert len(alone) == 2 + len(one.layers) + 1 + 2


def test_the_most_expensive_layers_are_named(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(report, capsys)
    for what, whole, cost in (
        ("time", report.levels[-1].cycles, lambda layer: layer.cycles[-1]),
        ("energy", report.levels[-1].energy_mj, lambda layer: layer.energy_mj[-1]),
    ):
        most: list[LayerReport] = sorted(report.layers, key=cost, reverse=True)[:3]
        (line,) = (line for line in lines if line.startswith(f"most {what}: "))
        each = ", ".join(f"{layer.name} {cost(layer) / whole:.1%}" for layer in most)
        assert line == f"most {what}: {each}; together {sum(map(cost, most)) / whole:.1%}"


@pytest.mark.parametrize("width", [80, 100, 120, 160, 400])
def test_columns_are_left_out_until_the_rest_fits(
    width: int, report: Report, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = on_terminal(width, renamed(report, "a/rather/long/name/of/a/layer" * 2), capsys, monkeypatch)
    columns = next(line for line in lines if re.search(r"\blayer\b.*\bms\b", line))
    shown = cells(columns)
    assert [name for name in COLUMNS if name in shown] == shown
    assert {"layer", "ms", "share", "mJ"} <= set(shown)
    more = re.fullmatch(r"layers at 20x3( \(COLUMNS=\d+ shows more columns\))?:", lines[0])
    assert more
    assert bool(more[1]) == (len(shown) < len(COLUMNS))
    assert (len(shown) == len(COLUMNS)) == (width >= 160)
    long = next(line for line in lines if "a/rather" in line)
    assert ("…" in long) == (width < 160)
    assert any(line.lstrip("│ ").startswith("total ") for line in lines)


def test_levels_are_left_out_on_a_narrow_terminal(
    report: Report, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = on_terminal(60, renamed(report, "x" * 50), capsys, monkeypatch)
    title = next(line for line in lines if line.startswith("latency in ms at each level (COLUMNS="))
    columns = cells(lines[lines.index(title) + 1])
    assert columns[0:2] == ["layer", "8x2"]
    assert columns[-1] == "20x3"
    assert len(columns) < 9


def test_names_cannot_control_the_terminal(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(printed(renamed(report, "a\x1b[2J\nb\r"), capsys))
    assert "\x1b" not in text
    assert "\na\\x1b[2J\\nb\\r  " in text


def test_width_in_a_pipe_is_100_unless_columns_says_more(
    report: Report, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    long = renamed(report, "y" * 300)
    lines = printed(long, capsys)
    assert max(len(line) for line in lines if not line.startswith("most ")) <= 100
    (columns,) = re.findall(r"layers at 20x3 \(COLUMNS=(\d+) shows", lines[0])
    monkeypatch.setenv("COLUMNS", columns)
    lines = printed(long, capsys)
    assert lines[0] == "layers at 20x3:"
    assert cells(lines[1]) == COLUMNS
    assert any(line.startswith("y" * 300) for line in lines)
