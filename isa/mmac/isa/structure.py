"""The code of a program as a tree of loops and operations, with every register resolved.

Configuration is allowed outside loops only, so what an operation refers to does not depend on the iteration: it is a
`View` of DRAM, a `Ring` of scratchpad slots, a window geometry and a quantization. The verifier, the engines and the
timing model all work on this tree, never on the raw registers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mmac.isa import table
from mmac.isa.errors import VerificationError
from mmac.isa.spec import LEVEL_LOOP, NONE_LOOP, Instr, Queue


@dataclass(frozen=True)
class Step:
    """How one dimension of a box moves: `extent` elements from ``origin + step * index(loop)``."""

    origin: int
    extent: int
    step: int = 0
    loop: int = NONE_LOOP

    def start(self, indices: Sequence[int], level: int) -> int:
        """First coordinate, given the indices of the open loops (outermost first) and the level."""
        if self.loop == NONE_LOOP:
            return self.origin
        return self.origin + self.step * (level if self.loop == LEVEL_LOOP else indices[self.loop])


@dataclass(frozen=True)
class View:
    """A tensor register: DRAM bytes ``base + Σ index·stride``, dimensions (n, h, w, c), and its walk."""

    base: int
    elem: int
    fill: int
    shape: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]
    walk: tuple[Step, Step, Step, Step]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Extents of the box that an access touches, clipped or not."""
        n, h, w, c = self.walk
        return n.extent, h.extent, w.extent, c.extent

    def starts(self, indices: Sequence[int], level: int) -> tuple[int, int, int, int]:
        """First coordinate of the box in each dimension; may be negative."""
        n, h, w, c = self.walk
        return n.start(indices, level), h.start(indices, level), w.start(indices, level), c.start(indices, level)

    def inside(self, indices: Sequence[int], level: int) -> tuple[tuple[int, int], ...]:
        """Per dimension, the half-open range of box coordinates (0 = start of the box) that lie inside the view."""
        ranges = []
        for step, size in zip(self.walk, self.shape, strict=True):
            start = step.start(indices, level)
            low = min(max(0, -start), step.extent)
            ranges.append((low, max(low, min(step.extent, size - start))))
        return tuple(ranges)


@dataclass(frozen=True)
class Ring:
    """A pointer register: scratchpad bytes at ``addr + slot·toggle``."""

    pad: table.Pad
    addr: int
    toggle: int = 0
    mask: int = 0
    phase: int = 0

    def slot(self, indices: Sequence[int]) -> int:
        """0 or 1: phase xor the parity of the lowest bits of the masked loop indices."""
        parity = self.phase
        for depth, index in enumerate(indices):
            parity ^= (self.mask >> depth) & index & 1
        return parity

    def address(self, indices: Sequence[int]) -> int:
        """Byte address in the scratchpad, given the indices of the open loops."""
        return self.addr + self.slot(indices) * self.toggle


@dataclass(frozen=True)
class Op:
    """An instruction that does something, with the registers that its fields name.

    `views` and `rings` are keyed by field name (for `mmac`: views x, y; rings act, wgt, acc).
    """

    pc: int
    instr: Instr
    views: Mapping[str, View]
    rings: Mapping[str, Ring]
    conv: table.Conv | None = None
    quant: table.Quant | None = None


@dataclass(frozen=True)
class Repeat:
    """A hardware loop; its index is number `depth` of the open loops."""

    pc: int
    depth: int
    count: int
    body: tuple[Node, ...]


Node = Op | Repeat


def parse(code: Sequence[Instr]) -> tuple[Node, ...]:
    """Build the tree.

    Raises:
        VerificationError: loops that do not match or nest too deep, configuration, `host` or `halt` inside a loop,
            a register used before it is set, a walk or pointer that names a loop which is not open where it is used,
            code that does not end in its only `halt`.
    """
    return _Parser(code).run()


