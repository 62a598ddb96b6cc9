"""Which `load.terms` fetched the weights that an `mmac` reads."""

from __future__ import annotations

from mmac.isa import table
from mmac.isa.errors import UnsupportedError
from mmac.isa.structure import Node, Op
from mmac.runtime.timing.runs import Path, operations


def bind_weights(nodes: tuple[Node, ...]) -> dict[int, Op]:
    """Map the pc of each `mmac` to the `load.terms` that wrote the slot it reads, in the same iteration of all loops.

    Raises:
        UnsupportedError: an `mmac` whose weights come from another iteration, so that no single `load.terms` of the
            same iteration can be named.
    """
    bound: dict[int, Op] = {}
    loads: list[tuple[Op, Path]] = []
    found = list(operations(nodes))
    for op, path in found:
        if isinstance(op.instr, table.LoadTerms):
            loads.append((op, path))
        elif isinstance(op.instr, table.Mmac):
            bound[op.pc] = _source(op, path, loads)
    _check_overwrites(bound, found)
    return bound


def _source(op: Op, path: Path, loads: list[tuple[Op, Path]]) -> Op:
    for load, around in reversed(loads):
        if _same_slots(load, op):
            if load.rings["p"] == op.rings["wgt"] and around == path[: len(around)]:
                return load
            break
    raise _unbound(op)


def _check_overwrites(bound: dict[int, Op], found: list[tuple[Op, Path]]) -> None:
    """Refuse a later load into the same slots in a loop that repeats the `mmac` but not its own load."""
    paths = {op.pc: path for op, path in found}
    loads = [op for op, _ in found if isinstance(op.instr, table.LoadTerms)]
    for op, path in found:
        if op.pc not in bound:
            continue
        source = bound[op.pc]
        inner = path[: len(paths[source.pc]) + 1]
        if len(inner) == len(paths[source.pc]):
            continue
        for load in loads:
            if load.pc > source.pc and paths[load.pc][: len(inner)] == inner and _same_slots(load, op):
                raise _unbound(op)


def _same_slots(load: Op, op: Op) -> bool:
    a, b = load.rings["p"], op.rings["wgt"]
    return a.pad == b.pad and not {a.addr, a.addr + a.toggle}.isdisjoint({b.addr, b.addr + b.toggle})


def _unbound(op: Op) -> UnsupportedError:
    return UnsupportedError(
        f"instruction {op.pc} (mmac)",
        "its weights are not loaded in the same iteration of the loops around it",
        "a load.terms before it through the same pointer, in the same loop or one further out",
    )
