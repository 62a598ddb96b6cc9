"""Which bytes of which scratchpads an instruction reads and writes: one table for all proofs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from mmac.isa import table
from mmac.isa.program import PARAM_DTYPE
from mmac.isa.spec import Instr
from mmac.isa.structure import Op, View
from mmac.isa.table import Pad

TABLE_BYTES = 256
ACC_BYTES = 4


class Content(Enum):
    """What a use reads or writes."""

    BYTES = "bytes"
    TILE = "a weight tile"
    SUMS = "accumulators"
    PARAMS = "channel constants"


@dataclass(frozen=True)
class Use:
    """One operand in a scratchpad.

    Attributes:
        ring: name of the pointer field.
        pads: the scratchpads that it may lie in.
        size: bytes from the slot's address on. A weight tile says itself how long it is: 0.
        writes: it is written, else read.
        content: what is there.
    """

    ring: str
    pads: frozenset[Pad]
    size: Callable[[Op], int]
    writes: bool = False
    content: Content = Content.BYTES


def box_bytes(view: View) -> int:
    """Bytes of a dense box."""
    return math.prod(view.box) * view.elem


def _box(name: str) -> Callable[[Op], int]:
    return lambda op: box_bytes(op.views[name])


def _sums(name: str) -> Callable[[Op], int]:
    return lambda op: ACC_BYTES * math.prod(op.views[name].box)


def _channels(name: str) -> Callable[[Op], int]:
    return lambda op: PARAM_DTYPE.itemsize * op.views[name].box[3]


_OPERANDS = frozenset({Pad.ACT, Pad.AUX})
_ACT, _OUT, _WGT = frozenset({Pad.ACT}), frozenset({Pad.OUT}), frozenset({Pad.WGT})
_PRM, _ACC = frozenset({Pad.PRM}), frozenset({Pad.ACC})
_OUT_OF_BOX = Use("out", _OUT, _box("y"), writes=True)
_BINARY = (Use("pa", _OPERANDS, _box("a")), Use("pb", _OPERANDS, _box("b")), _OUT_OF_BOX)
_POOL = (Use("pa", _OPERANDS, _box("x")), _OUT_OF_BOX)

_LOADED = (Use("p", _OPERANDS | _OUT | _PRM, _box("t"), writes=True),)

USES: dict[type[Instr], tuple[Use, ...]] = {
    table.Load: _LOADED,
    table.LoadParams: _LOADED,
    table.LoadTerms: (Use("p", _WGT, lambda op: 0, writes=True, content=Content.TILE),),
    table.Mmac: (
        Use("act", _ACT, _box("x")),
        Use("wgt", _WGT, lambda op: 0, content=Content.TILE),
        Use("acc", _ACC, _sums("y"), writes=True, content=Content.SUMS),
    ),
    table.Vadd: _BINARY,
    table.Vmul: _BINARY,
    table.Vtable: (Use("pa", _OPERANDS, _box("y")), Use("table", _PRM, lambda op: TABLE_BYTES), _OUT_OF_BOX),
    table.Vmax: _POOL,
    table.Vavg: _POOL,
    table.Store: (Use("p", _OPERANDS | _OUT, _box("t")),),
    table.StoreAcc: (
        Use("acc", _ACC, _sums("t"), content=Content.SUMS),
        Use("prm", _PRM, _channels("t"), content=Content.PARAMS),
    ),
}
"""The uses of every instruction that has any; an instruction reads before it writes."""
