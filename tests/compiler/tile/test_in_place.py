"""Results that take the place of an operand, and where they must not; and what a session shows of such tensors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmac.compiler.tile.allocate import in_place, lifetimes
from mmac.compiler.tile.check import check
from mmac.compiler.tile.ir import HostCall
from mmac.isa.errors import VerificationError
from mmac.isa.verify import verify
from mmac.runtime.targets import load_target
from tests.compiler import nets
from tests.compiler.exact import TARGETS, back_end, front_end, tile_program, wrong_tensors
from tests.compiler.graph.small import model

HEAD = "a = Conv <kernel_shape=[1,1]> (x, w[8,8,1,1])\n b = Add (a, x)"
TAIL = "y = Conv <kernel_shape=[1,1]> (d, w[8,8,1,1])"
IMAGE = "(float[1,8,12,12] x) => (float[1,8,12,12] y)"
I = np.array  # noqa: E741

MODELS = {
    "chain": model(f"{IMAGE} {{ {HEAD}\n c = Mul (b, x)\n d = Tanh (c)\n {TAIL} }}"),
    "square": model(f"{IMAGE} {{ {HEAD}\n d = Mul (b, b)\n {TAIL} }}"),
    "sum with its own transpose": model(
        f"{IMAGE} {{ {HEAD}\n c = Transpose <perm=[0,1,3,2]> (b)\n d = Add (b, c)\n {TAIL} }}"
    ),
    "gate from a channel of its own": model(
        f"{IMAGE} {{ {HEAD}\n c = Slice (b, zero, one, one)\n d = Mul (c, b)\n {TAIL} }}", zero=I([0]), one=I([1])
    ),
    "shuffled": model(
        f"{IMAGE} {{ {HEAD}\n s, t = Split <axis=1> (b, n)\n c = Concat <axis=1> (t, s)\n d = Mul (b, c)\n {TAIL} }}",
        n=I([4, 4]),
    ),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_every_tensor(name, target, tmp_path):
    """The tiny targets take many tiles, of which some would be overwritten before they are read."""
    partitioned = front_end(MODELS[name], tmp_path)
    program = back_end(partitioned, TARGETS[target]())
    verify(program)
    assert not program.host
    assert not wrong_tensors(partitioned, program, nets.inputs(MODELS[name]), [0, 7])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("chain", 3), ("square", 2), ("sum with its own transpose", 1), ("gate from a channel of its own", 1)],
)
def test_how_many_results_take_the_place_of_an_operand(name, expected, tmp_path):
    module = tile_program(front_end(MODELS[name], tmp_path), load_target("vc707"))
    assert len(in_place(module, lifetimes(module))) == expected


def quantized(*lines: str) -> str:
    """ONNX text in which every result goes through QuantizeLinear and DequantizeLinear on its way to the next line."""
    rounding = "q_{0} = QuantizeLinear (f_{0}, s, z)\n {0} = DequantizeLinear (q_{0}, s, z)"
    return "\n".join(f"f_{line}\n {rounding.format(line.split()[0])}" for line in lines)


HOSTED = {
    "rewritten": ["h = Softmax <axis=1> (a)", "b = Sigmoid (h)", "c = Mul (b, b)", "d = Tanh (c)"],
    "rewritten for the host": ["h = Softmax <axis=1> (a)", "b = Sigmoid (h)", "d = Softmax <axis=1> (b)"],
    "half of a buffer": [
        "b = Slice (a, zero, four, one)",
        "e = Sigmoid (b)",
        "t = Softmax <axis=1> (e)",
        "u = Concat <axis=1> (e, t)",
        "d = Tanh (u)",
    ],
    "half of a buffer for the host": [
        "b = Slice (a, zero, four, one)",
        "e = Sigmoid (b)",
        "t = Softmax <axis=1> (e)",
        "u = Concat <axis=1> (e, t)",
        "d = Softmax <axis=1> (u)",
    ],
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", HOSTED)
def test_what_the_host_writes_can_be_looked_at(name, target, tmp_path):
    body = quantized("i = Identity (x)", "a = Sigmoid (i)", *HOSTED[name], "y_ = Sigmoid (d)")
    constants = {"zero": I([0]), "four": I([4]), "one": I([1]), "s": np.float32(1 / 64), "z": np.uint8(128)}
    proto = model(f"{IMAGE} {{ {body}\n y = Identity (y_) }}", **constants)
    partitioned = front_end(proto, tmp_path)
    module = tile_program(partitioned, TARGETS[target]())
    calls = [op for op in module.operations if isinstance(op, HostCall)]
    assert calls
    assert not {name for op in calls for name in op.writes} & set(in_place(module, lifetimes(module)).values())
    program = back_end(partitioned, TARGETS[target]())
    verify(program)
    assert not wrong_tensors(partitioned, program, nets.inputs(proto), [0, 7])


def test_the_checks_find_a_result_in_a_place_that_is_read_elsewhere(tmp_path):
    module = tile_program(front_end(MODELS["sum with its own transpose"], tmp_path), load_target("vc707"))
    bases = {b.name: b.base for b in module.buffers}
    buffers = [replace(b, base=bases["b_quantized"]) if b.name == "d_quantized" else b for b in module.buffers]
    check(module)
    with pytest.raises(VerificationError, match="buffer d_quantized: overlaps b_quantized while both are needed"):
        check(replace(module, buffers=tuple(buffers)))
