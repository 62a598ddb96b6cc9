"""The multiple-choice knapsack with several limits: one choice per item, the least value, each limit kept.

HiGHS (highspy) solves it by branch and bound. What is searched is bounded by nodes, not by time, so that the same
numbers give the same choices on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import highspy
import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

_GAP = 2e-3
"""How far the value may be from the least one, as a share of it."""
_NODES = 200
"""Nodes of the search tree, at most; in practice the gap closes first, or hardly closes any more."""
_SMALL = 1e-3
"""HiGHS takes 1e-6 of the largest value for nothing: sums below this share of it are solved for again, without options
that alone are worse."""


class _Quiet(highspy.Highs):
    """HiGHS without its greeting on standard output, which version 1.16 prints in the constructor, from here."""

    def enableCallbacks(self) -> None:  # noqa: N802 - name of highspy
        self.silent()
        super().enableCallbacks()  # type: ignore[no-untyped-call]


def solve(values: Sequence[Float64], weights: Sequence[Float64], limits: Float64) -> list[int] | None:
    """Choose one of every item's options.

    Args:
        values: [options] of each item.
        weights: [options, limits] of each item, none negative.
        limits: on the sums of weights.

    Returns:
        Positions of the chosen options, whose value is the least but for 0.2 % (or what so many nodes gave); None if
        none keeps the limits.
    """
    if (np.sum([weight.min(axis=0) for weight in weights], axis=0) > limits).any():
        return None
    scale = np.where(limits > 0, limits, 1.0)
    columns = [weight / scale for weight in weights]
    picked: list[int] | None = None
    most = max(float(value.max()) for value in values)
    while True:
        found = _run(_program(values, columns, limits / scale, most), [len(value) for value in values])
        if found is None:
            return picked
        total = float(sum(value[option] for value, option in zip(values, found, strict=True)))
        if picked is not None and total >= most:
            return picked
        picked = found
        if not 0 < total < _SMALL * most:
            return picked
        most = total


def _run(program: highspy.HighsLp, counts: Sequence[int]) -> list[int] | None:
    """The chosen option of every item, of which there are `counts`."""
    solver = _Quiet()  # type: ignore[no-untyped-call]
    solver.silent()
    for option, value in {"mip_rel_gap": _GAP, "mip_max_nodes": _NODES, "threads": 1}.items():
        solver.setOptionValue(option, value)
    solver.passModel(program)
    if solver.run() == highspy.HighsStatus.kError:  # whoever used HiGHS in this process before had other threads
        solver.resetGlobalScheduler(True)
        solver.run()
    if solver.getInfo().primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return None
    parts = np.split(np.array(solver.getSolution().col_value), np.cumsum(counts)[:-1])
    return [int(part.argmax()) for part in parts]


def _program(values: Sequence[Float64], columns: Sequence[Float64], limits: Float64, most: float) -> highspy.HighsLp:
    """One variable per option, 0 or 1; a row per item, whose options add up to 1, and one per limit.

    Options of which the value is above `most` are 0.
    """
    counts, count = [len(value) for value in values], len(limits)
    cost, weights = np.concatenate(values) / max(most, 1e-300), np.concatenate(columns)
    program = highspy.HighsLp()
    program.num_col_, program.num_row_ = len(cost), len(counts) + count
    program.col_cost_ = np.minimum(cost, 1)
    program.col_lower_, program.col_upper_ = np.zeros(len(cost)), (cost <= 1).astype(float)
    program.row_lower_ = np.concatenate([np.ones(len(counts)), np.full(count, -highspy.kHighsInf)])
    program.row_upper_ = np.concatenate([np.ones(len(counts)), limits])
    program.integrality_ = [highspy.HighsVarType.kInteger] * len(cost)
    matrix = program.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kColwise
    matrix.start_ = np.arange(len(cost) + 1) * (1 + count)
    own = np.repeat(np.arange(len(counts)), counts)[:, None]
    matrix.index_ = np.hstack([own, np.tile(len(counts) + np.arange(count), (len(cost), 1))]).ravel()
    matrix.value_ = np.hstack([np.ones(own.shape), weights]).ravel()
    return program
