"""`compare`: a program beside its model, layer by layer and level by level."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmac.compiler.comparison.result import Comparison, LayerErrors, LevelErrors, OutputErrors, judge
from mmac.compiler.comparison.stages import stages
from mmac.compiler.comparison.steps import Step, plan_steps
from mmac.compiler.comparison.walk import Feed, LevelWalk, Row
from mmac.compiler.graph.calibrate import batches
from mmac.compiler.pipeline import Progress
from mmac.isa.program import Program

SAMPLES = 16
"""Samples that are compared by default."""

_MEMORY_BYTES = 1 << 28
"""What the tensors of several samples may take; one sample may take more."""

_BYTES_PER_VALUE = 64
"""Of the largest tensor: its variants, as integers and as reals, and its operands."""


def compare(
    model: str | Path,
    program: Program,
    data: Mapping[str, npt.NDArray[np.generic]],
    levels: Sequence[int] | None = None,
    samples: int = SAMPLES,
    progress: Progress | None = None,
) -> Comparison:
    """Run a program and its model side by side, and tell where they part.

    Memory does not grow with the number of layers, levels and samples: live tensors are kept, and weights at one level.

    Args:
        model: the ONNX file, float or with QuantizeLinear nodes.
        program: compiled from it, and verified.
        data: for each model input an array [n, ...] of n samples.
        levels: positions of levels in the plan; None for all.
        samples: so many of the data are used at most.
        progress: called with what is being compared, its number and how many there are.

    Raises:
        MalformedError: a program of another model, or data of the wrong name, shape or type.
        MmacError: whatever `compile_model` finds wrong with the model.
    """
    made = stages(model, program)
    steps = plan_steps(made.full, made.reference, program)
    feeds = list(itertools.islice(batches(made.original, data, "data"), samples))
    chosen = range(len(program.plan.levels)) if levels is None else levels
    groups = list(_groups(steps, feeds))
    counter, total = itertools.count(), len(chosen) * len(groups) * len(steps)

    def of_level(number: int) -> LevelErrors:
        walk = LevelWalk(made, program, steps, number, _MEMORY_BYTES)
        name = str(program.plan.levels[number])
        for group in groups:
            walk.add(group, lambda step: progress(f"{name} {step.layer}", next(counter), total) if progress else None)
        return _level_errors(program, number, steps, walk.rows)

    found = tuple(of_level(number) for number in chosen)
    return Comparison(made.original.graph.name or program.name, len(feeds), found)


def _groups(steps: Sequence[Step], feeds: Sequence[Feed]) -> Iterator[list[Feed]]:
    """Samples that are run together."""
    tensors = sum(step.size_bytes for step in steps)
    largest = max((step.size_bytes for step in steps), default=0)
    size = max(1, _MEMORY_BYTES // max(1, tensors + _BYTES_PER_VALUE * largest))
    for first in range(0, len(feeds), size):
        yield list(feeds[first : first + size])


def _level_errors(program: Program, number: int, steps: Sequence[Step], rows: Sequence[Row]) -> LevelErrors:
    both = list(zip(steps, rows, strict=True))
    return LevelErrors(
        program.plan.levels[number],
        tuple(OutputErrors(step.tensor, row.accumulated.errors()) for step, row in both if step.is_output),
        tuple(_layer_errors(step, row) for step, row in both if not step.is_output),
    )


def _layer_errors(step: Step, row: Row) -> LayerErrors:
    accumulated, local = row.accumulated.errors(), row.local.errors()
    uncorrected = row.uncorrected_noise if step.is_layer else None
    finding = judge(accumulated, local, uncorrected, row.wrong, row.values)
    return LayerErrors(
        step.layer, step.op, step.tensor, step.reference, accumulated, local, row.wrong, row.values, finding
    )
