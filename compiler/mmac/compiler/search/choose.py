"""Choosing plans: try chains of options, keep what programs tell of their costs, put the best together, measure it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.compiler.search.costs import CostModel
from mmac.compiler.search.measure import Step, Subject, fit_errors
from mmac.compiler.search.plans import Problem, relax
from mmac.compiler.search.pool import Pool
from mmac.compiler.search.prediction import Prediction
from mmac.compiler.search.result import Plans
from mmac.compiler.search.variants import Variants
from mmac.isa.errors import UsageError
from mmac.isa.plan import MAX_ALPHA, Level
from mmac.runtime.report import Report

Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_PROGRAMS, _MOST_PROGRAMS, _LAYERS = 10, 30, 400
"""Programs compiled to learn what chains of options cost, before plans are put together and measured; at first up to so
many, with so many layers in all."""
_NOISE, _LIMIT_NOISE = 0.5, 0.05
"""Standard deviation of the logarithm of what errors of layers are changed by, and share by which limits are lowered at
most, so that such programs differ."""
_TRIES = 5
"""Programs compiled with plans put together, until one keeps the limits."""
_DAMPING = 0.7
"""Power of the share by which one is above a limit, to lower it by."""
_CLOSE = 1e-3
"""Limits are kept to this share."""
_WORK, _TRIALS = 2e11, (3, 6)
"""Multiply-accumulates spent on measuring plans, about, and how many plans there are at least and at most."""
_DOUBT = 3.0
"""By how much an error counts more, at a level that measured worse, if it is larger than that of the best plan."""
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


class Chooser:
    """Finds plans for one model.

    Args:
        subject: the model.
        variants: measures plans.
        costs: prices plans.
        prediction: what is known of single options.
        quantity: of costs.
        known: plans that are measured already.
        step: progress.
    """

    def __init__(
        self,
        subject: Subject,
        variants: Variants,
        costs: CostModel,
        prediction: Prediction,
        quantity: str,
        known: Choice,
        step: Step,
    ) -> None:
        self._subject, self._variants, self._costs = subject, variants, costs
        self._prediction, self._quantity, self._step = prediction, quantity, step
        self._errors = {tuple(known.plans.items()): known.errors}
        self._pool = Pool(len(subject.layers))
        self._random = np.random.default_rng(0)

    def begin(
        self,
        limits: Sequence[float],
        units: Float64,
        ladders: Sequence[Plans],
        names: tuple[Level, ...] | None = None,
    ) -> Choice:
        """The best plans under limits on costs that need no search.

        Args:
            limits: one per level.
            units: as of `least_error`.
            ladders: uniform plans; each level gets the highest of one of them that keeps its limit, or the cheapest
                plan.
            names: of the levels; None to name them after the plans.

        Raises:
            UsageError: a limit is below the cheapest plan.
        """
        bounds, cheapest = np.array(limits), self._cheapest()
        found: list[_Priced] = []
        for ladder in ladders:
            priced = self._climb(bounds, ladder, cheapest, names)
            if priced is not None and all(priced.plans != other.plans for other in found):
                found.append(priced)
        if not found:
            priced = self._compile({name: (level,) * len(limits) for name, level in cheapest.items()})
            raise self._refusal(bounds, self._totals(priced.report))
        return min((self._measured(each, "measure uniform plans") for each in found), key=lambda c: _score(c, units))

    def _cheapest(self) -> dict[str, Level]:
        """Of each layer the option that costs least at the lowest level; of several the one that errs least."""
        layers, errors = self._prediction.layers, self._prediction.errors
        costs = self._prediction.costs[0]
        least = costs <= costs.min(axis=1, keepdims=True) * (1 + 1e-9)
        chosen = np.where(least, errors, np.inf).argmin(axis=1)
        return {layer.name: layer.options[option] for layer, option in zip(layers, chosen, strict=True)}

    def _climb(
        self, bounds: Float64, ladder: Plans, cheapest: Mapping[str, Level], names: tuple[Level, ...] | None
    ) -> _Priced | None:
        """Plans that keep the limits as compiled, with the highest levels of a ladder for which that is so."""
        costs = self._totals(self._compile(ladder).report)
        # the limits may fall: at a uniform level with more terms a program may take less energy
        rungs = _rising(np.array([np.flatnonzero(costs <= bound).max(initial=-1) for bound in bounds * (1 + _CLOSE)]))
        while True:
            priced = self._compile(_on_rungs(ladder, rungs.tolist(), cheapest), names)
            over = self._totals(priced.report) > bounds * (1 + _CLOSE)
            if not over.any():
                return priced
            if (rungs < 0).all():
                return None
            if (rungs[over] < 0).all():  # what a level costs depends on the others too
                rungs = (rungs - 1) // 2
            rungs = _rising(np.where(over, np.maximum(rungs - 1, -1), rungs))

    def least_error(
        self, limits: Sequence[float], units: Float64, start: Choice, names: tuple[Level, ...] | None = None
    ) -> Choice:
        """Plans of least error under limits on costs.

        Args:
            limits: one per level.
            units: error of a uniform level at each limit, in which errors are compared between levels.
            start: plans that keep the limits, to begin with.
            names: of the levels; None to name them after the plans.
        """
        bounds = np.array(limits)
        best, errors, near = start, start.errors.copy(), self._learn(start.plans, start.report)
        doubts = np.ones(len(limits))
        count = self._trials(len(limits))
        programs = int(np.clip(_LAYERS / len(self._subject.layers), _PROGRAMS, _MOST_PROGRAMS))
        for number in range(count):
            thought = self._around(near, doubts)
            self._explore(bounds, thought, best.errors / units**2, names, _PROGRAMS if number else programs)
            priced = self._together(bounds, thought, best.errors / units**2, names)
            if priced is None:
                continue
            found = self._measured(priced, f"measure plans {number + 1}/{count}")
            worse = found.errors > errors
            near = np.where(worse[:, None], near, self._prediction.options(found.plans))
            errors = np.minimum(errors, found.errors)
            doubts = np.where(worse, doubts * _DOUBT, doubts)
            if _score(found, units) < _score(best, units):
                best = found
        return best

    def _trials(self, levels: int) -> int:
        """How many plans to measure."""
        return int(np.clip(_WORK / (self._subject.work * levels), *_TRIALS))

    def _around(self, near: Ints, doubts: Float64) -> Float64:
        """[levels, layers, options] errors as thought of, what is worse than the options `near` counting `doubts`-fold.

        That errors add up is believed the less the further plans are from measured ones.
        """
        errors = self._prediction.errors
        base = errors[np.arange(near.shape[1]), near][..., None]
        return np.asarray(np.where(errors > base, base + doubts[:, None, None] * (errors - base), errors))

    def _explore(
        self, bounds: Float64, errors: Float64, shares: Float64, names: tuple[Level, ...] | None, count: int
    ) -> None:
        """Compile programs with chains of options that are good for about these errors and limits."""
        for number in range(count):
            self._step("try options", number, count)
            limits = self._noisy(bounds - self._prediction.rest)
            values = errors * self._factors(len(bounds))
            chosen = relax(Problem(self._subject.layers, values, self._prediction.costs, shares, limits))
            self._compiled(chosen, names)

    def _together(
        self, bounds: Float64, errors: Float64, shares: Float64, names: tuple[Level, ...] | None
    ) -> _Priced | None:
        """The best plans, put together from what programs were compiled with, that keep the limits as compiled."""
        squeezed = bounds * (1 + _CLOSE)
        for number in range(_TRIES):
            self._step("solve", number, _TRIES)
            picked = self._pool.least_errors(errors, shares, squeezed - self._prediction.rest)
            if picked is None:
                break
            priced = self._compiled(picked, names)
            used = self._totals(priced.report) / bounds
            over = used > 1 + _CLOSE
            if not over.any():
                return priced
            squeezed = np.where(over, squeezed / used**_DAMPING, squeezed)
        return None

    def _factors(self, levels: int) -> Float64:
        """[levels, layers, 1] what errors are changed by."""
        layers = len(self._subject.layers)
        logarithms = self._random.normal(0, _NOISE, layers) + self._random.normal(0, _NOISE, (levels, layers))
        return np.asarray(np.exp(logarithms)[..., None])

    def _noisy(self, limits: Float64) -> Float64:
        return np.asarray(limits * (1 - self._random.uniform(0, _LIMIT_NOISE, limits.shape)))

    def least_cost(self, decibels: Sequence[float], uniform: Choice) -> Choice:
        """Plans of least cost that have at least these signal-to-noise ratios.

        Args:
            decibels: one limit per level.
            uniform: plans to begin with: each level gets the lowest of them that is good enough, or keeps all terms.

        Raises:
            UsageError: more than the quantized model has without truncation.
        """
        limits = self._subject.power * 10 ** (-np.array(decibels) / 10)
        floor = self._prediction.floor
        if limits[-1] <= floor:
            raise UsageError(
                f"limit {decibels[-1]:g} dB",
                "more than the model has if no term is dropped",
                f"below {self._subject.decibels(floor):.1f} dB, which is what 8-bit quantization leaves",
            )
        full = {layer.name: layer.full for layer in self._prediction.layers}
        rungs = [int(np.flatnonzero([*(uniform.errors <= limit), True])[0]) for limit in limits]
        plans = {name: tuple([*plan, full[name]][rung] for rung in rungs) for name, plan in uniform.plans.items()}
        best = self._measured(self._compile(plans), "measure uniform plans")
        self._learn(best.plans, best.report)
        thought, count = limits - floor, self._trials(len(limits))
        for number in range(count):
            priced = self._cheap(thought, 1 / self._totals(best.report))
            if priced is None:
                thought = limits - floor
                continue
            choice = self._measured(priced, f"measure plans {number + 1}/{count}")
            kept = choice.errors <= limits * (1 + _CLOSE)
            if kept.all() and self._price(choice) < self._price(best):
                best = choice
            ratio = (limits - floor) / np.maximum(choice.errors - floor, 1e-3 * (limits - floor))
            thought = thought * np.clip(ratio * np.where(kept, 1, 0.95), 0.2, 5) ** _MARGIN
        return best

    def _cheap(self, limits: Float64, shares: Float64) -> _Priced | None:
        """The cheapest plans, put together from what programs were compiled with, under limits on errors in thought."""
        levels = len(limits)
        errors = np.broadcast_to(self._prediction.errors, (levels, *self._prediction.errors.shape))
        for number in range(_PROGRAMS):
            self._step("try options", number, _PROGRAMS)
            weights = errors * self._factors(levels)
            chosen = relax(Problem(self._subject.layers, self._prediction.costs, weights, shares, self._noisy(limits)))
            self._compiled(chosen, None)
        picked = self._pool.least_costs(errors, shares, limits)
        return None if picked is None else self._compiled(picked, None)

    def _price(self, choice: Choice) -> float:
        """Sum of the logarithms of what its levels cost."""
        return float(np.log(self._totals(choice.report)).sum())

    def _refusal(self, bounds: Float64, cheapest: Float64) -> UsageError:
        """The error for limits of which at least one is below what the cheapest plan costs."""
        level = int(np.argmax(cheapest / bounds))
        unit = self._quantity.rpartition("_")[2].replace("mj", "mJ")
        return UsageError(
            f"limit {bounds[level]:g} {unit}",
            "below what any plan costs",
            f"the cheapest one takes {cheapest[level]:.4g} {unit}",
            "give at least that",
        )

    def _learn(self, plans: Plans, report: Report) -> Ints:
        """Note what these plans cost; their options [levels, layers]."""
        chosen, found = self._prediction.options(plans), self._costs.costs(report, self._quantity)
        self._prediction.learn(chosen, found)
        self._pool.add(chosen, found)
        return chosen

    def _compiled(self, chosen: Ints, names: tuple[Level, ...] | None) -> _Priced:
        """Plans of options [levels, layers]; what they cost is noted."""
        priced = self._compile(self._prediction.plans(chosen), names)
        self._learn(priced.plans, priced.report)
        return priced

    def _compile(self, plans: Plans, names: tuple[Level, ...] | None = None) -> _Priced:
        """Plans as they are, with these names of their levels or what they are on average."""
        names = names or _names(plans)
        return _Priced(plans, names, self._costs.report(names, plans))

    def _totals(self, report: Report) -> Float64:
        return np.array([getattr(row, self._quantity) for row in report.levels])

    def _measured(self, priced: _Priced, what: str) -> Choice:
        key = tuple(priced.plans.items())
        if key not in self._errors:
            levels = range(len(priced.names))
            self._errors[key] = fit_errors(self._subject, self._variants, priced.plans, levels, self._step, what)
        return Choice(priced.plans, priced.names, priced.report, self._errors[key])


def _score(choice: Choice, units: Float64) -> float:
    return float(np.square(choice.errors / units).sum())


def _rising(rungs: Ints) -> Ints:
    """Lowered so that none is higher than those after it."""
    return np.minimum.accumulate(rungs[::-1])[::-1]


def _on_rungs(ladder: Plans, rungs: Sequence[int], cheapest: Mapping[str, Level]) -> Plans:
    """Levels of a ladder by their numbers, -1 for the cheapest plan; what is above that has no less than it."""
    least = Level(1, 1)
    plans: Plans = {}
    for name, plan in ladder.items():
        own = cheapest[name] if min(rungs) < 0 else least
        levels = (plan[rung] if rung >= 0 else own for rung in rungs)
        plans[name] = tuple(Level(max(own.alpha, each.alpha), max(own.beta, each.beta)) for each in levels)
    return plans


def _names(plans: Plans) -> tuple[Level, ...]:
    """Names of levels: the mean α and β of the layers, moved apart where they would be the same."""
    means: list[tuple[int, int]] = []
    for column in zip(*plans.values(), strict=True):
        alpha = round(float(np.mean([level.alpha for level in column])))
        beta = round(float(np.mean([level.beta for level in column])))
        if means:
            beta = max(beta, means[-1][1])
            alpha = max(alpha, means[-1][0] + (beta == means[-1][1]))
        means.append((alpha, beta))
    names: list[Level] = []
    limit = MAX_ALPHA
    for alpha, beta in reversed(means):  # downwards where there is no room above
        limit -= bool(names) and beta == names[-1].beta
        names.append(Level(min(alpha, limit), beta))
    return tuple(reversed(names))
