"""Conversions and window addressing that the array, the vector unit and the store queue share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.structure import Op
from mmac.runtime.memory import Array, Bytes

Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int32]


def quant_of(op: Op) -> table.Quant:
    """The quantization register at an instruction."""
    if op.quant is None:
        raise ValueError(f"instruction {op.pc} has no quantization; the verifier refuses that")
    return op.quant


def conv_of(op: Op) -> table.Conv:
    """The geometry register at an instruction."""
    if op.conv is None:
        raise ValueError(f"instruction {op.pc} has no geometry; the verifier refuses that")
    return op.conv


def integers(raw: Array, signed: int) -> Int:
    """The integers that bytes stand for."""
    return raw.view(np.int8 if signed else np.uint8).astype(np.int32)


def to_bytes(quant: table.Quant, value: Float) -> Bytes:
    """clamp(y_zero + rint(value), y_min, y_max) as a byte, two's complement if signed.

    The clamp comes before the conversion to an integer, which no large float can then overflow.
    """
    steps = np.clip(np.rint(value), quant.y_min - quant.y_zero, quant.y_max - quant.y_zero)
    return (steps.astype(np.int32) + quant.y_zero).astype(np.uint8)


def taps(box: Array, conv: table.Conv, rows: slice, columns: slice) -> Array:
    """What each kernel position sees: [n, h, w, c] → [kernel_h·kernel_w, n, rows, columns, c], for those outputs."""

    def along(kernel: int, stride: int, dilation: int, part: slice) -> list[slice]:
        firsts = (part.start * stride + k * dilation for k in range(kernel))
        return [slice(first, first + (part.stop - part.start - 1) * stride + 1, stride) for first in firsts]

    hs = along(conv.kernel_h, conv.stride_h, conv.dilation_h, rows)
    ws = along(conv.kernel_w, conv.stride_w, conv.dilation_w, columns)
    return np.stack([box[:, h, w] for h in hs for w in ws])
