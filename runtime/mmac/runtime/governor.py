"""The governor: which level to run at under limits on latency, energy and quality, from a program's predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

from mmac.isa.errors import UsageError
from mmac.isa.plan import Level, parse_level
from mmac.isa.program import Prediction, Program

if TYPE_CHECKING:
    from mmac.runtime.report import Report
    from mmac.runtime.targets import Target


@dataclass(frozen=True)
class Policy:
    """What a level must keep to; None for no limit.

    Args:
        max_latency_ms: most milliseconds, of the device; host segments take the same time at every level.
        max_energy_mj: most millijoules, of the device.
        min_sqnr_db: least signal-to-noise ratio on calibration samples, in dB.

    Raises:
        UsageError: a limit that is not a finite number, or a cost below 0.
    """

    max_latency_ms: float | None = None
    max_energy_mj: float | None = None
    min_sqnr_db: float | None = None

    def __post_init__(self) -> None:
        for name, low in (("max_latency_ms", 0.0), ("max_energy_mj", 0.0), ("min_sqnr_db", -math.inf)):
            value = getattr(self, name)
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            if value is not None and not (is_number and math.isfinite(value) and value >= low):
                raise UsageError(name, repr(value), "a finite number" + (", 0 or more" if low == 0 else ""))

    @property
    def has_cost_limit(self) -> bool:
        """Whether latency or energy is limited."""
        return self.max_latency_ms is not None or self.max_energy_mj is not None

    def __str__(self) -> str:
        limits = [f"{value:g} {unit}" for value, unit in ((self.max_latency_ms, "ms"), (self.max_energy_mj, "mJ"))
                  if value is not None]  # fmt: skip
        limits += [] if self.min_sqnr_db is None else [f"at least {self.min_sqnr_db:g} dB"]
        return " and ".join(limits) or "no limit"

    def admits(self, prediction: Prediction) -> bool:
        """Whether a level keeps to all limits."""
        return (
            (self.max_latency_ms is None or prediction.latency_ms <= self.max_latency_ms)
            and (self.max_energy_mj is None or prediction.energy_mj <= self.max_energy_mj)
            and (self.min_sqnr_db is None or _quality(prediction) >= self.min_sqnr_db)
        )

    def closeness(self, prediction: Prediction) -> tuple[float, float, float]:
        """Smaller for levels that come closer to what is asked for; among equally close ones, for cheaper ones."""
        return self._excess(prediction), prediction.latency_ms, prediction.energy_mj

    def _excess(self, prediction: Prediction) -> float:
        """By what factor the limit that is missed most is missed, in dB; decibels of SQNR count as they are."""
        costs = ((prediction.latency_ms, self.max_latency_ms), (prediction.energy_mj, self.max_energy_mj))
        missing = [_decibels(cost) - _decibels(limit) for cost, limit in costs if limit is not None]
        if self.min_sqnr_db is not None:
            missing.append(self.min_sqnr_db - _quality(prediction))
        return max(missing)


def _quality(prediction: Prediction) -> float:
    return -math.inf if prediction.sqnr_db is None else prediction.sqnr_db


def _decibels(cost: float) -> float:
    return 10 * math.log10(max(cost, _NOTHING))


_NOTHING = 1e-30
"""Stands for costs of 0, so that there are factors between them and others."""


@dataclass(frozen=True)
class Governor:
    """Chooses levels of one program on one target.

    Attributes:
        levels: names of the levels, lowest first.
        predictions: of each level.
    """

    levels: tuple[Level, ...]
    predictions: tuple[Prediction, ...]

    @staticmethod
    def of_report(report: Report) -> Governor:
        """By the costs in a report of all levels: on its target, with its kind of cell and constants."""
        rows = report.levels
        predictions = (Prediction(row.latency_ms, row.energy_mj, row.sqnr_db) for row in rows)
        return Governor(tuple(parse_level(row.level) for row in rows), tuple(predictions))

    @staticmethod
    def of_program(program: Program, target: Target | str | Path | None = None, mac: str | None = None) -> Governor:
        """By the predictions in a program if they are about this hardware, otherwise by an estimate for it.

        Args:
            program: a verified program.
            target: the hardware; None for what the program was compiled for.
            mac: kind of cell; None for the target's own.

        Raises:
            UsageError: no such target or cell.
            ResourceError: the program does not fit on that target.
        """
        from mmac.runtime.compiled_for import NOTE, digest, machine_for
        from mmac.runtime.report import estimate

        if target is None and mac is None and program.predictions:
            return Governor(program.plan.levels, program.predictions)
        machine = machine_for(program, target)
        if mac is None and program.predictions and program.notes.get(NOTE) == digest(machine):
            return Governor(program.plan.levels, program.predictions)
        return Governor.of_report(estimate(program, machine, mac=mac))

    def choose(self, policy: Policy) -> int:
        """Position of the best level that keeps to the limits.

        That is the one of highest SQNR (without calibration data: the highest), and among equally good ones the
        cheapest. If only the SQNR is limited, it is the one that needs least energy.

        Raises:
            UsageError: there is none; says what the closest one costs.
        """
        if policy.min_sqnr_db is not None and not self.knows_sqnr:
            raise UsageError(
                f"limit of {policy}",
                "the program does not know the SQNR of its levels",
                "limits on latency and energy",
                "compile it with --calibration",
            )
        fitting = [n for n, prediction in enumerate(self.predictions) if policy.admits(prediction)]
        if not fitting:
            raise self._impossible(policy)
        if policy.min_sqnr_db is not None and not policy.has_cost_limit:
            return min(fitting, key=self._cost)
        return max(fitting, key=self._worth)

    @property
    def knows_sqnr(self) -> bool:
        """Whether the levels' signal-to-noise ratios are known."""
        return all(prediction.sqnr_db is not None for prediction in self.predictions)

    def _cost(self, position: int) -> tuple[float, float]:
        prediction = self.predictions[position]
        return prediction.energy_mj, prediction.latency_ms

    def _worth(self, position: int) -> tuple[float, float, float]:
        quality = self.predictions[position].sqnr_db
        energy_mj, latency_ms = self._cost(position)
        return float(position) if quality is None else quality, -energy_mj, -latency_ms

    def _impossible(self, policy: Policy) -> UsageError:
        closest = min(range(len(self.levels)), key=lambda position: policy.closeness(self.predictions[position]))
        prediction = self.predictions[closest]
        quality = "" if prediction.sqnr_db is None else f", at {prediction.sqnr_db:.2f} dB"
        return UsageError(
            f"limit of {policy}",
            "no level of the program keeps to it",
            f"the closest is {self.levels[closest]} with {prediction.latency_ms:.4g} ms "
            f"and {prediction.energy_mj:.4g} mJ{quality}",
            "allow that much, or compile with lower --levels" if policy.min_sqnr_db is None else "allow that much",
        )
