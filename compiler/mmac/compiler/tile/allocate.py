"""Pass `allocate`: give every buffer its place in the address space.

Needs: all buffers known (`pack`), and which are on chip (`tile`). Guarantees: every buffer has a `base`; constants
come first, those that stay on chip last of them, then the activations on chip, then the others, and two activation
buffers overlap only if no operation needs
both, or one is computed from the other element by element and takes its place. Largest buffers are placed first, each
at the lowest address that is free during its life. Before/after::

    buffer "conv1.y" size=802816    ->    buffer "conv1.y" size=802816 base=0x2c0000
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from mmac.compiler.passes import Pass
from mmac.compiler.tile.ir import (
    ArrayLayer,
    Buffer,
    HostCall,
    Repeat,
    Statement,
    TileProgram,
    VectorOp,
    buffers_touched,
)
from mmac.isa.errors import ResourceError
from mmac.isa.table import LoadTerms
from mmac.runtime.targets import Target

ALIGNMENT = 64
"""Bytes; one DDR3 burst of a 64-bit module (8 beats)."""


@dataclass(frozen=True)
class Allocate(Pass[TileProgram, TileProgram]):
    """See the module's docstring."""

    name: ClassVar[str] = "allocate"
    target: Target

    def apply(self, module: TileProgram) -> TileProgram:
        """Fill in every buffer's `base`."""
        plan = Placement.of(module)
        moving = [b for b in module.buffers if not b.constant]
        first = plan.place([b for b in moving if b.on_chip], 0)
        inside = _align(max((first[b.name] + b.size_bytes for b in moving if b.on_chip), default=0))
        kept = resident_constants(module, self.target.buffer.size_bytes - inside)
        bases, start, image = _constants(module.buffers, kept)
        bases |= {name: image + base for name, base in first.items()}
        end = image + inside
        bases |= plan.place([b for b in moving if not b.on_chip], end)
        buffers = tuple(replace(b, base=bases[b.name]) for b in module.buffers)
        used = max((bases[b.name] + b.size_bytes for b in buffers), default=0)
        if used > self.target.dram.capacity_bytes:
            raise ResourceError(
                module.name,
                f"it needs {used} bytes of DRAM",
                f"{self.target.name} has {self.target.dram.capacity_bytes}",
                "use a smaller model or batch, or a target with more memory",
            )
        return replace(module, buffers=buffers, on_chip=(start, end - start))


def _constants(buffers: tuple[Buffer, ...], kept: set[str]) -> tuple[dict[str, int], int, int]:
    """Addresses of all constants; where those that stay on chip begin, and where all end."""
    bases: dict[str, int] = {}
    end = start = 0
    for on_chip in (False, True):
        start = end
        for buffer in buffers:
            if buffer.constant and (buffer.name in kept) == on_chip:
                bases[buffer.name] = end
                end = _align(end + buffer.size_bytes)
    return bases, start, end


def resident_constants(module: TileProgram, room_bytes: int) -> set[str]:
    """Constants that stay in the global buffer, so that no inference has to fetch them again.

    What is read most often comes first: term streams (with their directories), several times where pixels stay and
    weights pass; then the other constants, of which a level reads its own.
    """
    sizes = {b.name: _align(b.size_bytes) for b in module.buffers if b.constant}
    units: list[tuple[float, tuple[str, ...]]] = []
    for op in module.operations:
        if isinstance(op, ArrayLayer) and op.streams is not None and op.nest is not None:
            reads = _loads(op.nest.body) / (op.streams.tiles_k * op.streams.tiles_n)
            units.append((reads, (op.streams.directory, op.streams.streams)))
    grouped = {name for _, names in units for name in names}
    units += [(0.0, (name,)) for name in sizes if name not in grouped]
    kept: set[str] = set()
    for _, names in sorted(units, key=lambda unit: (-unit[0], -sum(sizes[name] for name in unit[1]), unit[1])):
        size = sum(sizes[name] for name in names)
        if size <= room_bytes:
            kept.update(names)
            room_bytes -= size
    return kept


