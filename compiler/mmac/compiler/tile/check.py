"""Verifier of the tile IR: what every pass of the back end must leave true. It finds bugs of passes, not of users."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mmac.compiler.tile.allocate import lifetimes
from mmac.compiler.tile.ir import (
    ArrayLayer,
    HostCall,
    Move,
    Nest,
    Operation,
    Repeat,
    Statement,
    TileProgram,
    VectorOp,
    View,
    operation_views,
)
from mmac.isa.errors import VerificationError
from mmac.isa.spec import Instr


def check(module: TileProgram) -> None:
    """Verify names, views, mappings, nests and addresses, as far as they have been filled in.

    Raises:
        VerificationError: the first thing that does not hold.
    """
    sizes = {b.name: b.size_bytes for b in module.buffers}
    if len(sizes) != len(module.buffers):
        raise VerificationError("buffers", "two buffers have the same name")
    for op in module.operations:
        for problem in _problems(op, module, sizes):
            raise VerificationError(f"operation {op.name}", problem)
    _check_order(module)
    _check_addresses(module)


def _problems(op: Operation, module: TileProgram, sizes: dict[str, int]) -> Iterator[str]:
    reads, writes = operation_views(op)
    for view in (*reads, *writes):
        yield from _view_problems(view, sizes)
    match op:
        case ArrayLayer():
            yield from _layer_problems(op, module)
        case VectorOp() if op.b is not None and any(
            b not in (1, y) for b, y in zip(op.b.shape, op.y.shape, strict=True)
        ):
            yield f"operand of shape {op.b.shape} does not broadcast to {op.y.shape}"
        case Move() if any(y.shape != op.outs[0].shape for y in op.outs):
            yield "outputs of different shapes"
        case HostCall() if not 0 <= op.segment < len(module.host):
            yield f"no host segment {op.segment}"
    if op.nest is not None:
        yield from _nest_problems(op.nest)


def _view_problems(view: View, sizes: dict[str, int]) -> Iterator[str]:
    if view.buffer not in sizes:
        yield f"no buffer {view.buffer}"
        return
    last = view.offset + sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True)) + view.elem
    if min(view.shape) < 1 or view.offset < 0 or last > sizes[view.buffer]:
        yield f"view {view} reaches outside its buffer of {sizes[view.buffer]} bytes"


def _layer_problems(op: ArrayLayer, module: TileProgram) -> Iterator[str]:
    if op.x.shape[3] % op.groups or op.y.shape[3] % op.groups:
        yield f"{op.x.shape[3]} and {op.y.shape[3]} channels in {op.groups} groups"
    if not 0 <= op.layer < len(module.plan.layers):
        yield f"no layer {op.layer} in the plan"
    weights = module.data.get(op.weights)
    if weights is not None and weights.shape != (op.y.shape[3], op.reduction):
        yield f"weights of shape {weights.shape}, expected {(op.y.shape[3], op.reduction)}"
    m = op.mapping
    if m is None:
        return
    tile, whole = (m.batch, m.rows, m.columns, m.channels, m.reduction), (*op.y.shape, op.ic)
    if any(not 1 <= t <= size for t, size in zip(tile, whole, strict=True)):
        yield f"tile {tile} of {whole}"
    if op.groups > 1 and m.channels % op.oc:
        yield f"a tile of {m.channels} channels cuts groups of {op.oc}"


def _nest_problems(nest: Nest) -> Iterator[str]:
    for statement in _statements(nest.body):
        for name, bits in statement.layout.items():
            number = getattr(statement, name)
            if bits.kind == "tensor" and number >= len(nest.views):
                yield f"{statement} names register t{number}, which is not set"
            if bits.kind == "pointer" and number >= len(nest.pointers):
                yield f"{statement} names register p{number}, which is not set"


def _statements(body: tuple[Statement, ...]) -> Iterator[Instr]:
    for statement in body:
        if isinstance(statement, Repeat):
            yield from _statements(statement.body)
        else:
            yield statement


def _check_order(module: TileProgram) -> None:
    """Every activation buffer is written before it is read."""
    placed = {t.name: t.buffer for t in module.tensors}
    written = {b.name for b in module.buffers if b.constant}
    written |= {placed[name] or "" for port in module.inputs for name in port.tensors}
    for op in module.operations:
        reads, writes = operation_views(op)
        names = [v.buffer for v in reads] if not isinstance(op, HostCall) else list(op.reads)
        for name in names:
            if name not in written:
                raise VerificationError(f"operation {op.name}", f"it reads {name} before anything is written there")
        written |= {v.buffer for v in writes} if not isinstance(op, HostCall) else set(op.writes)


def _check_addresses(module: TileProgram) -> None:
    """Buffers that are needed at the same time do not overlap, but for those that take another's place."""
    spans = lifetimes(module)
    forever = (-1, len(module.operations))
    placed = sorted((b for b in module.buffers if b.base is not None), key=lambda b: (b.base or 0, b.name))
    bases = {b.name: b.base or 0 for b in placed}
    active: list[tuple[int, str]] = []
    for buffer in placed:
        base = bases[buffer.name]
        active = [(end, name) for end, name in active if end > base]
        span = forever if buffer.constant else spans.get(buffer.name, (0, 0))
        for _, name in active:
            first, last = sorted([(span, buffer.name), (spans.get(name, forever), name)])
            if first[0][1] < last[0][0] or _follows(module, bases, first, last):
                continue
            raise VerificationError(f"buffer {buffer.name}", f"overlaps {name} while both are needed")
        active.append((base + buffer.size_bytes, buffer.name))


_Life = tuple[tuple[int, int], str]
"""First and last operation that needs a buffer, and its name."""


def _follows(module: TileProgram, bases: dict[str, int], old: _Life, new: _Life) -> bool:
    """True if the only operation that needs both buffers replaces each box of the old one by its result."""
    time = old[0][1]
    if time != new[0][0] or not 0 <= time < len(module.operations):
        return False
    op = module.operations[time]
    if not isinstance(op, VectorOp) or op.window is not None or op.y.buffer != new[1]:
        return False
    reads, _ = operation_views(op)
    return all(_placed(view, bases) == _placed(op.y, bases) for view in reads if view.buffer == old[1])


def _placed(view: View, bases: dict[str, int]) -> View:
    """A view of all memory."""
    return replace(view, buffer="", offset=bases[view.buffer] + view.offset)
