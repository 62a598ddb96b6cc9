"""Choosing plans: solve, compile what was found, correct what was thought of costs, measure, and take the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.compiler.search.costs import CostModel
from mmac.compiler.search.measure import Errors, Step, Subject, fit_errors
from mmac.compiler.search.plans import Nested, Problem, nest
from mmac.compiler.search.prediction import Prediction
from mmac.compiler.search.result import Plans
from mmac.compiler.search.variants import Variants
from mmac.isa.errors import UsageError
from mmac.isa.plan import MAX_ALPHA, MAX_BETA, Level
from mmac.runtime.report import Report

Float64 = npt.NDArray[np.float64]

_ROUNDS = 5
"""Programs to learn costs from, at most."""
_CLOSE = 1e-3
"""Limits are kept to this share, and what is nearer to them is not improved."""
_TEMPERS = (1.0, 0.7)
"""Powers of the errors that plans are made for. Errors do not add up if they are large: then large ones count less."""
_MARGIN = 0.7
"""By how much a limit on errors may be missed in thought, in powers of what is measured."""


@dataclass(frozen=True)
class Choice:
    """Plans, the names of their levels, what they cost and their errors as measured."""

    plans: Plans
    names: tuple[Level, ...]
    report: Report
    errors: Float64


@dataclass(frozen=True)
class _Priced:
    plans: Plans
    names: tuple[Level, ...]
    report: Report
    score: float


class Chooser:
    """Finds plans for one model.

    Args:
        subject: the model.
        variants: measures plans.
        costs: prices plans.
        prediction: what is known of single options.
        errors: of uniform plans.
        quantity: of costs.
        step: progress.
    """

    def __init__(
        self,
        subject: Subject,
        variants: Variants,
        costs: CostModel,
        prediction: Prediction,
        errors: Errors,
        quantity: str,
        step: Step,
    ) -> None:
        self._subject, self._variants, self._costs = subject, variants, costs
        self._prediction, self._errors, self._quantity, self._step = prediction, errors, quantity, step

    def least_error(
        self, limits: Sequence[float], uniform_costs: Float64, names: tuple[Level, ...] | None
    ) -> Choice:
        """Plans of least error under limits on costs.

        Args:
            limits: one per level.
            uniform_costs: of the uniform levels, whose errors are those to be compared with.
            names: of the levels; None to name them after the plans.

        Raises:
            UsageError: the lowest limit is below the cheapest plan.
        """
        bounds = np.array(limits)
        units = np.exp(np.interp(np.log(bounds), np.log(uniform_costs), np.log(self._errors.uniform)))
        self._require(bounds)
        choices: list[Choice] = []
        predicted = self._prediction.errors
        for number, power in enumerate(_TEMPERS):
            self._prediction.errors = predicted**power * self._subject.power ** (1 - power)
            self._prediction.forget()
            priced = self._priced(bounds, lambda squeezed: self._prediction.under_costs(squeezed, units), names)
            if priced is not None:
                what = f"measure plans {number + 1}/{len(_TEMPERS)}"
                choices.append(self._measured(priced, what))
        self._prediction.errors = predicted
        if not choices:
            raise UsageError(
                f"limit {limits[0]:g}", "no plan found that keeps it", f"more than {self._prediction.cheapest():.4g}"
            )
        return min(choices, key=lambda choice: float(np.log(choice.errors / units).sum()))

    def least_cost(self, decibels: Sequence[float], uniform_costs: Float64) -> Choice:
        """Plans of least cost that have at least these signal-to-noise ratios.

        Raises:
            UsageError: more than the quantized model has without truncation.
        """
        limits = self._subject.power * 10 ** (-np.array(decibels) / 10)
        floor = self._errors.floor
        if limits[-1] <= floor:
            raise UsageError(
                f"limit {decibels[-1]:g} dB",
                "more than the model has if no term is dropped",
                f"below {self._subject.decibels(floor):.1f} dB, which is what 8-bit quantization leaves",
            )
        thought, best, least = limits.copy(), None, np.inf
        for number in range(_ROUNDS):
            nested = nest(self._prediction.under_errors(np.maximum.accumulate(thought[::-1])[::-1]))
            if isinstance(nested, int):
                break
            priced = self._compiled(nested, None)
            choice = self._measured(priced, f"measure plans {number + 1}/{_ROUNDS}")
            cost = float(np.log(self._totals(choice.report)).sum())
            kept = choice.errors <= limits * (1 + _CLOSE)
            if kept.all() and cost < least:
                best, least = choice, cost
            ratio = (limits - floor) / np.maximum(choice.errors - floor, 1e-3 * (limits - floor))
            thought = floor + (thought - floor) * np.clip(ratio * np.where(kept, 1, 0.95), 0.2, 5) ** _MARGIN
        if best is None:
            plans = {layer.name: (layer.full,) * len(limits) for layer in self._subject.layers}
            names = _names(plans)
            best = self._measured(_Priced(plans, names, self._costs.report(names, plans), 0.0), "measure plans")
        return best

    def _require(self, bounds: Float64) -> None:
        cheapest = self._prediction.cheapest()
        if bounds[0] < cheapest:
            unit = self._quantity.rpartition("_")[2].replace("mj", "mJ")
            raise UsageError(
                f"limit {bounds[0]:g} {unit}",
                "below what any plan costs",
                f"the cheapest one takes {cheapest:.4g} {unit}",
            )

    def _priced(
        self, bounds: Float64, problem: Callable[[Float64], Problem], names: tuple[Level, ...] | None
    ) -> _Priced | None:
        """The best plans that keep the limits as compiled."""
        best: _Priced | None = None
        squeezed = bounds.copy()
        for number in range(_ROUNDS):
            self._step("solve", number, _ROUNDS)
            thought = problem(squeezed)
            nested = nest(thought)
            if isinstance(nested, int):
                break
            priced = self._compiled(nested, names)
            used = self._totals(priced.report) / bounds
            if (used <= 1 + _CLOSE).all():
                score = thought.score(nested.chosen, nested.modes)
                if best is None or score < best.score:
                    best = _Priced(priced.plans, priced.names, priced.report, score)
                if (used >= 1 - 5 * _CLOSE).all():
                    break
            squeezed = np.where(used > 1 + _CLOSE, squeezed * (1 - (used - 1) / 2), squeezed) if number else squeezed
        return best

    def _compiled(self, nested: Nested, names: tuple[Level, ...] | None) -> _Priced:
        plans = self._prediction.plans(nested)
        own = names or _names(plans)
        report = self._costs.report(own, plans)
        self._prediction.learn(nested, self._costs.costs(report, self._quantity))
        return _Priced(plans, own, report, 0.0)

    def _totals(self, report: Report) -> Float64:
        return np.array([getattr(row, self._quantity) for row in report.levels])

    def _measured(self, priced: _Priced, what: str) -> Choice:
        levels = range(len(priced.names))
        errors = fit_errors(self._subject, self._variants, priced.plans, levels, self._step, what)
        return Choice(priced.plans, priced.names, priced.report, errors)


def _names(plans: Plans) -> tuple[Level, ...]:
    """Names of levels: the mean α and β of the layers, moved apart where they would be the same."""
    names: list[Level] = []
    for column in zip(*plans.values(), strict=True):
        alpha = round(float(np.mean([level.alpha for level in column])))
        beta = round(float(np.mean([level.beta for level in column])))
        if names:
            beta = max(beta, names[-1].beta)
            alpha = max(alpha, names[-1].alpha + (beta == names[-1].beta))
        if alpha > MAX_ALPHA:
            alpha, beta = MAX_ALPHA, min(beta + 1, MAX_BETA)
        names.append(Level(alpha, beta))
    return tuple(names)
