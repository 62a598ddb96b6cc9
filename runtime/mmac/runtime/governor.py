"""The governor: which level to run at under a limit on latency or energy, from a program's predictions."""

from __future__ import annotations

from mmac.isa.errors import UsageError
from mmac.runtime.report import LevelReport, Report


def best_level(report: Report, max_latency_ms: float | None = None, max_energy_mj: float | None = None) -> LevelReport:
    """The highest level whose predicted latency (host segments included) and energy stay within the limits.

    Raises:
        UsageError: even the cheapest level costs more; says how much.
    """
    fitting = [
        level
        for level in report.levels
        if (max_latency_ms is None or _latency_ms(level) <= max_latency_ms)
        and (max_energy_mj is None or level.energy_mj <= max_energy_mj)
    ]
    if fitting:
        return fitting[-1]
    limits = [f"{max_latency_ms:g} ms"] if max_latency_ms is not None else []
    limits += [f"{max_energy_mj:g} mJ"] if max_energy_mj is not None else []
    cheapest = min(report.levels, key=_latency_ms if max_latency_ms is not None else lambda level: level.energy_mj)
    raise UsageError(
        f"limit of {' and '.join(limits)}",
        "no level of the program is that cheap",
        f"the closest is {cheapest.level} with {_latency_ms(cheapest):.4g} ms and {cheapest.energy_mj:.4g} mJ",
        "allow that much, or compile with lower --levels",
    )


def _latency_ms(level: LevelReport) -> float:
    return level.latency_ms + level.host_ms
