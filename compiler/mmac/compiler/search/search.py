"""`search_budgets`: from a model, samples and limits to plans."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmac.compiler.pipeline import Options, compile_model
from mmac.compiler.search.choose import Choice, Chooser
from mmac.compiler.search.costs import CostModel, Costs, Table, tabulate
from mmac.compiler.search.measure import Errors, Step, Subject, measure, prepare
from mmac.compiler.search.prediction import Prediction
from mmac.compiler.search.result import Found, LevelFound, Plans
from mmac.compiler.search.space import Layer
from mmac.compiler.search.state import State, digest_of_model, digest_of_samples
from mmac.compiler.search.variants import Variants, energy
from mmac.isa.errors import UsageError
from mmac.isa.plan import MAX_LEVELS, PAPER_LEVELS, Level
from mmac.runtime import Session
from mmac.runtime.targets import Target, load_target

Float64 = npt.NDArray[np.float64]

COSTS = ("latency_ms", "energy_mj")
QUALITY = "sqnr_db"


@dataclass(frozen=True)
class Goal:
    """What plans have to keep, and what is made best.

    Attributes:
        quantity: ``latency_ms`` or ``energy_mj``: the least error under limits on it; ``sqnr_db``: the least latency
            at which the signal-to-noise ratio at the outputs is at least the limit.
        limits: one for each level of the program, rising; None for what the uniform levels take.
    """

    quantity: str = COSTS[0]
    limits: tuple[float, ...] | None = None

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: says what.
        """
        if self.quantity not in (*COSTS, QUALITY):
            raise UsageError(f"goal {self.quantity!r}", "no such quantity", ", ".join((*COSTS, QUALITY)))
        if self.limits is None:
            if self.quantity == QUALITY:
                raise UsageError(f"goal {QUALITY}", "no limits", "one for each level")
            return
        if not 1 <= len(self.limits) <= MAX_LEVELS:
            raise UsageError("limits", f"{len(self.limits)} of them", f"1…{MAX_LEVELS}, one for each level")
        for limit in self.limits:
            if not np.isfinite(limit) or (self.quantity in COSTS and limit <= 0):
                raise UsageError(f"limit {limit:g}", "not a positive number", "such as 1.5")
        if list(self.limits) != sorted(set(self.limits)):
            raise UsageError("limits", ", ".join(f"{x:g}" for x in self.limits), "rising from one level to the next")


def search_budgets(
    model: str | Path,
    options: Options,
    goal: Goal | None = None,
    *,
    keep_edges: bool = False,
    state: str | os.PathLike[str] | None = None,
    verify: bool = True,
    progress: Step | None = None,
) -> Found:
    """Choose (α, β) of every array layer at every level: least error under limits on costs, or the other way round.

    Args:
        model: an ONNX file.
        options: as for `compile_model`. `calibration` is needed: a part of it is fitted to, the rest measures errors.
            `levels` are the uniform levels to compare with (default: the paper's), which give the limits if the goal
            has none.
        goal: default: the latencies of the uniform levels.
        keep_edges: the first and last array layers of every path keep all terms.
        state: file for what is measured, with which an interrupted search goes on.
        verify: compile the plans and simulate them on the samples that were not fitted to.
        progress: called with what is being done.

    Raises:
        UsageError: no calibration data, budgets beside, limits that no plan can keep (says what comes closest), or
            `state` is of a search with another model, data or options; it stays as it is.
        MalformedError: `state` is another kind of file.
        MmacError: whatever the compiler finds wrong with the model or the options.
    """
    goal = goal or Goal()
    goal.check()
    if options.budgets:
        raise UsageError("search", "budgets are given", "none: it is what the search chooses")
    return _Search(model, options, goal, keep_edges, state, progress or (lambda *_: None)).run(verify)