class _Parser:
    """One pass over the code with the register files as they are at each instruction."""

    def __init__(self, code: Sequence[Instr]) -> None:
        self.code = code
        self.views: dict[int, View] = {}
        self.rings: dict[int, Ring] = {}
        self.conv: table.Conv | None = None
        self.quant: table.Quant | None = None
        self.bodies: list[list[Node]] = [[]]
        self.opened: list[tuple[int, table.Loop]] = []

    def run(self) -> tuple[Node, ...]:
        """Parse everything."""
        for pc, instr in enumerate(self.code):
            self._step(pc, instr)
        if self.opened:
            raise self._bad(self.opened[-1][0], "this loop is never closed", "one end per loop")
        if not self.code or not isinstance(self.code[-1], table.Halt):
            raise self._bad(len(self.code), "the code ends without halt", "halt as the last instruction")
        return tuple(self.bodies[0])

    def _bad(self, pc: int, found: str, allowed: str = "") -> VerificationError:
        name = f" ({self.code[pc].mnemonic})" if pc < len(self.code) else ""
        return VerificationError(f"instruction {pc}{name}", found, allowed)

    def _step(self, pc: int, instr: Instr) -> None:
        if isinstance(instr, table.Loop):
            self._open(pc, instr)
        elif isinstance(instr, table.End):
            self._close(pc)
        elif instr.queue != Queue.SEQUENCER:
            self.bodies[-1].append(self._op(pc, instr))
        elif self.opened:
            raise self._bad(pc, "inside a loop", "configuration, host and halt stand outside loops")
        elif isinstance(instr, table.Host | table.Halt):
            if isinstance(instr, table.Halt) and pc != len(self.code) - 1:
                raise self._bad(pc, "code goes on after it", "halt as the last instruction")
            self.bodies[0].append(Op(pc, instr, {}, {}))
        else:
            self._configure(pc, instr)

    def _open(self, pc: int, loop: table.Loop) -> None:
        if len(self.opened) == table.MAX_LOOPS:
            raise self._bad(pc, f"more than {table.MAX_LOOPS} loops are open", f"at most {table.MAX_LOOPS}")
        if loop.count < 1:
            raise self._bad(pc, "a loop of 0 iterations", "1 or more")
        self.opened.append((pc, loop))
        self.bodies.append([])

    def _close(self, pc: int) -> None:
        if not self.opened:
            raise self._bad(pc, "no loop is open")
        start, loop = self.opened.pop()
        body = tuple(self.bodies.pop())
        self.bodies[-1].append(Repeat(start, len(self.opened), loop.count, body))

    def _configure(self, pc: int, instr: Instr) -> None:
        match instr:
            case table.Tensor():
                self._set_tensor(instr)
            case table.Shape() | table.Stride() | table.Walk():
                if instr.t not in self.views:
                    raise self._bad(pc, f"t{instr.t} is not set", "tensor before shape, stride and walk")
                self.views[instr.t] = self._adjust(pc, self.views[instr.t], instr)
            case table.Pointer():
                ring = Ring(table.Pad(instr.pad), instr.addr, instr.toggle, instr.mask, instr.phase)
                self.rings[instr.p] = ring
            case table.Conv():
                self.conv = instr
            case table.Quant():
                self.quant = instr

    def _set_tensor(self, instr: table.Tensor) -> None:
        one = Step(0, 1)
        self.views[instr.t] = View(instr.base, instr.elem, instr.fill, (1, 1, 1, 1), (0, 0, 0, 0), (one, one, one, one))

    def _adjust(self, pc: int, view: View, instr: table.Shape | table.Stride | table.Walk) -> View:
        if isinstance(instr, table.Shape):
            shape = (instr.n, instr.h, instr.w, instr.c)
            n, h, w, c = (Step(0, size) for size in shape)
            return replace(view, shape=shape, walk=(n, h, w, c))
        if isinstance(instr, table.Stride):
            return replace(view, strides=(instr.n, instr.h, instr.w, instr.c))
        steps = list(view.walk)
        steps[instr.dim] = Step(instr.origin, instr.extent, instr.step, instr.loop)
        loops = [s.loop for s in steps if s.loop != NONE_LOOP]
        if len(set(loops)) != len(loops):
            raise self._bad(pc, f"loop {instr.loop} moves two dimensions of t{instr.t}", "one dimension per loop")
        n, h, w, c = steps
        return replace(view, walk=(n, h, w, c))

    def _op(self, pc: int, instr: Instr) -> Op:
        views, rings = {}, {}
        for name, bits in instr.layout.items():
            number = getattr(instr, name)
            if bits.kind == "tensor":
                views[name] = self._view(pc, number)
            elif bits.kind == "pointer":
                rings[name] = self._ring(pc, number)
            elif bits.kind == "loop":
                self._check_loop(pc, number)
        return Op(pc, instr, views, rings, self.conv, self.quant)

    def _view(self, pc: int, number: int) -> View:
        if number not in self.views:
            raise self._bad(pc, f"t{number} is not set", "tensor, shape and stride before use")
        for step in self.views[number].walk:
            self._check_loop(pc, step.loop)
        return self.views[number]

    def _ring(self, pc: int, number: int) -> Ring:
        if number not in self.rings:
            raise self._bad(pc, f"p{number} is not set", "pointer before use")
        if self.rings[number].mask >> len(self.opened):
            raise self._bad(pc, f"p{number} depends on a loop that is not open here")
        return self.rings[number]

    def _check_loop(self, pc: int, loop: int) -> None:
        if loop not in (NONE_LOOP, LEVEL_LOOP) and loop >= len(self.opened):
            raise self._bad(pc, f"it depends on loop {loop}", f"{len(self.opened)} loops are open here")
