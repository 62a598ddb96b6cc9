"""The instruction set: every instruction, its encoding and its meaning. `docs/isa.md` is generated from here.

Machine state
    * *DRAM*, byte addressed. The program image (term streams, directories, constants) starts at address 0 and is
      read-only; activations follow. Addresses inside the program's buffer range lie in the target's on-chip buffer.
    * *Scratchpads* (`Pad`), byte addressed, sizes set by the target.
    * *Tensor registers* t0…t15: a 4-D view of DRAM in (n, h, w, c) order, and a *walk* that says which box of the
      view an access touches in the current loop iteration. A box may reach outside the view: loads put the fill
      byte there, stores skip it. So padding and ragged last tiles need no code of their own.
    * *Pointer registers* p0…p15: a scratchpad address that alternates between two slots from one loop iteration to
      the next (double buffering).
    * *Geometry* (`conv`) and *quantization* (`quant`) registers.
    * *Semaphores* 0…30 between the queues; a queue instruction first waits for up to two, and signals up to two when
      it has finished. Each semaphore is signalled by one queue and waited for by one queue.
    * The *level register*, set by the host before a run. No instruction carries α or β: the plan in the program
      gives them per layer and level.

The sequencer executes `Queue.SEQUENCER` instructions in order, resolves loop indices and registers, and hands the
rest to four in-order queues. Boxes lie in a scratchpad densely in (n, h, w, c) order with the walk's full extents.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from mmac.isa.spec import NONE_LOOP, NONE_TOKEN, Bits, Instr, Queue, instruction

TENSORS = 16
POINTERS = 16
SEMAPHORES = 31
MAX_LOOPS = 8


class Pad(IntEnum):
    """Scratchpads."""

    ACT = 0  # activations that feed the array or the vector unit
    AUX = 1  # second operand of the vector unit
    OUT = 2  # results of the vector unit, 8 bit
    WGT = 3  # term streams
    PRM = 4  # per-channel constants and tables
    ACC = 5  # int32 accumulators


class Dim(IntEnum):
    """Dimensions of a tensor register."""

    N = 0
    H = 1
    W = 2
    C = 3


class Unit(IntEnum):
    """Units that can form the sums of an `mmac`."""

    ARRAY = 0
    MULTIPLIERS = 1


class TermFormat(IntEnum):
    """How a weight tile is stored (`mmac.isa.streams`)."""

    PLAIN = 0
    RAW = 1
    CODED = 2


@dataclass(frozen=True, kw_only=True)
class Queued(Instr):
    """What all instructions of the queues share: up to two semaphores to wait for and two to signal."""

    wait0: Annotated[int, Bits(127, 123, kind="token")] = NONE_TOKEN
    wait1: Annotated[int, Bits(122, 118, kind="token")] = NONE_TOKEN
    signal0: Annotated[int, Bits(117, 113, kind="token")] = NONE_TOKEN
    signal1: Annotated[int, Bits(112, 108, kind="token")] = NONE_TOKEN

    @property
    def waits(self) -> tuple[int, ...]:
        """Semaphores to wait for before executing."""
        return tuple(s for s in (self.wait0, self.wait1) if s != NONE_TOKEN)

    @property
    def signals(self) -> tuple[int, ...]:
        """Semaphores to signal when finished."""
        return tuple(s for s in (self.signal0, self.signal1) if s != NONE_TOKEN)


# --------------------------------------------------------------------------------------------- control and registers


@instruction("loop", 0x01, Queue.SEQUENCER)
class Loop(Instr):
    """Repeat the instructions up to the matching `end` `count` times. The loop's index is 0…count-1; a loop is named by its nesting depth, 0 the outermost."""

    count: Annotated[int, Bits(31, 8)]


@instruction("end", 0x02, Queue.SEQUENCER)
class End(Instr):
    """End of the innermost open loop."""


@instruction("host", 0x03, Queue.SEQUENCER)
class Host(Instr):
    """Wait until all queues are idle, let the host run segment `segment` of the program, go on."""

    segment: Annotated[int, Bits(23, 8)]


@instruction("halt", 0x04, Queue.SEQUENCER)
class Halt(Instr):
    """Wait until all queues are idle and stop. The last instruction of every program, and only there."""


