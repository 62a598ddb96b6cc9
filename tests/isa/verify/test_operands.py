"""Each rule about the operands of one instruction."""

from __future__ import annotations

from functools import partial

import pytest

from mmac.isa.errors import MalformedError
from tests.isa import examples
from tests.isa.build import Builder
from tests.isa.source import Source
from tests.isa.verify.rejection import Case, rejected

conv, matmul, add = examples.convolution, examples.matrix_product, examples.addition


def pool(op: str = "vmax") -> Source:
    builder = Builder()
    x, y = builder.input("x", (1, 6, 6, 8)), builder.tensor("y", (1, 3, 3, 8))
    builder.pool(op, x, y, (1, 2, 3, 8))
    builder.output(y)
    return builder.source()


CASES = {
    # structure: one example, the rest is tested with the parser
    "loop left open": Case(add, (("end\nend\n", "end\n"),), "loop"),
    "geometry inside a loop": Case(
        conv,
        (("loop 3\n", "loop 3\nconv kernel_h=1 kernel_w=1 stride_h=1 stride_w=1 dilation_h=1 dilation_w=1\n"),),
        "configuration…outside loops",
    ),
    # pads
    "activations in the weight pad": Case(
        conv, (("pad=act", "pad=wgt"),), "p points to the WGT scratchpad; ACT or AUX or OUT or PRM"
    ),
    "terms in the activation pad": Case(conv, (("pad=wgt", "pad=act"),), "p points to the ACT scratchpad; WGT"),
    "sums in the constants pad": Case(conv, (("pad=acc", "pad=prm"),), "acc points to the PRM scratchpad; ACC"),
    "results in the operand pad": Case(add, (("pad=out", "pad=aux"),), "out points to the AUX scratchpad; OUT"),
    "array operand in AUX": Case(conv, (("pad=act", "pad=aux"),), "act points to the AUX scratchpad; ACT"),
    # views
    "elements of 0 bytes": Case(add, (("base=65536 elem=1", "base=65536 elem=0"),), "t has elements of 0 bytes"),
    "view of size 0": Case(add, (("shape t=t2 n=1", "shape t=t2 n=0"),), "t has size 0 in n; 1 or more"),
    "box of extent 0": Case(
        conv, (("dim=w origin=-1 extent=5", "dim=w origin=-1 extent=0"),), "the box of t has extent 0 in w"
    ),
    "wide elements in the vector unit": Case(
        add, (("base=65662 elem=1", "base=65662 elem=2"),), "y has elements of 2 bytes; 1 byte"
    ),
    "wide elements in store.acc": Case(
        conv, (("base=65776 elem=1", "base=65776 elem=2"),), "y has elements of 2 bytes; 1 byte"
    ),
    "directory entries of another size": Case(
        conv, (("elem=72", "elem=64"),), "t has elements of 64 bytes; directory entries of 72 bytes for 8 levels"
    ),
    "two directory entries": Case(
        conv,
        (("walk t=t1 dim=c origin=0 extent=1", "walk t=t1 dim=c origin=0 extent=2"),),
        "t has a box of 1×1×1×2; one directory entry",
    ),
    "result box outside its view": Case(
        conv,
        (("loop=d0\npointer", "loop=d0\nwalk t=t3 dim=h origin=0 extent=4 step=6 loop=d1\npointer"),),
        "the box of y lies outside its view in h: it starts at 0 … 6; -3 … 5 for a box of 4 on 6 elements",
    ),
    "result that moves with the level": Case(
        add,
        (
            (
                "walk t=t0 dim=n origin=0 extent=1 step=1 loop=none",
                "walk t=t0 dim=n origin=0 extent=1 step=1 loop=level",
            ),
        ),
        "y moves with the level; only loads may",
    ),
    "operand that moves with the level": Case(
        add,
        (("walk t=t1 dim=n origin=0 extent=1\n", "walk t=t1 dim=n origin=0 extent=1 step=1 loop=level\n"),),
        "a moves with the level; only loads may",
    ),
    # quantization
    "no quantization": Case(
        add,
        (("quant a_scale=0.5 b_scale=0.25 a_zero=128 b_zero=128 y_zero=128\n", ""),),
        "no quantization is set; quant before it",
    ),
    "zero point outside uint8": Case(add, (("a_zero=128", "a_zero=-1"),), "a_zero is -1; 0 … 255"),
    "zero point outside int8": Case(add, (("b_zero=128", "b_zero=128 b_signed=1"),), "b_zero is 128; -128 … 127"),
    "result zero point": Case(conv, (("y_zero=3", "y_zero=-3"),), "y_zero is -3; 0 … 255"),
    "clamp upside down": Case(
        conv, (("y_min=0 y_max=255", "y_min=9 y_max=8"),), "the clamp is 9 … 8; ranges within 0 … 255"
    ),
    "clamp outside the type": Case(
        conv,
        (("y_zero=3 y_min=0 y_max=255", "y_zero=3 y_min=0 y_max=128 y_signed=1"),),
        "the clamp is 0 … 128; ranges within -128 … 127",
    ),
    "infinite scale": Case(add, (("b_scale=0.25", "b_scale=inf"),), "b_scale is inf"),
    "NaN scale": Case(add, (("a_scale=0.5", "a_scale=nan"),), "a_scale is nan; magnitudes up to"),
    "huge scale": Case(add, (("a_scale=0.5", "a_scale=1e30"),), "a_scale is 1"),
    # geometry
    "no geometry": Case(
        pool,
        (("conv kernel_h=3 kernel_w=3 stride_h=2 stride_w=2 dilation_h=1 dilation_w=1\n", ""),),
        "no geometry is set; conv before it",
    ),
    "kernel of 0": Case(pool, (("kernel_h=3", "kernel_h=0"),), "kernel_h is 0 in the geometry"),
    "dilation of 0": Case(pool, (("dilation_w=1", "dilation_w=0"),), "dilation_w is 0 in the geometry"),
    "no channels": Case(conv, (("ic=8", "ic=0"),), "ic is 0 in the geometry"),
    "window larger than the box": Case(
        conv, (("kernel_w=3", "kernel_w=4"),), "the box of x has extent 5 in w; at least 6 for 3 windows"
    ),
    "stride that leaves the box": Case(
        pool, (("stride_h=2", "stride_h=3"),), "the box of x has extent 5 in h; at least 6 for 2 windows"
    ),
    "other number of images": Case(
        conv,
        (("walk t=t0 dim=n origin=0 extent=1", "walk t=t0 dim=n origin=0 extent=2"),),
        "x has 2 images in its box; 1 as y",
    ),
    "pooled channels": Case(
        pool,
        (("walk t=t1 dim=c origin=0 extent=8", "walk t=t1 dim=c origin=0 extent=7"),),
        "the box of x has 7 channels; 8 as y",
    ),
    "fill of an average": Case(
        partial(pool, "vavg"), (("fill=128", "fill=127"),), "x is filled with 127; the byte of a_zero, 128"
    ),
    # array
    "input channels": Case(conv, (("ic=8", "ic=7"),), "the box of x has 8 channels; 7 for 8 of y"),
    "part of a convolution group": Case(
        conv, (("oc=20", "oc=5"),), "the box of y has 8 channels; whole convolution groups of 5"
    ),
    "channels of several groups": Case(
        examples.depthwise, (("ic=1 oc=1", "ic=2 oc=1"),), "the box of x has 8 channels; 16 for 8 of y"
    ),
    "layer without plan": Case(conv, (("layer=0", "layer=1"),), "layer 1; the plan has 1"),
    "no such level": Case(
        conv, (("first=none", "first=none multipliers=0x100"),), "multipliers 0x100; bits of 8 levels"
    ),
    "no blocks": Case(conv, (("first=none", "first=none split_m=0"),), "split_m is 0"),
    "sums over an outer loop": Case(
        matmul, (("first=d2", "first=d1"),), "first names loop 1; the innermost open loop, or none"
    ),
    "sums over the level": Case(
        matmul, (("first=d2", "first=level"),), "first names loop 14; the innermost open loop, or none"
    ),
    "sums while y moves": Case(conv, (("first=none", "first=d2"),), "y moves with loop 2, over which sums accumulate"),
    "sums while acc alternates": Case(
        matmul,
        (("quant", "pointer p=p4 pad=acc addr=0 toggle=16384 mask=4\nquant"), ("acc=p3 layer", "acc=p4 layer")),
        "acc alternates with loop 2, over which sums accumulate",
    ),
    # vector unit
    "no broadcast from 2": Case(
        add,
        (("walk t=t2 dim=h origin=0 extent=1", "walk t=t2 dim=h origin=0 extent=3"),),
        "the box of b has extent 3 in h; 2 as y, or 1",
    ),
    "host segment that is not there": Case(
        examples.network, (("host 0", "host 1"),), "host segment 1; the program has 1"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refuses(name: str) -> None:
    CASES[name].check()


def test_an_average_that_stays_inside_its_view_may_have_any_fill() -> None:
    source = (
        pool("vavg").edit("origin=-1 extent=5", "origin=0 extent=5").edit("origin=-1 extent=7", "origin=0 extent=7")
    )
    rejected(source.edit("fill=128", "fill=9"), "x is filled with 9")  # h and w still end beyond it
    builder = Builder()
    x, y = builder.input("x", (1, 7, 7, 8)), builder.tensor("y", (1, 3, 3, 8))
    builder.pool("vavg", x, y, (1, 3, 3, 8))
    builder.output(y)
    source = builder.source().edit("dim=h origin=-1", "dim=h origin=0").edit("dim=w origin=-1", "dim=w origin=0")
    Case(
        lambda: source.edit("fill=128", "fill=9"), (("fill=9", "fill=8"), ("kernel_h=3", "kernel_h=0")), "kernel"
    ).check()


def test_an_unknown_term_format_does_not_decode() -> None:
    with pytest.raises(MalformedError, match="format"):
        examples.convolution().edit("p=p1 format=plain", "p=p1 format=short").program()
