"""State of the modelled machine, and the registry of what each instruction does to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mmac.isa.plan import Level
from mmac.isa.program import Program
from mmac.isa.spec import LEVEL_LOOP, NONE_LOOP, Instr
from mmac.isa.structure import Node, Op, Repeat, Ring, View
from mmac.isa.table import Pad
from mmac.runtime.memory import Array, Bytes, Memory

POISON = 0xA5
"""What scratchpads hold before anything is loaded: reading it by mistake must show."""

Execute = Callable[["Machine", Op], None]

EXECUTES: dict[type[Instr], Execute] = {}
"""The action of every instruction that goes to a queue."""

F = TypeVar("F", bound=Execute)


def executes(*instructions: type[Instr]) -> Callable[[F], F]:
    """Register a function as the action of instructions."""

    def register(function: F) -> F:
        EXECUTES.update(dict.fromkeys(instructions, function))
        return function

    return register


class Machine:
    """Scratchpads, loop indices, and the DRAM and level of the run at hand."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.pads: dict[Pad, Bytes] = {
            pad: np.full(program.scratchpads.get(pad.name.lower(), 0), POISON, np.uint8) for pad in Pad
        }
        self.indices: list[int] = []
        self.memory: Memory
        self.level: int

    def start(self, memory: Memory, level: int) -> None:
        """Begin to execute on `memory` at level number `level`."""
        self.memory, self.level = memory, level
        self.indices.clear()

    def execute(self, node: Node) -> None:
        """Execute a node of the program's tree, instruction by instruction in program order."""
        if isinstance(node, Op):
            EXECUTES[type(node.instr)](self, node)
            return
        self._repeat(node)

    def _repeat(self, node: Repeat) -> None:
        self.indices.append(0)
        for index in range(node.count):
            self.indices[-1] = index
            for child in node.body:
                self.execute(child)
        self.indices.pop()

    def index(self, loop: int) -> int:
        """Index of the open loop of that depth, or the level; 0 if none is named."""
        if loop == NONE_LOOP:
            return 0
        return self.level if loop == LEVEL_LOOP else self.indices[loop]

    def pad(self, ring: Ring, shape: tuple[int, ...], dtype: npt.DTypeLike = np.uint8) -> Array:
        """Window of a scratchpad: an array of `shape` that starts at the current slot of `ring`."""
        return np.ndarray(shape, dtype, self.pads[ring.pad], ring.address(self.indices))

    def inside(self, view: View) -> tuple[slice, ...]:
        """Per dimension, the part of the current box that lies inside the view, in box coordinates."""
        return tuple(slice(low, high) for low, high in view.inside(self.indices, self.level))

    def window(self, view: View) -> Bytes:
        """DRAM under the part of the current box that lies inside the view."""
        part = self.inside(view)
        start = [s + p.start for s, p in zip(view.starts(self.indices, self.level), part, strict=True)]
        return self.memory.box(view, start, [p.stop - p.start for p in part])

    def fetch(self, view: View) -> Bytes:
        """The current box as a dense array [n, h, w, c(, elem)], the fill byte outside the view."""
        box = np.full(dense(view), view.fill, np.uint8)
        box[self.inside(view)] = self.window(view)
        return box

    def budgets(self, layer: int) -> tuple[Level, ...]:
        """The plan of an array layer, from the lowest level up to the current one."""
        return self.program.plan.layers[layer].levels[: self.level + 1]


def dense(view: View) -> tuple[int, ...]:
    """Shape of a box of `view` in a scratchpad: [n, h, w, c], and [elem] if elements have several bytes."""
    return view.box if view.elem == 1 else (*view.box, view.elem)
