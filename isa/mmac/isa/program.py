"""A compiled program: what `emit` makes, the container stores, and the runtime executes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mmac.isa.plan import Plan
from mmac.isa.spec import Instr


def directory_dtype(levels: int) -> np.dtype[np.void]:
    """Layout of one directory entry, by which `load.terms` finds a weight tile.

    ``offset``: DRAM address of the tile's stream; ``groups``: groups in the tile; per level ``bytes``, the length of
    the prefix to read, and ``alpha``, the largest number of terms that any group of the tile keeps (the tile's
    lockstep count, at most the plan's α).
    """
    return np.dtype(
        [
            ("offset", "<u4"),
            ("groups", "<u4"),
            ("level", [("bytes", "<u4"), ("alpha", "<u4")], (levels,)),
        ]
    )


DTYPES = frozenset(
    ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"]
)
"""Element types of named tensors."""

PARAM_DTYPE = np.dtype([("bias", "<i4"), ("scale", "<f4")])
"""Per-channel constants that `store.acc` reads from the PRM scratchpad."""


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in DRAM: base address and byte stride of each logical (ONNX) dimension."""

    base: int
    strides: tuple[int, ...]


@dataclass(frozen=True)
class TensorInfo:
    """A tensor that has a name outside the code: inputs, outputs, operands of host segments, intermediate results.

    `shape` and `dtype` are ONNX's (NCHW; numpy dtype names). `place` is None for a tensor that only the host holds.
    `scale` and `zero_point` are known for quantized tensors: value = scale · (q - zero_point).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    place: Place | None = None
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class Port:
    """A model input or output as the user sees it, bound to a tensor.

    If `dtype` is float32 and the tensor is a quantized one in DRAM, the host quantizes on the way in
    (`saturate(rint(x / scale) + zero_point)`, as ONNX QuantizeLinear) and dequantizes on the way out. An input may
    feed several tensors (`tensors`), an output has one.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class HostSegment:
    """An ONNX model that onnxruntime executes between parts of the device code.

    Its graph inputs and outputs are named as the program's tensors. `nodes` lists what is in it and why.
    """

    onnx: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DebugEntry:
    """Instructions `start` … `stop`-1 implement ONNX node `node` of type `op` (`macs` multiply-accumulates).

    `outputs` names the tensors that lie complete in DRAM once they have been executed; later code may reuse the bytes.
    The range then ends after the stores of a loop nest. That is proved; that these are all the bytes, and what the node
    computes, is not: it concerns only those who ask for the tensor by name.
    """

    start: int
    stop: int
    node: str
    op: str
    macs: int = 0
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What one run at one level costs, and how good its result is, as the compiler has found.

    Attributes:
        latency_ms: on the target that the program was compiled for; host segments are left out.
        energy_mj: there, by the target's default constants.
        sqnr_db: signal-to-noise ratio over all outputs against the model before quantization, on calibration samples;
            None if there were none.
    """

    latency_ms: float
    energy_mj: float
    sqnr_db: float | None = None


@dataclass(frozen=True)
class Program:
    """One program for all levels.

    `image` is the read-only part of DRAM, at address 0; `dram_bytes` is all of DRAM that the program uses.
    `scratchpads` gives the bytes of each `Pad` (lower case name) that the code was compiled for. `buffer` is (base,
    size in bytes) of the addresses that lie in the target's on-chip buffer; size 0 for none. `predictions` has one
    entry per level, or none at all in a program that no compiler has made.
    """

    name: str
    target: str
    plan: Plan
    scratchpads: dict[str, int]
    code: tuple[Instr, ...]
    image: npt.NDArray[np.uint8]
    dram_bytes: int
    tensors: tuple[TensorInfo, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    buffer: tuple[int, int] = (0, 0)
    host: tuple[HostSegment, ...] = ()
    debug: tuple[DebugEntry, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)

    @cached_property
    def entries(self) -> tuple[DebugEntry | None, ...]:
        """The debug entry that each instruction belongs to, if any; of several, the one that starts first."""
        waiting = deque(sorted(self.debug, key=lambda entry: entry.start))
        found: list[DebugEntry | None] = []
        for pc in range(len(self.code)):
            while waiting and waiting[0].stop <= pc:
                waiting.popleft()
            found.append(waiting[0] if waiting and waiting[0].start <= pc else None)
        return tuple(found)

    @cached_property
    def tensor(self) -> dict[str, TensorInfo]:
        """Tensors by name."""
        return {t.name: t for t in self.tensors}
