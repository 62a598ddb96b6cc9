"""`search_budgets`: from a model, samples and limits to plans."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmac.compiler.pipeline import Options, compile_model
from mmac.compiler.search.choose import Chooser
from mmac.compiler.search.costs import CostModel, Table, tabulate
from mmac.compiler.search.measure import Errors, Step, Subject, measure, prepare
from mmac.compiler.search.prediction import Prediction
from mmac.compiler.search.result import Found, LevelFound, Plans
from mmac.compiler.search.space import Layer
from mmac.compiler.search.state import State, digest_of
from mmac.compiler.search.variants import Variants, energy
from mmac.isa.errors import UsageError
from mmac.isa.plan import MAX_ALPHA, MAX_LEVELS, PAPER_LEVELS, Level
from mmac.runtime import Session
from mmac.runtime.report import Report
from mmac.runtime.targets import Target, load_target

Float64 = npt.NDArray[np.float64]

COSTS = ("latency_ms", "energy_mj")
QUALITY = "sqnr_db"


@dataclass(frozen=True)
class Goal:
    """What plans have to keep, and what is made best.

    Attributes:
        quantity: ``latency_ms`` or ``energy_mj``: the least error under limits on it; ``sqnr_db``: the least latency
            at which signal-to-noise ratio at the outputs is at least the limit.
        limits: one for each level of the program, rising; None for what the uniform levels take.
    """

    quantity: str = "latency_ms"
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
            `levels` are the uniform levels to compare with, which give the limits if the goal has none.
        goal: default: the latencies of the uniform levels.
        keep_edges: the first and last array layers of every path keep all terms.
        state: file for what is measured, with which an interrupted search goes on.
        verify: compile the plans and simulate them on the samples that were not fitted to.
        progress: called with what is being done.

    Raises:
        UsageError: no calibration data, budgets beside, or limits that no plan can keep (says what comes closest).
        MalformedError: `state` is another kind of file.
        MmacError: whatever the compiler finds wrong with the model or the options.
    """
    goal, step = goal or Goal(), progress or (lambda *_: None)
    goal.check()
    if options.budgets:
        raise UsageError("search", "budgets are given", "none: it is what the search chooses")
    begin = time.perf_counter()
    target = load_target(options.target)
    levels = tuple(options.levels)
    step("quantize", 0, 1)
    subject = prepare(model, options, levels, keep_edges)
    more = [repr(target), repr(levels), repr(subject.layers), str(options.correct), options.method]
    kept = State(state, digest_of(subject.quantized, options.calibration or {}, more))
    fitted = subject.measured[:0]
    if options.correct:
        from mmac.compiler.graph.calibrate import batches

        fitted = list(batches(subject.partitioned, subject.fitted))[:16]
    variants = Variants(subject.partitioned, fitted, subject.measured)
    uniform = uniform_plans(subject.layers, levels)
    errors = measure(subject, variants, uniform, kept, step)
    measured = time.perf_counter()
    costs = CostModel(subject.quantized, subject.layers, target)
    quantity = COSTS[0] if goal.quantity == QUALITY else goal.quantity
    table = _costs(costs, subject.layers, quantity, kept, step)
    report = costs.report(levels, uniform)
    priced = time.perf_counter()
    limits = goal.limits or tuple(getattr(row, quantity) for row in report.levels)
    prediction = Prediction(subject.layers, errors.options, errors.floor, table, len(limits))
    chooser = Chooser(subject, variants, costs, prediction, errors, quantity, step)
    if goal.quantity == QUALITY:
        choice = chooser.least_cost(limits, _costs_of(report, quantity))
    else:
        choice = chooser.least_error(limits, _costs_of(report, quantity), levels if goal.limits is None else None)
    chosen = time.perf_counter()
    rows = [
        LevelFound(name, limit, cost.latency_ms, cost.energy_mj, subject.decibels(error))
        for name, limit, cost, error in zip(choice.names, limits, choice.report.levels, choice.errors, strict=True)
    ]
    if verify:
        rows = _simulate(model, options, subject, choice.names, choice.plans, rows, step)
    done = time.perf_counter()
    return Found(
        model=choice.report.model,
        target=target.name,
        quantity=goal.quantity,
        levels=rows,
        uniform=[
            LevelFound(name, None, cost.latency_ms, cost.energy_mj, subject.decibels(error))
            for name, cost, error in zip(levels, report.levels, errors.uniform, strict=True)
        ],
        plans=choice.plans,
        full={layer.name: layer.full for layer in subject.layers},
        whole_db=subject.decibels(errors.floor),
        samples=(len(fitted), len(subject.measured)),
        seconds={
            "measure": round(measured - begin, 1),
            "costs": round(priced - measured, 1),
            "choose": round(chosen - priced, 1),
            "simulate": round(done - chosen, 1),
        },
    )


def uniform_plans(layers: Sequence[Layer], levels: Sequence[Level]) -> Plans:
    """Plans in which all layers but the first and last ones have the levels' own budgets."""
    return {
        layer.name: tuple(
            layer.full
            if layer.at_edge
            else Level(min(level.alpha, layer.full.alpha), min(level.beta, layer.full.beta))
            for level in levels
        )
        for layer in layers
    }


def _costs_of(report: Report, quantity: str) -> Float64:
    return np.array([getattr(row, quantity) for row in report.levels])


def _costs(costs: CostModel, layers: Sequence[Layer], quantity: str, state: State, step: Step) -> Table:
    """Costs of all options, each program's as soon as it is known."""
    programs = costs.programs()
    array: list[Float64] = []
    for number, names in enumerate(programs):
        step("costs", number, len(programs) + 1)
        key = f"{quantity} {','.join(map(str, names))}"
        array.append(state.get(key, lambda names=names: {"layers": costs.on_array(names, quantity)})["layers"])
    step("costs", len(programs), len(programs) + 1)

    def whole() -> dict[str, npt.NDArray[np.generic]]:
        found = costs.whole(quantity)
        return {"layers": found.layers[:, 0], "rest": found.rest}

    found = state.get(f"{quantity} whole", whole)
    return Table(tabulate(layers, programs, array), found["layers"], float(found["rest"][0]))


def _simulate(
    model: str | Path,
    options: Options,
    subject: Subject,
    names: Sequence[Level],
    plans: Plans,
    rows: list[LevelFound],
    step: Step,
) -> list[LevelFound]:
    """Compile the plans and run them on the samples that were not fitted to."""
    step("compile", 0, 1)
    full = {layer.name: layer.full for layer in subject.layers}
    budgets = {
        name: {"alpha": [level.alpha for level in plan], "beta": [level.beta for level in plan]}
        for name, plan in plans.items()
        if name in full
    }
    chosen = replace(options, levels=names, budgets=budgets, calibration=subject.fitted)
    session = Session(compile_model(model, chosen).program)
    results = []
    for level, (row, cost) in enumerate(zip(rows, session.report.levels, strict=True)):
        step("simulate", level, len(rows))
        outputs = [session.run(None, feed, level=level) for feed in subject.measured]
        error = sum(
            energy([array[number] for array in subject.expected], found) for number, found in enumerate(outputs)
        )
        results.append(
            replace(row, latency_ms=cost.latency_ms, energy_mj=cost.energy_mj, sqnr_db=subject.decibels(error))
        )
    return results


__all__ = ["MAX_ALPHA", "PAPER_LEVELS", "Errors", "Goal", "search_budgets", "uniform_plans"]
