"""`evaluate`: a metric on a dataset at each level, beside what the level costs."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmac.compiler.evaluation.dataset import Dataset
from mmac.compiler.evaluation.metrics import PREDICTED, Collected, Metric, classification
from mmac.compiler.evaluation.runner import Runner, batch_of, run_all
from mmac.isa.errors import UsageError
from mmac.isa.program import Program
from mmac.runtime.report import estimate
from mmac.runtime.targets import Target

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many samples are done, and how many there are."""


@dataclass(frozen=True)
class LevelResult:
    """A level: its metrics by name (accuracies in 0…1), and what one run of a batch costs, host segments left out.

    `agreement` is the share of the samples for which the original model has the same class first; None without it.
    """

    level: str
    alpha: int
    beta: int
    gamma: int
    latency_ms: float
    energy_mj: float
    metrics: dict[str, float]
    agreement: float | None


@dataclass(frozen=True)
class Evaluation:
    """What was measured on how many samples; `original` are the metrics of the model in onnxruntime, if it ran.

    `batch` is the number of samples that one run takes.
    """

    model: str
    target: str
    samples: int
    batch: int
    levels: list[LevelResult]
    original: dict[str, float] | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return dataclasses.asdict(self)


def evaluate(
    program: Program,
    dataset: Dataset,
    metric: Metric | None = None,
    levels: Sequence[int] | None = None,
    original: str | os.PathLike[str] | None = None,
    *,
    samples: int | None = None,
    jobs: int = 1,
    target: Target | str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a program on a labelled dataset.

    Args:
        program: a verified program.
        dataset: samples and labels (`read_dataset`).
        metric: what to measure; default: top-1 and top-5 accuracy (`classification`).
        levels: positions of the levels to measure; default: all.
        original: ONNX file of the model that the program was compiled from, to be measured in onnxruntime as well.
        samples: take only so many, at equal distances from the first to the last; default: all.
        jobs: processes to work in; each holds the program. In a script, call it below ``if __name__ == "__main__"``.
        target: the hardware that latency and energy are about; default: what the program was compiled for.
        progress: is told how far it is.

    Raises:
        UsageError: levels, numbers or a program that do not fit.
        MalformedError: samples that cannot be read; an original that is no model, or another one.
        ResourceError: not enough memory.
        MmacError: a metric that fails.
    """
    begin = time.perf_counter()
    costs = estimate(program, target, levels)
    chosen = tuple(range(len(program.plan.levels)) if levels is None else levels)
    data = dataset if samples is None else _spread(dataset, samples)
    metric = metric or classification(program.outputs, data.labels)
    model = None if original is None else os.fspath(original)
    runner = Runner(program, chosen, metric.outputs, metric.collect, model)
    runner.check()
    kept = _collect(runner, data, jobs, progress)
    found = [metric.summarize(each, data.labels) for each in kept]
    reference = kept[-1] if model is not None else {}
    results = [
        LevelResult(
            *(cost.level, cost.alpha, cost.beta, cost.gamma, cost.latency_ms, cost.energy_mj),
            metrics=metrics,
            agreement=float((each[PREDICTED] == reference[PREDICTED]).mean()) if PREDICTED in reference else None,
        )
        for cost, metrics, each in zip(costs.levels, found, kept, strict=False)  # the original is one more
    ]
    return Evaluation(
        program.name,
        costs.target,
        len(data.labels),
        batch_of(program),
        results,
        found[-1] if model is not None else None,
        round(time.perf_counter() - begin, 3),
    )


def _spread(dataset: Dataset, samples: int) -> Dataset:
    """Some of the samples, at equal distances."""
    count = len(dataset.labels)
    if not 1 <= samples <= count:
        raise UsageError("samples", f"{samples}", f"1…{count}, as many as the dataset has")
    return dataset.take(np.linspace(0, count - 1, samples).round().astype(np.intp))


def _collect(runner: Runner, data: Dataset, jobs: int, progress: Progress | None) -> list[Collected]:
    """What the metric keeps of all samples: at each level, and of the original."""
    count = len(data.labels)
    parts: list[list[Collected]] = []
    if progress is not None:
        progress("sample 1", 0, count)
    for done, part in run_all(runner, data, jobs):
        parts.append(part)
        if progress is not None:
            progress(f"sample {done}", done, count)
    return [{key: np.concatenate([kept[key] for kept in row]) for key in row[0]} for row in zip(*parts, strict=True)]
