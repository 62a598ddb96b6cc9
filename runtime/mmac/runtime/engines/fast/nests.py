"""Cutting a segment into loop nests, and what can be said about each without knowing what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from mmac.isa import table
from mmac.isa.program import PARAM_DTYPE
from mmac.isa.spec import NONE_LOOP, Instr
from mmac.isa.structure import Node, Op, Repeat, Ring, Step, View

_SYNC = (table.SyncLoad, table.SyncWeights, table.SyncCompute, table.SyncStore)
_STORES = (table.Store, table.StoreAcc)

InstrT = TypeVar("InstrT", bound=Instr)


class NotProvedError(Exception):
    """The nest is not (provably) a whole-tensor operation. Internal: it then runs on the reference engine."""


@dataclass(frozen=True)
class Leaf:
    """An operation and the loops around it, outermost first."""

    op: Op
    path: tuple[Repeat, ...]


def leaves(nodes: tuple[Node, ...], path: tuple[Repeat, ...] = ()) -> Iterator[Leaf]:
    """Operations in program order, without those that only synchronise (the verifier has proved their order)."""
    for node in nodes:
        if isinstance(node, Repeat):
            yield from leaves(node.body, (*path, node))
        elif not isinstance(node.instr, _SYNC):
            yield Leaf(node, path)


def cut(nodes: tuple[Node, ...]) -> list[int]:
    """Where to cut top-level nodes into nests: the end of each. A nest is loads and computation, up to its stores."""
    ends = []
    stored = False
    for position, node in enumerate(nodes):
        inside = [leaf.op.instr for leaf in leaves((node,))]
        only_stores = all(isinstance(instr, _STORES) for instr in inside)
        if stored and not only_stores:
            ends.append(position)
            stored = False
        stored = stored or any(isinstance(instr, _STORES) for instr in inside)
    return [*ends, len(nodes)] if nodes else []


@dataclass(frozen=True)
class Nest:
    """The operations of one nest in program order."""

    leaves: tuple[Leaf, ...]

    @cached_property
    def path(self) -> tuple[Repeat, ...]:
        """The chain of loops, outermost first.

        Raises:
            NotProvedError: loops that stand side by side.
        """
        longest = max((leaf.path for leaf in self.leaves), key=len)
        if any(leaf.path != longest[: len(leaf.path)] for leaf in self.leaves):
            raise NotProvedError("loops side by side")
        return longest

    def count(self, loop: int) -> int:
        """Iterations of a loop; 1 for none."""
        return 1 if loop == NONE_LOOP else self.path[loop].count

    def one(self, kind: type[InstrT]) -> tuple[InstrT, Leaf]:
        """The only instruction of a kind."""
        found = [(leaf.op.instr, leaf) for leaf in self.leaves if isinstance(leaf.op.instr, kind)]
        if len(found) != 1:
            raise NotProvedError(f"{len(found)} × {kind.mnemonic or kind.__name__}")
        return found[0]

    def all(self, kind: type[Instr]) -> list[Leaf]:
        """Instructions of a kind."""
        return [leaf for leaf in self.leaves if isinstance(leaf.op.instr, kind)]

    def producer(self, reader: Leaf, field: str) -> Leaf:
        """The operation that fills the slot which `reader` reads by its pointer `field`, in the same iteration.

        That is so if it is the only one that writes to that scratchpad, uses an equal pointer, comes earlier in
        program order, and stands in no loop that `reader` is not in.
        """
        ring = reader.op.rings[field]
        writers = [leaf for leaf in self.leaves if (w := written(leaf.op)) is not None and w.pad == ring.pad]
        if len(writers) != 1 or written(writers[0].op) != ring:
            raise NotProvedError(f"pointer {field} of instruction {reader.op.pc} has no single source")
        (source,) = writers
        if source.op.pc >= reader.op.pc or source.path != reader.path[: len(source.path)]:
            raise NotProvedError(f"pointer {field} of instruction {reader.op.pc} is filled elsewhere")
        return source

    def is_closed(self) -> bool:
        """True if every scratchpad byte that it reads was written by itself before (so it can run by itself)."""
        return all(
            any(
                source.op.pc < reader.op.pc and written(source.op) == ring and _written_bytes(source.op) >= size
                for source in self.leaves
            )
            for reader in self.leaves
            for ring, size in _reads(reader.op)
        )


def written(op: Op) -> Ring | None:
    """The scratchpad slots that an operation writes."""
    match op.instr:
        case table.Load() | table.LoadTerms():
            return op.rings["p"]
        case table.Mmac():
            return op.rings["acc"]
        case table.Store() | table.StoreAcc():
            return None
        case _:
            return op.rings["out"]


def _elements(view: View) -> int:
    n, h, w, c = view.box
    return n * h * w * c


_ANY = 1 << 62
"""Size of a weight tile: its stream says how long it is, and the verifier that it is whole."""


def _written_bytes(op: Op) -> int:
    match op.instr:
        case table.LoadTerms():
            return _ANY
        case table.Load():
            return _elements(op.views["t"]) * op.views["t"].elem
        case table.Mmac():
            return _elements(op.views["y"]) * 4
        case _:
            return _elements(op.views["y"])


def _reads(op: Op) -> Iterator[tuple[Ring, int]]:
    """Slots that an operation reads, and how many bytes of each."""
    rings, views = op.rings, op.views
    match op.instr:
        case table.Mmac():
            yield rings["act"], _elements(views["x"])
            yield rings["wgt"], _ANY
        case table.StoreAcc():
            yield rings["acc"], _elements(views["t"]) * 4
            yield rings["prm"], views["t"].walk[3].extent * PARAM_DTYPE.itemsize
        case table.Store():
            yield rings["p"], _elements(views["t"]) * views["t"].elem
        case table.Vtable():
            yield rings["pa"], _elements(views["y"])
            yield rings["table"], 256
        case table.Vadd() | table.Vmul():
            yield rings["pa"], _elements(views["a"])
            yield rings["pb"], _elements(views["b"])
        case table.Vmax() | table.Vavg():
            yield rings["pa"], _elements(views["x"])


def moves(x: Step, y: Step, scale: int = 1) -> int:
    """In every iteration x starts at `scale` times the start of y, plus the number returned."""
    if x.loop != y.loop or x.step != y.step * scale:
        raise NotProvedError(f"steps {x} and {y} differ")
    return x.origin - y.origin * scale


def covers(nest: Nest, leaf: Leaf, view: View) -> None:
    """Check that the boxes of a store touch every element of its view once: consecutive tiles, from 0 or before."""
    used = set()
    for step, size in zip(view.walk, view.shape, strict=True):
        tiled = step.loop == NONE_LOOP or (step.step == step.extent and step.loop < len(leaf.path))
        if step.origin > 0 or not tiled or step.origin + nest.count(step.loop) * step.extent < size:
            raise NotProvedError(f"{step} does not tile {size} elements")
        used.add(step.loop)
    if any(loop not in used for loop in range(len(leaf.path))):
        raise NotProvedError("a loop that does not move the result")
