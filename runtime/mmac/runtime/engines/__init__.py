"""What an engine is, and which there are.

A program alternates between device code and host segments: ``device, host, device, …, host, device``. The session
runs the host segments; an engine runs the stretches of device code, each a `Segment`.
"""

from __future__ import annotations

import bisect
import importlib
from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mmac.isa import table
from mmac.isa.errors import UsageError
from mmac.isa.program import Program
from mmac.isa.structure import Node, Op
from mmac.runtime.memory import Array, Memory

if TYPE_CHECKING:
    from mmac.runtime.targets import Target


@dataclass(frozen=True)
class Segment:
    """Device code between two host segments.

    `nodes` are top-level nodes of the program's tree (without `host` and `halt`). `completed[i]` names the tensors
    that lie complete in DRAM once ``nodes[i]`` has been executed (from the program's debug entries; their bytes may
    be reused by later nodes). `host` is the host segment to run afterwards, None at the program's end.
    """

    nodes: tuple[Node, ...]
    completed: tuple[tuple[str, ...], ...]
    host: int | None


class Engine(Protocol):
    """Executes the device code of one program. Made once per program; holds no state between runs but caches."""

    def __init__(self, program: Program, segments: tuple[Segment, ...], threads: int) -> None:
        """`program` has been verified; `segments` is `split` of it; use at most `threads` threads."""

    def run(self, segment: int, memory: Memory, level: int, keep: Set[str]) -> dict[str, Array]:
        """Execute segment number `segment` at level number `level`.

        On entry `memory` holds the image, the inputs, and whatever earlier segments and the host have left. On return
        every DRAM byte that a later segment, a host segment or a model output reads has the value that executing
        instruction by instruction would have given it; other activation bytes are unspecified.

        Returns:
            The tensors of `keep` that this segment completes (`Segment.completed`), as arrays that later runs do not
            change, in ONNX's shape and dtype. Asking for tensors changes no result.
        """


ENGINES = {
    "cell": ("mmac.runtime.engines.cell", "CellEngine"),
    "fast": ("mmac.runtime.engines.fast", "FastEngine"),
    "reference": ("mmac.runtime.engines.reference", "ReferenceEngine"),
}
"""Module and class of each engine; imported when it is first asked for."""


def create(
    name: str,
    program: Program,
    segments: tuple[Segment, ...],
    threads: int = 1,
    target: Target | str | None = None,
    mac: str | None = None,
) -> Engine:
    """Make the engine called `name` for a program; `target` and `mac` say what the engine ``cell`` steps.

    Raises:
        UsageError: there is no such engine, target or cell.
    """
    if name not in ENGINES:
        raise UsageError(f"engine {name!r}", "no such engine", ", ".join(sorted(ENGINES)))
    module, cls = ENGINES[name]
    # only `cell` is about particular hardware
    hardware: dict[str, Any] = {"target": target, "mac": mac} if name == "cell" else {}
    engine: Engine = getattr(importlib.import_module(module), cls)(program, segments, threads, **hardware)
    return engine


def split(program: Program, nodes: tuple[Node, ...]) -> tuple[Segment, ...]:
    """Cut the tree of a verified program (`structure.parse(program.code)`) at its host segments."""
    completed = _completed(program, nodes)
    segments = []
    begin = 0
    for position, node in enumerate(nodes):
        if isinstance(node, Op) and isinstance(node.instr, table.Host | table.Halt):
            host = node.instr.segment if isinstance(node.instr, table.Host) else None
            segments.append(Segment(nodes[begin:position], tuple(completed[begin:position]), host))
            begin = position + 1
    return tuple(segments)


def _completed(program: Program, nodes: tuple[Node, ...]) -> list[tuple[str, ...]]:
    """Per top-level node, the outputs of the debug entries whose last instruction belongs to it."""
    names: list[tuple[str, ...]] = [()] * len(nodes)
    starts = [node.pc for node in nodes]
    for entry in program.debug:
        if (last := bisect.bisect_left(starts, entry.stop) - 1) >= 0:
            names[last] += entry.outputs
    return names
