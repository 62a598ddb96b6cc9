"""Which layer an instruction belongs to, and when layers are at work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmac.isa.program import Program
from mmac.runtime.report import BETWEEN
from mmac.runtime.timing.events import Event

NAME_CHARS = 80
"""Longer names of layers are shortened in the middle where they are labels."""


@dataclass(eq=False)
class Layer:
    """Code that one ONNX node gave rise to, or none (an empty name); `first` and `last` are the cycles of its work."""

    name: str = ""
    op: str = ""
    macs: int = 0
    first: int = -1
    last: int = -1

    @property
    def label(self) -> str:
        """A name to show."""
        half = NAME_CHARS // 2
        short = self.name if len(self.name) <= NAME_CHARS else f"{self.name[: half - 1]}…{self.name[-half:]}"
        return short or BETWEEN

    @property
    def about(self) -> dict[str, Any]:
        """Arguments of its slices."""
        return {"layer": self.name, "operation": self.op, "macs": self.macs}

    def works(self, event: Event) -> None:
        """One of its instructions is executed."""
        self.first = event.start if self.first < 0 else min(self.first, event.start)
        self.last = max(self.last, event.end)


def layers_of(program: Program) -> list[Layer]:
    """The layer of each instruction; neighbours that belong to one node, or to none, have the same object."""
    found: list[Layer] = []
    layer, current = Layer(), None
    for entry in program.entries:
        if entry != current:
            layer, current = Layer(entry.node, entry.op, entry.macs) if entry else Layer(), entry
        found.append(layer)
    return found