class _Search:
    """One search: its model, measured as far as it is known."""

    def __init__(
        self,
        model: str | Path,
        options: Options,
        goal: Goal,
        keep_edges: bool,
        state: str | os.PathLike[str] | None,
        step: Step,
    ) -> None:
        self._levels = tuple(options.levels or PAPER_LEVELS)
        samples = {name: array for name, array in (options.calibration or {}).items() if array.ndim}
        options = replace(options, levels=self._levels, calibration=samples or None)
        self._model, self._options, self._goal, self._step = model, options, goal, step
        self._seconds: dict[str, float] = {}
        self._clock = time.perf_counter()
        self._quantity = COSTS[0] if goal.quantity == QUALITY else goal.quantity
        step("quantize", 0, 1)
        target = load_target(options.target)
        self._subject = subject = prepare(model, options, keep_edges)
        self._state = State(state, _about(subject, options, target, keep_edges))
        self._variants = Variants(subject.partitioned, subject.fitted if options.correct else [], subject.measured)
        self._costs = CostModel(subject.quantized, subject.layers, target)
        self._target = target.name

    def run(self, verify: bool) -> Found:
        """All of it."""
        subject, levels = self._subject, self._levels
        plans = uniform_plans(subject.layers, levels)
        errors = measure(subject, self._variants, plans, self._state, self._step)
        self._took("measure")
        table, report = self._table(), self._costs.report(levels, plans)
        self._took("costs")
        uniform = [
            LevelFound(name, None, cost.latency_ms, cost.energy_mj, subject.decibels(error))
            for name, cost, error in zip(levels, report.levels, errors.uniform, strict=True)
        ]
        costs = np.array([getattr(row, self._quantity) for row in uniform])
        limits = self._goal.limits or tuple(costs.tolist())
        choice = self._choose(limits, costs, table, errors, Choice(plans, levels, report, errors.uniform))
        self._took("choose")
        rows = zip(choice.names, limits, choice.report.levels, choice.errors, self._uniform_names(choice), strict=True)
        found = [
            LevelFound(name, limit, cost.latency_ms, cost.energy_mj, subject.decibels(error), held_to=same)
            for name, limit, cost, error, same in rows
        ]
        if verify:
            found = self._simulated(choice, found)
            self._took("simulate")
        return Found(
            model=choice.report.model,
            target=self._target,
            quantity=self._goal.quantity,
            levels=found,
            uniform=uniform,
            plans=choice.plans,
            full={layer.name: layer.full for layer in subject.layers},
            whole_db=subject.decibels(errors.floor),
            samples=(len(subject.fitted), len(subject.measured)),
            seconds=self._seconds,
        )

    def _took(self, what: str) -> None:
        now = time.perf_counter()
        self._seconds[what], self._clock = round(now - self._clock, 1), now

    def _table(self) -> Table:
        """Costs of all options; those of each program are kept as soon as they are known."""
        programs = self._costs.programs()
        costs: list[Costs] = []
        for number, names in enumerate(programs):
            self._step("costs", number, len(programs))
            key = f"{self._quantity} {','.join(map(str, names))}"
            costs.append(Costs(**self._state.get(key, partial(self._alike, names))))
        return tabulate(self._subject.layers, programs, costs)

    def _alike(self, names: Sequence[Level]) -> dict[str, Float64]:
        return vars(self._costs.alike(names, self._quantity))

    def _choose(
        self, limits: tuple[float, ...], costs: Float64, table: Table, errors: Errors, uniform: Choice
    ) -> Choice:
        prediction = Prediction(self._subject.layers, errors.options, errors.floor, table, len(limits))
        chooser = Chooser(self._subject, self._variants, self._costs, prediction, self._quantity, uniform, self._step)
        if self._goal.quantity == QUALITY:
            return chooser.least_cost(limits, uniform)
        order = np.argsort(costs)
        uniform_errors = np.maximum(errors.uniform[order], self._subject.least_error)
        units = np.exp(np.interp(np.log(limits), np.log(costs[order]), np.log(uniform_errors)))
        names = uniform.names if self._goal.limits is None else None
        ladders = [uniform.plans, *([uniform_plans(self._subject.layers, PAPER_LEVELS)] if names is None else [])]
        start = chooser.begin(limits, units, ladders, names)
        return chooser.least_error(limits, units, start, names)

    def _uniform_names(self, choice: Choice) -> list[Level | None]:
        """For each level the uniform level that has the same plan, if there is one."""
        known: dict[tuple[Level, ...], Level] = {}
        for levels in (PAPER_LEVELS, self._levels):
            columns = zip(*uniform_plans(self._subject.layers, levels).values(), strict=True)
            known |= dict(zip(columns, levels, strict=True))
        return [known.get(column) for column in zip(*choice.plans.values(), strict=True)]

    def _simulated(self, choice: Choice, rows: Sequence[LevelFound]) -> list[LevelFound]:
        """Compile the plans and run them on the samples that were not fitted to."""
        self._step("compile", 0, 1)
        subject = self._subject
        budgets = {
            name: {"alpha": [level.alpha for level in plan], "beta": [level.beta for level in plan]}
            for name, plan in choice.plans.items()
        }
        chosen = replace(self._options, levels=choice.names, budgets=budgets, calibration=subject.data)
        session = Session(compile_model(self._model, chosen).program)
        results = []
        for level, (row, cost) in enumerate(zip(rows, session.report.levels, strict=True)):
            self._step("simulate", level, len(rows))
            columns = zip(*(session.run(None, feed, level=level) for feed in subject.measured), strict=True)
            sqnr_db = subject.decibels(energy(subject.expected, [np.stack(column) for column in columns]))
            results.append(replace(row, latency_ms=cost.latency_ms, energy_mj=cost.energy_mj, sqnr_db=sqnr_db))
        return results


def uniform_plans(layers: Sequence[Layer], levels: Sequence[Level]) -> Plans:
    """Plans in which all layers but the first and last ones have the levels' own budgets."""
    return {
        layer.name: tuple(
            layer.full if layer.at_edge else Level(min(a, layer.full.alpha), min(b, layer.full.beta))
            for a, b in ((level.alpha, level.beta) for level in levels)
        )
        for layer in layers
    }


def _about(subject: Subject, options: Options, target: Target, keep_edges: bool) -> dict[str, str]:
    """What a search depends on, but for its limits, as `State` takes it."""
    digest = digest_of_samples(options.calibration or {})
    return {
        "set of calibration data": digest,
        "calibration method": options.method,
        "levels": ",".join(map(str, options.levels or ())),
        "target": target.name,
        "correction": "on" if options.correct else "off",
        "edges": "kept" if keep_edges else "searched",
        "model": digest_of_model(subject.quantized),
        "version of mmac or of the target": hashlib.sha256(f"{target!r} {subject.layers!r}".encode()).hexdigest(),
    }
