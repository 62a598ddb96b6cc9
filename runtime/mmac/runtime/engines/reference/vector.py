"""The vector unit: elementwise operations, tables and pooling, every operation rounded to binary32."""

from __future__ import annotations

import numpy as np

from mmac.isa import table
from mmac.isa.spec import bits_float
from mmac.isa.structure import Op, View
from mmac.runtime.engines.reference.arithmetic import Float, conv_of, integers, quant_of, taps, to_bytes
from mmac.runtime.engines.reference.machine import Machine, executes
from mmac.runtime.memory import Array


@executes(table.Vadd)
def vadd(machine: Machine, op: Op) -> None:
    """Sum of two tensors."""
    quant = quant_of(op)
    a, b = _operands(machine, op)
    _result(machine, op, a * bits_float(quant.a_scale) + b * bits_float(quant.b_scale))


@executes(table.Vmul)
def vmul(machine: Machine, op: Op) -> None:
    """Product of two tensors; that of two integers of 9 bits is exact in binary32."""
    a, b = _operands(machine, op)
    _result(machine, op, (a * b) * bits_float(quant_of(op).a_scale))


@executes(table.Vtable)
def vtable(machine: Machine, op: Op) -> None:
    """Any function of one byte."""
    box = op.views["y"].box
    values = machine.pad(op.rings["table"], (256,))
    machine.pad(op.rings["out"], box)[...] = values[machine.pad(op.rings["pa"], box)]


@executes(table.Vmax)
def vmax(machine: Machine, op: Op) -> None:
    """Largest value of each window."""
    pad = machine.pad(op.rings["pa"], op.views["x"].box)
    signed = pad.view(np.int8) if quant_of(op).a_signed else pad
    machine.pad(op.rings["out"], op.views["y"].box)[...] = _windows(op, signed).max(axis=0).view(np.uint8)


@executes(table.Vavg)
def vavg(machine: Machine, op: Op) -> None:
    """Mean of each window."""
    quant = quant_of(op)
    x = op.views["x"]
    data = integers(machine.pad(op.rings["pa"], x.box), quant.a_signed) - quant.a_zero
    total = _windows(op, data).sum(axis=0, dtype=np.int32).astype(np.float32)
    _result(machine, op, total * (bits_float(quant.a_scale) / _window_sizes(machine, op, x)))


def _window_sizes(machine: Machine, op: Op, x: View) -> Float:
    """Elements that a mean is over: [1, h, w, 1]; 1 for a window that is empty, whose sum is 0."""
    conv = conv_of(op)
    there = np.zeros((1, *x.box[1:3], 1), np.int32)
    rows, columns = machine.inside(x)[1:3]
    there[:, rows, columns] = 1
    if conv.count_pad:
        there[...] = 1
    sizes: Float = np.maximum(_windows(op, there).sum(axis=0), 1).astype(np.float32)
    return sizes


def _windows(op: Op, box: Array) -> Array:
    _, h, w, _ = op.views["y"].box
    return taps(box, conv_of(op), slice(0, h), slice(0, w))


def _operands(machine: Machine, op: Op) -> tuple[Float, Float]:
    """a - a_zero and b - b_zero, exact in binary32."""
    quant = quant_of(op)
    a = integers(machine.pad(op.rings["pa"], op.views["a"].box), quant.a_signed) - quant.a_zero
    b = integers(machine.pad(op.rings["pb"], op.views["b"].box), quant.b_signed) - quant.b_zero
    return a.astype(np.float32), b.astype(np.float32)


def _result(machine: Machine, op: Op, value: Float) -> None:
    machine.pad(op.rings["out"], op.views["y"].box)[...] = to_bytes(quant_of(op), value)
