"""The reference engine: what every instruction means, executed one by one, term pair by term pair.

Slow and literal. Scratchpads are byte arrays that loads really fill and that everything else really reads, so a
wrong address, a wrong slot or a wrong stream shows in the result.
"""

from __future__ import annotations

from collections.abc import Set

from mmac.isa.program import Program
from mmac.runtime.engines import Segment

# importing these registers what their instructions do
from mmac.runtime.engines.reference import array as array
from mmac.runtime.engines.reference import move as move
from mmac.runtime.engines.reference import vector as vector
from mmac.runtime.engines.reference.machine import EXECUTES as EXECUTES
from mmac.runtime.engines.reference.machine import Machine
from mmac.runtime.memory import Array, Memory


class ReferenceEngine:
    """Executes instruction by instruction (see `mmac.runtime.engines.Engine`)."""

    machine: Machine

    def __init__(self, program: Program, segments: tuple[Segment, ...], threads: int = 1) -> None:
        del threads  # one instruction at a time
        self.machine = Machine(program)
        self.segments = segments

    def run(self, segment: int, memory: Memory, level: int, keep: Set[str]) -> dict[str, Array]:
        """Execute one segment at one level; returns the kept tensors that it completes."""
        self.machine.start(memory, level)
        kept = {}
        code = self.segments[segment]
        for node, completed in zip(code.nodes, code.completed, strict=True):
            self.machine.execute(node)
            kept.update({name: memory.read(name) for name in completed if name in keep})
        return kept
