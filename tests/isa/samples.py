"""Instructions and programs to encode, print, store and damage."""

import numpy as np
from hypothesis import strategies as st

from mmac.isa import table
from mmac.isa.plan import PAPER_LEVELS, LayerPlan, Level, Plan
from mmac.isa.program import DebugEntry, HostSegment, Place, Port, Prediction, Program, TensorInfo
from mmac.isa.spec import BY_OPCODE, Bits, Instr, float_bits


def field_values(bits: Bits) -> st.SearchStrategy[int]:
    """Any value of a field, its extremes often."""
    if bits.choices is not None:
        return st.sampled_from(list(bits.choices))
    return st.one_of(st.sampled_from([bits.minimum, bits.maximum, 0]), st.integers(bits.minimum, bits.maximum))


def instructions(*classes: type[Instr]) -> st.SearchStrategy[Instr]:
    """Any instruction (of these classes)."""
    return st.one_of(
        [
            st.builds(cls, **{name: field_values(bits) for name, bits in cls.layout.items()})
            for cls in classes or BY_OPCODE.values()
        ]
    )


def program() -> Program:
    """A small program with something in every field; it is not meant to be run."""
    code = (
        table.Tensor(t=0, base=4096, elem=1, fill=128),
        table.Shape(t=0, n=1, h=8, w=8, c=16),
        table.Stride(t=0, n=1024, h=128, w=16, c=1),
        table.Walk(t=0, dim=table.Dim.H, origin=-1, extent=4, step=2, loop=1),
        table.Walk(t=0, dim=table.Dim.N, origin=0, extent=1, step=1, loop=14),
        table.Pointer(p=0, pad=table.Pad.ACT, addr=0, toggle=512, mask=3, phase=1),
        table.Conv(kernel_h=3, kernel_w=3, stride_h=1, stride_w=1, dilation_h=1, dilation_w=1, ic=16, oc=16),
        table.Quant(a_scale=float_bits(0.1), a_zero=128, y_zero=-3, y_min=-128, y_max=127, y_signed=1),
        table.SyncCompute(signal0=1),
        table.Loop(count=4),
        table.Load(t=0, p=0, wait0=1, signal0=2),
        table.LoadParams(t=0, p=0, signal0=5),
        table.SyncWeights(wait1=6),
        table.Loop(count=2),
        table.Mmac(x=0, y=0, act=0, wgt=0, acc=0, layer=1, format=1, first=1, multipliers=5, wait0=2, wait1=3),
        table.StoreAcc(t=0, acc=0, prm=0, wait1=5),
        table.End(),
        table.End(),
        table.Host(segment=0),
        table.Halt(),
    )  # fmt: skip
    return Program(
        name="sample",
        target="vc707",
        plan=Plan(PAPER_LEVELS, (LayerPlan("conv; a", PAPER_LEVELS), LayerPlan("fc", (Level(37, 4),) * 8))),
        scratchpads={"act": 1024, "acc": 4096},
        code=code,
        image=np.arange(300).astype(np.uint8),
        dram_bytes=8192,
        tensors=(
            TensorInfo("x", "uint8", (1, 16, 8, 8), Place(4096, (1024, 1, 128, 16)), 0.0123, 128),
            TensorInfo("é\n", "float32", (1, 10)),
        ),
        inputs=(Port("image", "float32", (1, 16, 8, 8), ("x",)),),
        outputs=(Port("logits", "float32", (1, 10), ("é\n",)),),
        buffer=(4096, 1024),
        host=(HostSegment(b"\x08\x0aonnx", ("x",), ("é\n",), (("Softmax_1", "no vector unit for it"),)),),
        debug=(DebugEntry(0, 18, "conv; a\n", "Conv", 147456, ("x",)), DebugEntry(18, 19, "Softmax_1", "Softmax")),
        predictions=tuple(Prediction(0.125 * (3 + i), 2.5 + i / 7, i - 3.21) for i in range(8)),
        notes={"compiler": "0.1", "source": "a.onnx"},
    )
