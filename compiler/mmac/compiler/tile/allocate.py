"""Pass `allocate`: give every buffer its place in the address space.

Needs: all buffers known (`pack`), and which are on chip (`tile`). Guarantees: every buffer has a `base`; constants come
first, then the activations on chip, then the others, and two activation buffers overlap only if no operation needs both.
Largest buffers are placed first, each at the lowest address that is free during its life. Before/after::

    buffer "conv1.y" size=802816    ->    buffer "conv1.y" size=802816 base=0x2c0000
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from mmac.compiler.passes import Pass
from mmac.compiler.tile.ir import Buffer, TileProgram, buffers_touched
from mmac.isa.errors import ResourceError
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
        spans = lifetimes(module)
        bases, image = _constants(module.buffers)
        moving = [b for b in module.buffers if not b.constant]
        bases |= place([b for b in moving if b.on_chip], spans, image)
        end = _align(max((bases[b.name] + b.size_bytes for b in moving if b.on_chip), default=image))
        bases |= place([b for b in moving if not b.on_chip], spans, end)
        buffers = tuple(replace(b, base=bases[b.name]) for b in module.buffers)
        used = max((bases[b.name] + b.size_bytes for b in buffers), default=0)
        if used > self.target.dram.capacity_bytes:
            raise ResourceError(
                module.name,
                f"it needs {used} bytes of DRAM",
                f"{self.target.name} has {self.target.dram.capacity_bytes}",
                "use a smaller model or batch, or a target with more memory",
            )
        # with the image in the buffer too, weights need not be fetched again for every inference
        start = 0 if end <= self.target.buffer.size_bytes else image
        return replace(module, buffers=buffers, on_chip=(start, end - start))


def _constants(buffers: tuple[Buffer, ...]) -> tuple[dict[str, int], int]:
    bases, end = {}, 0
    for buffer in buffers:
        if buffer.constant:
            bases[buffer.name] = end
            end = _align(end + buffer.size_bytes)
    return bases, end


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


Spans = Mapping[str, tuple[int, int]]


def place(buffers: Iterable[Buffer], spans: Spans, start: int) -> dict[str, int]:
    """Addresses from `start` on of buffers that live for `spans`: the largest first, each as low as possible."""
    bases: dict[str, int] = {}
    placed: list[tuple[Buffer, int]] = []
    for buffer in sorted(buffers, key=lambda b: (-b.size_bytes, b.name)):
        bases[buffer.name] = lowest(buffer, placed, spans, start)
        placed.append((buffer, bases[buffer.name]))
    return bases


def lowest(buffer: Buffer, placed: Iterable[tuple[Buffer, int]], spans: Spans, start: int) -> int:
    """The lowest address that is free during a buffer's life."""
    first, last = spans.get(buffer.name, (0, 0))
    neighbours = sorted(
        (base, base + other.size_bytes)
        for other, base in placed
        if first <= spans.get(other.name, (0, 0))[1] and spans.get(other.name, (0, 0))[0] <= last
    )
    base = start
    for low, high in neighbours:
        if low - base >= buffer.size_bytes:
            break
        base = max(base, _align(high))
    return base


def _align(address: int) -> int:
    return -(-address // ALIGNMENT) * ALIGNMENT