@instruction("tensor", 0x08, Queue.SEQUENCER)
class Tensor(Instr):
    """Point tensor register `t` at DRAM address `base`; elements are `elem` bytes; `fill` is the byte that loads put outside the view."""

    t: Annotated[int, Bits(11, 8, kind="tensor")]
    base: Annotated[int, Bits(43, 12)]
    elem: Annotated[int, Bits(59, 44)]
    fill: Annotated[int, Bits(67, 60)]


@instruction("shape", 0x09, Queue.SEQUENCER)
class Shape(Instr):
    """Set the sizes of tensor register `t` in elements, and its walk to the whole view: origin 0, extent = size, no loop."""

    t: Annotated[int, Bits(11, 8, kind="tensor")]
    n: Annotated[int, Bits(35, 12)]
    h: Annotated[int, Bits(59, 36)]
    w: Annotated[int, Bits(83, 60)]
    c: Annotated[int, Bits(107, 84)]


@instruction("stride", 0x0A, Queue.SEQUENCER)
class Stride(Instr):
    """Set the strides of tensor register `t` in bytes."""

    t: Annotated[int, Bits(11, 8, kind="tensor")]
    n: Annotated[int, Bits(43, 12)]
    h: Annotated[int, Bits(71, 44)]
    w: Annotated[int, Bits(99, 72)]
    c: Annotated[int, Bits(123, 100)]


@instruction("walk", 0x0B, Queue.SEQUENCER)
class Walk(Instr):
    """Along dimension `dim`, accesses through `t` touch `extent` elements starting at `origin + step * index(loop)`. `loop` is a nesting depth, `level` for the level register, or none. One loop may move one dimension of a tensor only."""

    t: Annotated[int, Bits(11, 8, kind="tensor")]
    dim: Annotated[int, Bits(13, 12, kind="dim", choices=Dim)]
    origin: Annotated[int, Bits(37, 14, signed=True)]
    extent: Annotated[int, Bits(61, 38)]
    step: Annotated[int, Bits(85, 62, signed=True)] = 0
    loop: Annotated[int, Bits(89, 86, kind="loop")] = NONE_LOOP


@instruction("pointer", 0x0C, Queue.SEQUENCER)
class Pointer(Instr):
    """Point pointer register `p` at scratchpad `pad`, address `addr + slot * toggle`, where slot = `phase` xor the parity of the lowest bits of the indices of the loops in `mask` (bit k = depth k)."""

    p: Annotated[int, Bits(11, 8, kind="pointer")]
    pad: Annotated[int, Bits(14, 12, kind="pad", choices=Pad)]
    addr: Annotated[int, Bits(38, 15)]
    toggle: Annotated[int, Bits(62, 39)] = 0
    mask: Annotated[int, Bits(70, 63)] = 0
    phase: Annotated[int, Bits(71, 71)] = 0


@instruction("conv", 0x0D, Queue.SEQUENCER)
class Conv(Instr):
    """Set the window geometry for `mmac`, `vmax` and `vavg`: kernel, stride, dilation; `ic` and `oc` are input and output channels per convolution group. `count_pad` makes `vavg` divide by the whole window at borders too."""

    kernel_h: Annotated[int, Bits(19, 8)]
    kernel_w: Annotated[int, Bits(31, 20)]
    stride_h: Annotated[int, Bits(39, 32)]
    stride_w: Annotated[int, Bits(47, 40)]
    dilation_h: Annotated[int, Bits(55, 48)]
    dilation_w: Annotated[int, Bits(63, 56)]
    ic: Annotated[int, Bits(79, 64)] = 1
    oc: Annotated[int, Bits(95, 80)] = 1
    count_pad: Annotated[int, Bits(96, 96)] = 0


@instruction("quant", 0x0E, Queue.SEQUENCER)
class Quant(Instr):
    """Set zero points, scales, signedness (1 = int8, 0 = uint8) and the clamp of the result for the instructions that follow."""

    a_scale: Annotated[int, Bits(39, 8, kind="f32")] = 0
    b_scale: Annotated[int, Bits(71, 40, kind="f32")] = 0
    a_zero: Annotated[int, Bits(80, 72, signed=True)] = 0
    b_zero: Annotated[int, Bits(89, 81, signed=True)] = 0
    y_zero: Annotated[int, Bits(98, 90, signed=True)] = 0
    y_min: Annotated[int, Bits(107, 99, signed=True)] = 0
    y_max: Annotated[int, Bits(116, 108, signed=True)] = 255
    a_signed: Annotated[int, Bits(117, 117)] = 0
    b_signed: Annotated[int, Bits(118, 118)] = 0
    y_signed: Annotated[int, Bits(119, 119)] = 0


