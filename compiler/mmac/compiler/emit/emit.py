"""Pass `emit`: instructions, DRAM image, tables and predictions of the finished program.

Needs: nests (`schedule`) and addresses (`allocate`). Guarantees: a `Program` that the verifier accepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mmac.compiler.passes import Pass
from mmac.compiler.tile.ir import (
    ArrayLayer,
    Buffer,
    HostCall,
    Nest,
    PointerRegister,
    Repeat,
    Statement,
    TileProgram,
    ViewRegister,
    buffers_touched,
)
from mmac.compiler.tile.rings import give_credits, take_credits
from mmac.isa import table
from mmac.isa.program import DebugEntry, Place, Prediction, Program, TensorInfo
from mmac.isa.spec import NONE_LOOP, Instr
from mmac.runtime.compiled_for import NOTE, digest
from mmac.runtime.report import estimate
from mmac.runtime.targets import Target


@dataclass(frozen=True)
class Emit(Pass[TileProgram, Program]):
    """See the module's docstring.

    Args:
        target: the hardware.
        predict: say in the program what each level costs.
    """

    name: ClassVar[str] = "emit"
    target: Target
    predict: bool = True

    def apply(self, module: TileProgram) -> Program:
        """The program."""
        buffers = {b.name: b for b in module.buffers}
        code, debug = _code(module, buffers)
        program = Program(
            name=module.name,
            target=module.target,
            plan=module.plan,
            scratchpads=dict(self.target.scratchpads),
            code=tuple(code),
            image=_image(module, buffers),
            dram_bytes=max(sum(module.on_chip), *(_base(b) + b.size_bytes for b in module.buffers), 0),
            tensors=tuple(_tensor_infos(module, buffers)),
            inputs=module.inputs,
            outputs=module.outputs,
            buffer=module.on_chip,
            host=module.host,
            debug=tuple(debug),
            notes={**module.notes, NOTE: digest(self.target)},
        )
        if not self.predict:
            return program
        return replace(program, predictions=_predictions(program, self.target, module.sqnr_db))


def _predictions(program: Program, target: Target, sqnr_db: Sequence[float]) -> tuple[Prediction, ...]:
    costs = estimate(program, target).levels
    found: Sequence[float | None] = sqnr_db or [None] * len(costs)
    return tuple(Prediction(cost.latency_ms, cost.energy_mj, db) for cost, db in zip(costs, found, strict=True))


def _base(buffer: Buffer) -> int:
    if buffer.base is None:
        raise ValueError(f"{buffer.name}: emit needs allocate first")
    return buffer.base


def _tensor_infos(module: TileProgram, buffers: dict[str, Buffer]) -> list[TensorInfo]:
    return [
        TensorInfo(
            t.name,
            t.dtype,
            t.shape,
            None if t.buffer is None else Place(_base(buffers[t.buffer]) + t.offset, t.strides),
            t.scale,
            t.zero_point,
        )
        for t in module.tensors
    ]


def _image(module: TileProgram, buffers: dict[str, Buffer]) -> npt.NDArray[np.uint8]:
    constants = [b for b in module.buffers if b.constant]
    image = np.zeros(max((_base(b) + b.size_bytes for b in constants), default=0), np.uint8)
    streams = {op.streams.directory: op.streams.streams for op in module.operations
               if isinstance(op, ArrayLayer) and op.streams is not None}  # fmt: skip
    for buffer in constants:
        array = np.asarray(module.data[buffer.name])
        if buffer.name in streams:
            array = array.copy()
            array["offset"] += _base(buffers[streams[buffer.name]])
        image[_base(buffer) : _base(buffer) + buffer.size_bytes] = np.ascontiguousarray(array).view(np.uint8).ravel()
    return image


def _code(module: TileProgram, buffers: dict[str, Buffer]) -> tuple[list[Instr], list[DebugEntry]]:
    code: list[Instr] = _flat(give_credits())
    debug: list[DebugEntry] = []
    registers = _Registers(buffers)
    completed = completed_tensors(module)
    layer = None
    for index, op in enumerate(module.operations):
        if op.nest is None:
            raise ValueError(f"{op.name}: emit needs schedule first")
        start = len(code)
        code += [*registers.set_up(op.nest), *_flat(op.nest.body)]
        entry = DebugEntry(start, len(code), op.name, op.kind, outputs=completed.get(index, ()))
        before, layer = layer, op.layer if isinstance(op, ArrayLayer) else None
        if isinstance(op, ArrayLayer):
            entry = replace(entry, node=module.plan.layers[op.layer].name, macs=op.macs)
        # the groups of a convolution are one node to the user
        debug.append(entry if layer is None or layer != before else _joined(debug.pop(), entry))
    return [*code, *_flat(take_credits()), table.Halt()], debug


def _joined(first: DebugEntry, second: DebugEntry) -> DebugEntry:
    outputs = first.outputs + second.outputs
    return replace(first, stop=second.stop, macs=first.macs + second.macs, outputs=outputs)


def completed_tensors(module: TileProgram) -> dict[int, tuple[str, ...]]:
    """Tensors by the operation after which their bytes are final and still there.

    That is the last operation on the device to write their buffer. If it is the host that writes last, or the user, it
    is the first one to read it afterwards: nothing that the host or the user writes is replaced in place.
    """
    final: dict[str, int] = {}
    for index, op in enumerate(module.operations):
        reads, writes = buffers_touched(op)
        if isinstance(op, HostCall):
            for name in writes:
                final.pop(name, None)
            continue
        for name in reads:
            final.setdefault(name, index)
        final |= dict.fromkeys(writes, index)
    completed: dict[int, tuple[str, ...]] = {}
    for tensor in module.tensors:
        if tensor.buffer in final:
            index = final[tensor.buffer]
            completed[index] = (*completed.get(index, ()), tensor.name)
    return completed


def _flat(body: Sequence[Statement]) -> list[Instr]:
    flat: list[Instr] = []
    for statement in body:
        if isinstance(statement, Repeat):
            flat += [table.Loop(count=statement.count), *_flat(statement.body), table.End()]
        else:
            flat.append(statement)
    return flat


class _Registers:
    """Emits configuration, leaving out what the registers hold already."""

    def __init__(self, buffers: dict[str, Buffer]) -> None:
        self.buffers = buffers
        self.held: dict[object, object] = {}

    def set_up(self, nest: Nest) -> list[Instr]:
        """Instructions that load the registers of a nest."""
        code: list[Instr] = []
        for t, register in enumerate(nest.views):
            if self._changes(("t", t), register):
                code += self._view(t, register)
        for p, pointer in enumerate(nest.pointers):
            if self._changes(("p", p), pointer):
                code.append(_pointer(p, pointer))
        for single in (nest.conv, nest.quant):
            if single is not None and self._changes(type(single), single):
                code.append(single)
        return code

    def _changes(self, key: object, value: object) -> bool:
        changed = self.held.get(key) != value
        self.held[key] = value
        return changed

    def _view(self, t: int, register: ViewRegister) -> list[Instr]:
        view = register.view
        (n, h, w, c), (sn, sh, sw, sc) = view.shape, view.strides
        base = _base(self.buffers[view.buffer]) + view.offset
        code: list[Instr] = [
            table.Tensor(t=t, base=base, elem=view.elem, fill=register.fill),
            table.Shape(t=t, n=n, h=h, w=w, c=c),
            table.Stride(t=t, n=sn, h=sh, w=sw, c=sc),
        ]
        for dim, (walk, size) in enumerate(zip(register.walk, view.shape, strict=True)):
            origin, extent, step, loop = walk
            if walk != (0, size, 0, NONE_LOOP):  # `shape` has set that
                code.append(table.Walk(t=t, dim=dim, origin=origin, extent=extent, step=step, loop=loop))
        return code


def _pointer(p: int, pointer: PointerRegister) -> table.Pointer:
    return table.Pointer(
        p=p,
        pad=pointer.pad,
        addr=pointer.addr,
        toggle=pointer.toggle,
        mask=pointer.mask,
        phase=pointer.phase,
    )