def _loads(body: Sequence[Statement]) -> int:
    """How many weight tiles a nest loads."""
    return sum(s.count * _loads(s.body) if isinstance(s, Repeat) else isinstance(s, LoadTerms) for s in body)


def lifetimes(module: TileProgram) -> dict[str, tuple[int, int]]:
    """First and last operation that needs each activation buffer; inputs live from before, outputs to after the end."""
    spans: dict[str, tuple[int, int]] = {}
    tensors = {t.name: t for t in module.tensors}

    def touch(name: str, time: int) -> None:
        first, last = spans.get(name, (time, time))
        spans[name] = (min(first, time), max(last, time))

    for time, op in enumerate(module.operations):
        for names in buffers_touched(op):
            for name in names:
                touch(name, time)
    for ports, time in ((module.inputs, -1), (module.outputs, len(module.operations))):
        for port in ports:
            for tensor in port.tensors:
                buffer = tensors[tensor].buffer
                if buffer is not None:
                    touch(buffer, time)
    return spans


def in_place(module: TileProgram, spans: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """Buffers that may take the place of an operand which nobody needs afterwards, and that operand's buffer.

    An elementwise operation stores each box where it has loaded one, so the two can be one piece of memory, unless it
    reads other boxes of it as well. `spans` are the `lifetimes`. What the host or the user writes keeps its bytes, so
    that it can be looked at.
    """
    sizes = {b.name: b.size_bytes for b in module.buffers if not b.constant}
    hosted = {name for op in module.operations if isinstance(op, HostCall) for name in op.writes}
    found: dict[str, str] = {}
    for time, op in enumerate(module.operations):
        if not isinstance(op, VectorOp) or op.window is not None:
            continue
        y = op.y.buffer
        for name in dict.fromkeys(view.buffer for view in (op.b, op.a) if view is not None):
            if (
                reads_in_step(op, name)
                and name not in hosted
                and name in sizes
                and sizes[name] == sizes[y]
                and 0 <= spans[name][0] < spans[name][1] == time == spans[y][0]
            ):
                found[y] = name
                break
    return found


def reads_in_step(op: VectorOp, buffer: str) -> bool:
    """True if all that an elementwise operation reads of a buffer is, box by box, where its result is in its own."""
    reads = [view for view in (op.a, op.b, op.table) if view is not None and view.buffer == buffer]
    return all(replace(view, buffer=op.y.buffer) == op.y for view in reads)


@dataclass(frozen=True)
class Placement:
    """When each buffer is needed, and which ones follow another in its place."""

    spans: Mapping[str, tuple[int, int]]
    follows: Mapping[str, str]

    @classmethod
    def of(cls, module: TileProgram) -> Placement:
        """Of a program whose operations are known."""
        spans = lifetimes(module)
        return cls(spans, in_place(module, spans))

    def place(self, buffers: Iterable[Buffer], start: int) -> dict[str, int]:
        """Addresses from `start` on: the largest buffer first, each as low as possible."""
        chosen = {b.name: b for b in buffers}
        chains: dict[str, list[str]] = {}
        for name in chosen:
            first = name
            while self.follows.get(first) in chosen:
                first = self.follows[first]
            chains.setdefault(first, []).append(name)
        busy: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        bases: dict[str, int] = {}
        for first, names in sorted(chains.items(), key=lambda item: (-chosen[item[0]].size_bytes, item[0])):
            spans = [self.spans.get(name, (0, 0)) for name in names]
            size = chosen[first].size_bytes
            times = range(min(begin for begin, _ in spans), max(end for _, end in spans) + 1)
            base = _lowest(size, {taken for time in times for taken in busy[time]}, start)
            for time in times:
                busy[time].append((base, base + size))
            bases |= dict.fromkeys(names, base)
        return bases


def _lowest(size: int, taken: Iterable[tuple[int, int]], start: int) -> int:
    """The lowest aligned address from `start` on at which `size` bytes are free."""
    base = start
    for low, high in sorted(taken):
        if low - base >= size:
            break
        base = max(base, _align(high))
    return base


def _align(address: int) -> int:
    return -(-address // ALIGNMENT) * ALIGNMENT
