"""Programs for small arrays, and what `cost` says of their `mmac` instructions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from mmac.isa import structure, table
from mmac.isa.plan import Level
from mmac.isa.program import Program
from mmac.isa.spec import Instr
from mmac.runtime.targets import Target
from mmac.runtime.timing.binding import bind_weights
from mmac.runtime.timing.cost import CYCLES
from mmac.runtime.timing.machine import At, Machine
from tests.runtime.definition import Array, Window
from tests.runtime.programs import Builder


def with_fields(program: Program, **fields: int) -> Program:
    """The program with these fields in every `mmac`."""
    code = (dataclasses.replace(i, **fields) if isinstance(i, table.Mmac) else i for i in program.code)
    return dataclasses.replace(program, code=tuple(code))


def with_channels(program: Program, first: int, size: int) -> Program:
    """The program with a box of y that starts at channel `first` of a view of `size` channels."""

    def changed(instr: Instr) -> Instr:
        if isinstance(instr, table.Shape) and instr.t == Y:
            return dataclasses.replace(instr, c=size)
        if isinstance(instr, table.Walk) and (instr.t, instr.dim) == (Y, table.Dim.C):
            return dataclasses.replace(instr, origin=first)
        return instr

    return dataclasses.replace(program, code=tuple(map(changed, program.code)))


Y = 3
"""The tensor register that `Builder` gives the output of an array layer."""


def one_layer(
    weights: Array, size: tuple[int, int, int], levels: Sequence[Level], *, window: Window, groups: int = 1,
    kind: table.TermFormat = table.TermFormat.PLAIN,
) -> Program:  # fmt: skip
    """x → y by one array layer in one tile; weights [channels, kernel_h, kernel_w, ic], size n, h, w of x."""
    builder = Builder(levels)
    n, h, w = size
    x = builder.tensor("x", (n, h, w, weights.shape[3] * groups))
    y = builder.tensor("y", (n, *window.outputs(h, w), len(weights)))
    builder.input("x", "uint8", "x")
    ones = np.ones((1, len(weights)))
    builder.array_layer(x, y, weights, ones, ones / 1000, window=window, groups=groups, kind=kind)
    return builder.build()


def formula(program: Program, target: Target, mac: str, level: int, pc: int, indices: tuple[int, ...]) -> int:
    """Cycles of an `mmac` in an iteration."""
    nodes = structure.parse(program.code)
    grid = tuple(np.array([index]) for index in indices)
    at = At(Machine(program, target, mac), grid, (bind_weights(nodes)[pc].views["t"], grid))
    (op,) = (op for op in _every(nodes) if op.pc == pc)
    return int(np.broadcast_to(CYCLES[table.Mmac](op, at), (len(program.plan.levels),))[level])


def _every(nodes: tuple[structure.Node, ...]) -> list[structure.Op]:
    return [op for node in nodes for op in ([node] if isinstance(node, structure.Op) else _every(node.body))]
