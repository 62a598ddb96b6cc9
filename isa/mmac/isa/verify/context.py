"""What all proofs share: the program as a tree, its instructions with their loops, error texts, and a work limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mmac.isa.errors import ResourceError, VerificationError
from mmac.isa.program import Program
from mmac.isa.spec import LEVEL_LOOP, NONE_LOOP
from mmac.isa.structure import Node, Op, Step, parse

DIMS = "nhwc"
"""Names of the dimensions of a view."""

MAX_WORK = 1 << 33
"""Bytes that the proofs may look at in total: some seconds. Honest programs need about their DRAM traffic once."""


@dataclass(frozen=True)
class Site:
    """An instruction where it stands.

    Attributes:
        op: the instruction with its registers.
        loops: positions of the loops around it, the outermost first.
        counts: their iterations.
        node: number of the top-level node of the tree that it belongs to.
    """

    op: Op
    loops: tuple[int, ...]
    counts: tuple[int, ...]
    node: int

    @property
    def pc(self) -> int:
        """Position in the code."""
        return self.op.pc

    def encloses(self, other: Site) -> bool:
        """True if all loops around this instruction are around `other` too."""
        return other.loops[: len(self.loops)] == self.loops


class Context:
    """A program under verification."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: tuple[Node, ...] = parse(program.code)
        self.sites = tuple(site for number, node in enumerate(self.nodes) for site in _sites(node, (), (), number))
        self.levels = len(program.plan.levels)
        self._work = 0

    def where(self, pc: int) -> str:
        """How errors call an instruction: its position, mnemonic and ONNX node."""
        nodes = [entry.node for entry in self.program.debug if entry.start <= pc < entry.stop]
        origin = f" of node {nodes[0]!r}" if nodes else ""
        return f"instruction {pc} ({self.program.code[pc].mnemonic}){origin}"

    def error(self, pc: int, found: str, allowed: str = "", hint: str = "") -> VerificationError:
        """The error about an instruction."""
        return VerificationError(self.where(pc), found, allowed, hint)

    def iterations(self, step: Step, counts: Sequence[int]) -> int:
        """Number of positions that one dimension of a walk takes inside loops of `counts` iterations."""
        if step.loop == NONE_LOOP:
            return 1
        return self.levels if step.loop == LEVEL_LOOP else counts[step.loop]

    def spend(self, work: int, pc: int) -> None:
        """Account for `work` bytes that a proof is about to look at because of instruction `pc`."""
        self._work += work
        if self._work > MAX_WORK:
            raise ResourceError(self.where(pc), "the proofs up to here take too much work", f"{MAX_WORK} steps")


def _sites(node: Node, loops: tuple[int, ...], counts: tuple[int, ...], number: int) -> Iterator[Site]:
    if isinstance(node, Op):
        yield Site(node, loops, counts, number)
        return
    for child in node.body:
        yield from _sites(child, (*loops, node.pc), (*counts, node.count), number)