# ------------------------------------------------------------------------------------------------------- load queue


@instruction("load", 0x10, Queue.LOAD)
class Load(Queued):
    """Copy the current box of `t` from DRAM to the scratchpad at `p`; elements outside the view become the fill byte."""

    t: Annotated[int, Bits(11, 8, kind="tensor")]
    p: Annotated[int, Bits(15, 12, kind="pointer")]


@instruction("sync.load", 0x12, Queue.LOAD)
class SyncLoad(Queued):
    """Wait and signal on the load queue, nothing else."""


# ---------------------------------------------------------------------------------------------------- weights queue


@instruction("load.terms", 0x11, Queue.WEIGHTS)
class LoadTerms(Queued):
    """Read the directory entry that the one-element box of `t` selects, and bring the prefix of its weight tile that the current level needs to the scratchpad at `p`. A level reads one contiguous prefix, a lower level a shorter one. A tile whose `format` is `coded` is decoded on the way: at `p` are then a byte for each group with the number of its terms, and for each rank a byte for each group, its term of that rank or 0. Others are copied. Directory and tiles lie either all in the target's on-chip buffer or all outside."""

    t: Annotated[int, Bits(11, 8, kind="tensor")]
    p: Annotated[int, Bits(15, 12, kind="pointer")]
    format: Annotated[int, Bits(17, 16, kind="format", choices=TermFormat)] = TermFormat.PLAIN


@instruction("load.params", 0x13, Queue.WEIGHTS)
class LoadParams(Load):
    """Copy the current box of `t`, which lies in the program image, to the scratchpad at `p`; otherwise as `load`. The image is read-only, so that it need not wait for any store."""


@instruction("sync.weights", 0x1F, Queue.WEIGHTS)
class SyncWeights(Queued):
    """Wait and signal on the weights queue, nothing else."""


# ---------------------------------------------------------------------------------------------------- compute queue


@instruction("mmac", 0x20, Queue.COMPUTE)
class Mmac(Queued):
    """Multiply. For each output element inside the box of `y` and inside its view: sum, over the groups of its reduction axis in (kernel row, kernel column, channel) order, every term of the data value times every term of the weight, where data = (activation - a_zero) with its β largest terms, weights are the tile at `wgt` (one for each channel of the box; empty groups for channels outside the view), which a `load.terms` of the same `format` through an equal pointer has brought in the present iteration of the loops around it, and β, α are the plan's for `layer` at the current level. The int32 sums are written to `acc`, or added to what is there unless the index of loop `first` is 0. The box of `x` at `act` is laid out so that output (h, w) of the box reads input rows h·stride_h + kernel row·dilation_h of the box, columns alike; the channels of the box of `x` cover the convolution groups of the box of `y`. `split_m`, `split_n`, `split_k` are the numbers of blocks of the array that share the output pixels, output channels and groups of the reduction axis. Bit l of `multipliers` says what forms the sums at level l: the multipliers, whose time does not depend on the budgets, or else the array of cells; the sums are the same."""

    x: Annotated[int, Bits(11, 8, kind="tensor")]
    y: Annotated[int, Bits(15, 12, kind="tensor")]
    act: Annotated[int, Bits(19, 16, kind="pointer")]
    wgt: Annotated[int, Bits(23, 20, kind="pointer")]
    acc: Annotated[int, Bits(27, 24, kind="pointer")]
    layer: Annotated[int, Bits(43, 28)]
    format: Annotated[int, Bits(45, 44, kind="format", choices=TermFormat)] = TermFormat.PLAIN
    first: Annotated[int, Bits(49, 46, kind="loop")] = NONE_LOOP
    split_m: Annotated[int, Bits(61, 50)] = 1
    split_n: Annotated[int, Bits(73, 62)] = 1
    split_k: Annotated[int, Bits(85, 74)] = 1
    multipliers: Annotated[int, Bits(101, 86, kind="levels")] = 0

    def unit(self, level: int) -> Unit:
        """What forms the sums at a level."""
        return Unit(self.multipliers >> level & 1)


