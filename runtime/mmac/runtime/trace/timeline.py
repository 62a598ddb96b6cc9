"""Numbers that change over time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Timeline:
    """A sum of amounts, each of which counts for some cycles only."""

    changes: dict[int, float] = field(default_factory=dict)

    def add(self, start: int, end: int, amount: float) -> None:
        """Count `amount` from cycle `start` to cycle `end`."""
        self.changes[start] = self.changes.get(start, 0) + amount
        self.changes[end] = self.changes.get(end, 0) - amount

    def steps(self) -> list[tuple[int, float]]:
        """Cycles from which on the sum has another value, and the value (to 6 decimals), beginning with cycle 0."""
        changes = {0: 0.0} | {time: change for time, change in sorted(self.changes.items()) if not time or change}
        sums = np.cumsum(list(changes.values())).round(6) + 0.0  # no negative zero
        return list(zip(changes, sums.tolist(), strict=True))
