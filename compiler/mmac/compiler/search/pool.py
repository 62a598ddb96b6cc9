"""Plans of single layers whose costs programs have told, and the best plans that can be put together from them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmac.compiler.search import knapsack
from mmac.compiler.search.costs import Costs

Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Pool:
    """For each layer its options at all levels as they were in some program, and what they cost in the last one.

    A layer has one format and one shape of tiles at all levels, so what it costs at one level depends on its budgets
    at the others; on other layers it hardly depends. That is why whole columns are kept.

    Args:
        layers: how many there are.
    """

    def __init__(self, layers: int) -> None:
        self._columns: list[dict[tuple[int, ...], Float64]] = [{} for _ in range(layers)]

    def add(self, chosen: Ints, costs: Costs) -> None:
        """Options [levels, layers] of a program, and its costs."""
        for columns, options, cost in zip(self._columns, chosen.T, costs.layers, strict=True):
            columns[tuple(options.tolist())] = cost

    def least_errors(self, errors: Float64, shares: Float64, limits: Float64) -> Ints | None:
        """[levels, layers] options of the least weighted sum of errors, under limits on the layers' costs.

        Args:
            errors: [levels, layers, options].
            shares: [levels] by which a level's errors count.
            limits: [levels] on costs.

        Returns:
            None if the limits cannot be kept.
        """
        return self._pick([each @ shares for each in self._of(errors)], self._costs(), limits)

    def least_costs(self, errors: Float64, shares: Float64, limits: Float64) -> Ints | None:
        """The same for the least weighted sum of costs, under limits on errors."""
        return self._pick([each @ shares for each in self._costs()], self._of(errors), limits)

    def _pick(self, values: list[Float64], weights: list[Float64], limits: Float64) -> Ints | None:
        picked = knapsack.solve(values, weights, limits)
        if picked is None:
            return None
        options = [list(columns)[number] for columns, number in zip(self._columns, picked, strict=True)]
        return np.array(options, np.int64).T

    def _costs(self) -> list[Float64]:
        """[columns, levels] of each layer."""
        return [np.stack(list(columns.values())) for columns in self._columns]

    def _of(self, errors: Float64) -> list[Float64]:
        """[columns, levels] of each layer."""
        levels = np.arange(len(errors))
        return [errors[levels, layer, np.array(list(columns))] for layer, columns in enumerate(self._columns)]
