"""Choosing plans: solve, compile what was found, correct what was thought of costs, measure, and take the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.compiler.search.costs import CostModel, Costs
from mmac.compiler.search.measure import Step, Subject, fit_errors
from mmac.compiler.search.plans import Nested, nest
from mmac.compiler.search.prediction import Prediction
from mmac.compiler.search.result import Plans
from mmac.compiler.search.variants import Variants
from mmac.isa.errors import UsageError
from mmac.isa.plan import MAX_ALPHA, Level
from mmac.runtime.report import Report

Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ROUNDS = 12
"""Programs to learn costs from, at most, on the way to plans under limits on costs."""
_ERROR_ROUNDS = 4
"""Programs to learn costs from and to measure, under limits on errors."""
_CLOSE = 1e-3
"""Limits are kept to this share, and what is nearer to them is not improved."""
_TEMPERS = (1.0, 0.7)
"""Powers of the errors that plans are made for. Errors do not add up if they are large: then large ones count less."""
_PATIENCE = 5
"""So many rounds plans may try to keep the limits before layers are kept to what they had."""
_LEAST = 0.5
"""A limit is squeezed to this share at least, at a time."""
_GAIN = 0.98
"""A round has to bring the score down to this share for another one to follow."""
_DOUBT = 0.7
"""Standard deviation of the logarithm of what is believed of a layer, when other beliefs are tried."""
_WORK, _MOST_TRIALS = 2e11, 10
"""Multiply-accumulates spent on measuring such plans, about, and how many there are at most."""
_WORTH = 1.05
"""How much better another plan's level has to be, to be taken over."""
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
        quantity: of costs.
        step: progress.
    """

    def __init__(
        self,
        subject: Subject,
        variants: Variants,
        costs: CostModel,
        prediction: Prediction,
        quantity: str,
        step: Step,
    ) -> None:
        self._subject, self._variants, self._costs = subject, variants, costs
        self._prediction, self._quantity, self._step = prediction, quantity, step

    def begin(self, limits: Sequence[float], units: Float64, ladders: Sequence[Plans]) -> Choice:
        """The best plans under limits on costs that need no search.

        Args:
            limits: one per level.
            units: as of `least_error`.
            ladders: uniform plans; each level gets the highest of one of them that keeps its limit, or the cheapest
                plan.

        Raises:
            UsageError: a limit is below the cheapest plan.
        """
        bounds, cheapest = np.array(limits), self._cheapest()
        found: list[_Priced] = []
        for ladder in ladders:
            priced = self._climb(bounds, ladder, cheapest)
            if priced is not None and all(priced.plans != other.plans for other in found):
                found.append(priced)
        if not found:
            priced = self._compile({name: (level,) * len(limits) for name, level in cheapest.items()})
            self._require(bounds, self._totals(priced.report))
            found.append(priced)
        return min((self._measured(each, "measure uniform plans") for each in found), key=lambda c: _score(c, units))

    def _cheapest(self) -> dict[str, Level]:
        """Of each layer the option that costs least at the lowest level; of several the one that errs least."""
        layers, errors = self._prediction.layers, self._prediction.errors
        costs = self._prediction.costs[0]
        least = costs <= costs.min(axis=1, keepdims=True) * (1 + 1e-9)
        chosen = np.where(least, errors, np.inf).argmin(axis=1)
        return {layer.name: layer.options[option] for layer, option in zip(layers, chosen, strict=True)}

    def _climb(self, bounds: Float64, ladder: Plans, cheapest: Mapping[str, Level]) -> _Priced | None:
        """Plans that keep the limits as compiled, with the highest levels of a ladder for which that is so."""
        costs = self._totals(self._compile(ladder).report)
        rungs = np.array([np.flatnonzero(costs <= bound).max(initial=-1) for bound in bounds * (1 + _CLOSE)])
        while True:
            priced = self._compile(_on_rungs(ladder, rungs.tolist(), cheapest))
            over = self._totals(priced.report) > bounds * (1 + _CLOSE)
            if not over.any():
                return priced
            if (rungs < 0).all():
                return None
            if (rungs[over] < 0).all():  # what a level costs depends on the others too
                rungs = (rungs - 1) // 2
            rungs = np.minimum.accumulate(np.where(over, np.maximum(rungs - 1, -1), rungs)[::-1])[::-1]

    def least_error(
        self, limits: Sequence[float], units: Float64, start: Choice, names: tuple[Level, ...] | None = None
    ) -> Choice:
        """Plans of least error under limits on costs.

        Args:
            limits: one per level.
            units: error of a uniform level at each limit, in which errors are compared between levels.
            start: plans that keep the limits. Levels at which nothing better is found keep them.
            names: of the levels; None to name them after the plans.
        """
        bounds = np.array(limits)
        best, errors = start, np.full(len(limits), np.inf)
        seen, known = [start], self._of(start)
        random = np.random.default_rng(0)
        shape = len(limits), len(self._subject.layers)
        believed, power = np.zeros(shape), _TEMPERS[0]
        count = len(_TEMPERS) + self._trials(len(limits))
        for number in range(count):
            held: Mapping[int, list[int]] = {}
            if number < len(_TEMPERS):
                tried, tried_power = np.zeros(shape), _TEMPERS[number]
                self._prediction.forget(*known)
            else:
                doubt = random.normal(0, _DOUBT, shape[1]) + random.normal(0, _DOUBT / 2, shape)
                tried, tried_power = believed + doubt, power
                if number % 2:  # not always, as it is not always possible
                    tried, held = believed, self._held(best, seen)
            priced = self._priced(bounds, units, self._tempered(tried_power, tried), held, known, names)
            if priced is None:
                continue
            found = self._measured(priced, f"measure plans {number + 1}/{count}")
            seen.append(found)
            better = found.errors < errors
            if number < len(_TEMPERS) and (found.errors / units).mean() < (errors / units).mean():
                power, better = tried_power, np.ones(len(limits), np.bool_)
            believed = np.where(better[:, None], tried, believed)
            errors = np.where(better, found.errors, errors)
            if _score(found, units) < _score(best, units):
                best = found
        return best

    def _held(self, best: Choice, seen: Sequence[Choice]) -> dict[int, list[int]]:
        """Options of the levels at which another plan was better than the best one, to be kept to."""
        errors = np.stack([choice.errors for choice in seen])
        of = [seen[number].plans for number in errors.argmin(axis=0)]
        return {
            int(level): [layer.index(of[level][layer.name][level]) for layer in self._subject.layers]
            for level in np.flatnonzero(best.errors > errors.min(axis=0) * _WORTH)
        }

    def _trials(self, levels: int) -> int:
        """How often to try what plans other beliefs lead to."""
        return int(np.clip(_WORK / (self._subject.work * levels), 0, _MOST_TRIALS))

    def _tempered(self, power: float, logarithms: Float64) -> Float64:
        """[levels, layers, options] errors to make plans for; `logarithms` [levels, layers] change those of layers."""
        errors = np.exp(logarithms)[..., None] * self._prediction.errors
        return np.asarray(errors**power * self._subject.power ** (1 - power))

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
        thought, least = limits.copy(), self._price(best)
        for number in range(_ERROR_ROUNDS):
            nested = nest(self._prediction.under_errors(np.maximum.accumulate(thought[::-1])[::-1]))
            if isinstance(nested, int):
                self._prediction.doubt()
                continue
            priced, _ = self._compiled(nested, None)
            choice = self._measured(priced, f"measure plans {number + 1}/{_ERROR_ROUNDS}")
            cost = self._price(choice)
            kept = choice.errors <= limits * (1 + _CLOSE)
            if kept.all() and cost < least:
                best, least = choice, cost
            ratio = (limits - floor) / np.maximum(choice.errors - floor, 1e-3 * (limits - floor))
            thought = floor + (thought - floor) * np.clip(ratio * np.where(kept, 1, 0.95), 0.2, 5) ** _MARGIN
        return best

    def _price(self, choice: Choice) -> float:
        """Sum of the logarithms of what its levels cost."""
        return float(np.log(self._totals(choice.report)).sum())

    def _require(self, bounds: Float64, cheapest: Float64) -> None:
        """Refuse limits below what the cheapest plan costs at each level."""
        for bound, cost in zip(bounds.tolist(), cheapest.tolist(), strict=True):
            if cost > bound * (1 + _CLOSE):
                unit = self._quantity.rpartition("_")[2].replace("mj", "mJ")
                raise UsageError(
                    f"limit {bound:g} {unit}",
                    "below what any plan costs",
                    f"the cheapest one takes {cost:.4g} {unit}",
                    "give at least that",
                )

    def _priced(
        self,
        bounds: Float64,
        units: Float64,
        errors: Float64,
        held: Mapping[int, list[int]],
        known: tuple[Ints, Costs],
        names: tuple[Level, ...] | None,
    ) -> _Priced | None:
        """The best plans that keep the limits as compiled.

        Layers that prevent it get the options [levels, layers] of plans that do, `known` with what they cost.
        """
        best: _Priced | None = None
        squeezed = bounds.copy()
        tried: list[bytes] = []
        frozen: dict[int, tuple[Ints, Float64]] = {}
        impossible = False
        for number in range(_ROUNDS):
            self._step("solve", number, _ROUNDS)
            thought = self._prediction.under_costs(squeezed, units, errors, held, frozen)
            nested = nest(thought)
            if isinstance(nested, int):
                if impossible:
                    self._prediction.forget(*known)
                else:
                    self._prediction.doubt()
                squeezed, impossible = bounds.copy(), True
                continue
            impossible = False
            tried.append(nested.chosen.tobytes())
            if tried.count(tried[-1]) > 2:
                break
            priced, found = self._compiled(nested, names)
            used = self._totals(priced.report) / bounds
            if (used <= 1 + _CLOSE).all():
                score, before = thought.score(nested.chosen), best.score if best else np.inf
                if score < before:
                    best = _Priced(priced.plans, priced.names, priced.report, score)
                if score > before * _GAIN or (used >= 1 - 5 * _CLOSE).all():
                    break
            if number:
                less = np.maximum(1 - (used - 1) / 2, _LEAST)
                squeezed = np.where(used > 1 + _CLOSE, squeezed * less, squeezed)
            if number >= _PATIENCE:
                surprises = self._prediction.surprises(nested.chosen, found)
                culprits = _culprits(surprises, (used - 1 - _CLOSE) * bounds)
                options, costs = known
                frozen |= {layer: (options[:, layer], costs.layers[layer]) for layer in culprits}
        return best

    def _of(self, choice: Choice) -> tuple[Ints, Costs]:
        """The options [levels, layers] of plans, and what they cost."""
        options = [[layer.index(level) for level in choice.plans[layer.name]] for layer in self._prediction.layers]
        return np.array(options, np.int64).T, self._costs.costs(choice.report, self._quantity)

    def _compiled(self, nested: Nested, names: tuple[Level, ...] | None) -> tuple[_Priced, Costs]:
        """Plans as thought, and what is learned of their costs."""
        priced = self._compile(self._prediction.plans(nested), names)
        found = self._costs.costs(priced.report, self._quantity)
        self._prediction.learn(nested.chosen, found)
        return priced, found

    def _compile(self, plans: Plans, names: tuple[Level, ...] | None = None) -> _Priced:
        """Plans as they are, with these names of their levels or what they are on average."""
        names = names or _names(plans)
        return _Priced(plans, names, self._costs.report(names, plans), 0.0)

    def _totals(self, report: Report) -> Float64:
        return np.array([getattr(row, self._quantity) for row in report.levels])

    def _measured(self, priced: _Priced, what: str) -> Choice:
        levels = range(len(priced.names))
        errors = fit_errors(self._subject, self._variants, priced.plans, levels, self._step, what)
        return Choice(priced.plans, priced.names, priced.report, errors)


def _culprits(surprises: Float64, excess: Float64) -> set[int]:
    """The layers, of surprises [layers, levels], without which no level would cost more than it may, about."""
    found: set[int] = set()
    for of, missing in zip(surprises.T, excess, strict=True):
        order = np.argsort(-of)
        needed = np.concatenate([[0.0], np.cumsum(of[order])])[:-1] < missing
        found.update(int(layer) for layer in order[needed & (of[order] > 0)])
    return found


def _score(choice: Choice, units: Float64) -> float:
    return float(np.square(choice.errors / units).sum())


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
