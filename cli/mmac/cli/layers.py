"""The tables of ``mmac simulate --layers``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from mmac.cli.output import NAME_WIDTH, printable, room, shortened, table

if TYPE_CHECKING:
    from mmac.runtime.report import Report

NAMED = 3
"""So many of the most expensive layers are named below the table."""

DISPENSABLE = ("operation", "weight bytes", "MACs", "cycles", "DRAM bytes", "unit", "util.")
"""Columns to leave out where there is no room for them, the first one first."""


@dataclass(frozen=True)
class _Column:
    name: str
    cells: Sequence[str]
    total: str

    @property
    def width(self) -> int:
        return max(map(len, (self.name, self.total, *self.cells)))


def layer_table(report: Report) -> None:
    """Print what each layer costs at the highest level of the report, and its latency at all levels of it.

    The last row is the whole program, as in the table of levels. What does not fit is left out.
    """
    from mmac.runtime.report import BETWEEN

    names = [printable(layer.name) or BETWEEN for layer in report.layers]
    _print(f"layers at {report.levels[-1].level}", names, _costs(report), DISPENSABLE)
    _say_where_it_goes(report, names)
    if len(report.levels) > 1:
        _print("latency in ms at each level", names, _latencies(report), [row.level for row in report.levels[1:-1]])


def _costs(report: Report) -> list[_Column]:
    level, layers = report.levels[-1], report.layers
    return [
        _Column("operation", [layer.op for layer in layers], ""),
        _Column("unit", [layer.unit[-1] if layer.name else "" for layer in layers], ""),
        _Column("MACs", [f"{layer.macs:,}" for layer in layers], f"{sum(layer.macs for layer in layers):,}"),
        _Column("cycles", [f"{layer.cycles[-1]:,}" for layer in layers], f"{level.cycles:,}"),
        _Column("ms", [f"{layer.latency_ms[-1]:.4f}" for layer in layers], f"{level.latency_ms:.4f}"),
        _Column("share", [_percent(layer.cycles[-1], level.cycles) for layer in layers], _percent(1, 1)),
        _Column("mJ", [f"{layer.energy_mj[-1]:.4f}" for layer in layers], f"{level.energy_mj:.4f}"),
        _Column("DRAM bytes", [f"{layer.dram_bytes[-1]:,}" for layer in layers], f"{level.dram_bytes:,}"),
        _Column("weight bytes", [f"{layer.weight_bytes[-1]:,}" for layer in layers], f"{level.weight_bytes:,}"),
        _Column("util.", [f"{layer.utilization[-1]:.1%}" for layer in layers], f"{level.utilization:.1%}"),
    ]


def _latencies(report: Report) -> list[_Column]:
    return [
        _Column(level.level, [f"{layer.latency_ms[number]:.4f}" for layer in report.layers], f"{level.latency_ms:.4f}")
        for number, level in enumerate(report.levels)
    ]


def _print(title: str, names: Sequence[str], columns: Sequence[_Column], dispensable: Sequence[str]) -> None:
    """Print columns beside the layers' names; if not all fit, without the dispensable ones, from the first on."""
    longest = max(map(len, names))
    least = min(longest, NAME_WIDTH)
    shown = list(columns)
    for name in dispensable:
        if least + _width(shown) > room():
            shown = [column for column in shown if column.name != name]
    more = f" (COLUMNS={longest + _width(columns)} shows more columns)" if len(shown) < len(columns) else ""
    click.echo(f"{title}{more}:")
    width = min(longest, max(least, room() - _width(shown)))
    rows = zip((shortened(name, width) for name in names), *(column.cells for column in shown), strict=True)
    words = sum(column.name in ("operation", "unit") for column in shown)
    table(
        ["layer", *(column.name for column in shown)],
        list(rows),
        left=1 + words,
        total=["total", *(column.total for column in shown)],
    )


def _width(columns: Sequence[_Column]) -> int:
    return sum(2 + column.width for column in columns)


def _percent(part: float, whole: float) -> str:
    return f"{part / whole if whole else 0:.1%}"


def _say_where_it_goes(report: Report, names: Sequence[str]) -> None:
    """Name the layers that need most time, and those that need most energy."""
    level = report.levels[-1]
    for what, whole, parts in (
        ("time", level.cycles, [layer.cycles[-1] for layer in report.layers]),
        ("energy", level.energy_mj, [layer.energy_mj[-1] for layer in report.layers]),
    ):
        order = sorted(range(len(parts)), key=lambda number: -parts[number])[:NAMED]
        each = ", ".join(f"{names[number]} {_percent(parts[number], whole)}" for number in order)
        click.echo(f"most {what}: {each}; together {_percent(sum(parts[number] for number in order), whole)}")