@instruction("vadd", 0x28, Queue.COMPUTE)
class Vadd(Queued):
    """out = clamp(y_zero + rint(f32(f32(a - a_zero) * a_scale) + f32(f32(b - b_zero) * b_scale)), y_min, y_max), each operation rounded to binary32, rint to even. Over the box of `y`; a dimension of `a` or `b` whose extent is 1 is broadcast."""

    a: Annotated[int, Bits(11, 8, kind="tensor")]
    b: Annotated[int, Bits(15, 12, kind="tensor")]
    y: Annotated[int, Bits(19, 16, kind="tensor")]
    pa: Annotated[int, Bits(23, 20, kind="pointer")]
    pb: Annotated[int, Bits(27, 24, kind="pointer")]
    out: Annotated[int, Bits(31, 28, kind="pointer")]


@instruction("vmul", 0x29, Queue.COMPUTE)
class Vmul(Queued):
    """out = clamp(y_zero + rint(f32((a - a_zero) * (b - b_zero)) * a_scale), y_min, y_max); otherwise as `vadd`."""

    a: Annotated[int, Bits(11, 8, kind="tensor")]
    b: Annotated[int, Bits(15, 12, kind="tensor")]
    y: Annotated[int, Bits(19, 16, kind="tensor")]
    pa: Annotated[int, Bits(23, 20, kind="pointer")]
    pb: Annotated[int, Bits(27, 24, kind="pointer")]
    out: Annotated[int, Bits(31, 28, kind="pointer")]


@instruction("vtable", 0x2A, Queue.COMPUTE)
class Vtable(Queued):
    """out = table[a], the 256-byte table at `table` indexed by the raw byte of `a`. Over the box of `y`, which `a` has too."""

    y: Annotated[int, Bits(11, 8, kind="tensor")]
    pa: Annotated[int, Bits(15, 12, kind="pointer")]
    table: Annotated[int, Bits(19, 16, kind="pointer")]
    out: Annotated[int, Bits(23, 20, kind="pointer")]


@instruction("vmax", 0x2B, Queue.COMPUTE)
class Vmax(Queued):
    """out = maximum over the window set by `conv`, per channel; windows lie in the box of `x` as for `mmac`. The fill byte stands for values outside."""

    x: Annotated[int, Bits(11, 8, kind="tensor")]
    y: Annotated[int, Bits(15, 12, kind="tensor")]
    pa: Annotated[int, Bits(19, 16, kind="pointer")]
    out: Annotated[int, Bits(23, 20, kind="pointer")]


@instruction("vavg", 0x2C, Queue.COMPUTE)
class Vavg(Queued):
    """out = clamp(y_zero + rint(f32(sum of (a - a_zero) over the window) * f32(a_scale / f32(count))), y_min, y_max), per channel. The fill byte must be a_zero. count is kernel_h·kernel_w if `count_pad`, else the number of window elements inside the view of `x` (1 if there are none)."""

    x: Annotated[int, Bits(11, 8, kind="tensor")]
    y: Annotated[int, Bits(15, 12, kind="tensor")]
    pa: Annotated[int, Bits(19, 16, kind="pointer")]
    out: Annotated[int, Bits(23, 20, kind="pointer")]


@instruction("sync.compute", 0x2F, Queue.COMPUTE)
class SyncCompute(Queued):
    """Wait and signal on the compute queue, nothing else."""


# ------------------------------------------------------------------------------------------------------ store queue


@instruction("store", 0x30, Queue.STORE)
class Store(Queued):
    """Copy the box of `t` from the scratchpad at `p` to DRAM; elements outside the view are skipped."""

    t: Annotated[int, Bits(11, 8, kind="tensor")]
    p: Annotated[int, Bits(15, 12, kind="pointer")]


@instruction("store.acc", 0x31, Queue.STORE)
class StoreAcc(Queued):
    """Requantize the box of `t` from the int32 accumulators at `acc` and write it to DRAM: y = clamp(y_zero + rint(f32(acc + bias[c]) * scale[c]), y_min, y_max), rint to even; (bias int32, scale binary32) pairs for the channels of the box lie at `prm`. Elements outside the view are skipped."""

    t: Annotated[int, Bits(11, 8, kind="tensor")]
    acc: Annotated[int, Bits(15, 12, kind="pointer")]
    prm: Annotated[int, Bits(19, 16, kind="pointer")]


@instruction("sync.store", 0x3F, Queue.STORE)
class SyncStore(Queued):
    """Wait and signal on the store queue, nothing else."""
