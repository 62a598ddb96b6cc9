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
        Positions of the chosen options, whose value is the least but for 0.2 %; None if none keeps the limits.
    """
    if (np.sum([weight.min(axis=0) for weight in weights], axis=0) > limits).any():
        return None
    counts = [len(value) for value in values]
    scale = np.where(limits > 0, limits, 1.0)
    columns = np.concatenate([weight / scale for weight in weights])
    solver = _Quiet()  # type: ignore[no-untyped-call]
    solver.silent()
    for option, value in {"mip_rel_gap": _GAP, "mip_max_nodes": _NODES, "threads": 1}.items():
        solver.setOptionValue(option, value)
    solver.passModel(_program(np.concatenate(values), columns, limits / scale, counts))
    solver.run()
    if solver.getInfo().primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return None
    parts = np.split(np.array(solver.getSolution().col_value), np.cumsum(counts)[:-1])
    return [int(part.argmax()) for part in parts]


def _program(values: Float64, columns: Float64, limits: Float64, counts: Sequence[int]) -> highspy.HighsLp:
    """One variable per option, 0 or 1; a row per item, whose options add up to 1, and one per limit."""
    items, count = len(counts), len(limits)
    program = highspy.HighsLp()
    program.num_col_, program.num_row_ = len(values), items + count
    program.col_cost_ = values / max(float(values.max()), 1e-300)
    program.col_lower_, program.col_upper_ = np.zeros(len(values)), np.ones(len(values))
    program.row_lower_ = np.concatenate([np.ones(items), np.full(count, -highspy.kHighsInf)])
    program.row_upper_ = np.concatenate([np.ones(items), limits])
    program.integrality_ = [highspy.HighsVarType.kInteger] * len(values)
    matrix = program.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kColwise
    matrix.start_ = np.arange(len(values) + 1) * (1 + count)
    own = np.repeat(np.arange(items), counts)[:, None]
    matrix.index_ = np.hstack([own, np.tile(items + np.arange(count), (len(values), 1))]).ravel()
    matrix.value_ = np.hstack([np.ones(own.shape), columns]).ravel()
    return program
