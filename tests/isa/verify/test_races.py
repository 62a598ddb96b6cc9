"""Each rule about the order of events on scratchpads and DRAM."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from mmac.isa.verify import verify
from tests.isa import examples
from tests.isa.build import Builder
from tests.isa.source import Source
from tests.isa.verify.rejection import Case, rejected

conv, matmul, add = examples.convolution, examples.matrix_product, examples.addition


def chain(box: tuple[int, int, int, int] = (1, 1, 4, 8)) -> Source:
    """Two tables, one after the other."""
    builder = Builder()
    x = builder.input("x", (1, 4, 4, 8))
    y, z = (builder.tensor(name, x.shape) for name in "yz")
    builder.lookup(x, y, box)
    builder.lookup(y, z, box)
    builder.output(z)
    return builder.source()


AUX_SLOT = "pointer p=p3 pad=aux addr={} toggle=4096 mask=2 phase={}\nquant"
OTHER_WALK = """\
tensor t=t4 base=65776 elem=1 fill=0
shape t=t4 n=1 h=6 w=5 c=20
stride t=t4 n=600 h=100 w=20 c=1
walk t=t4 dim=h origin=2 extent=4
walk t=t4 dim=w origin=0 extent=3 step=3 loop=d2
walk t=t4 dim=c origin=0 extent=8 step=8 loop=d0
quant"""

LATE_STORES = """\
loop 3
loop 2
loop 2
store.acc t=t3 acc=p3 prm=p2
end
end
end
"""

READS = {
    "operand that nothing loaded": Case(
        add,
        (("pb=p2 out", "pb=p3 out"), ("quant", "pointer p=p3 pad=aux addr=1000\nquant")),
        "instruction 39 (vadd) of node 'add0': it reads bytes 1000 … 1002 of the AUX scratchpad;"
        " bytes that one earlier instruction has written",
    ),
    "operand that is loaded in part": Case(
        add,
        (("pb=p2 out", "pb=p3 out"), ("quant", AUX_SLOT.format(1, 0))),
        "it reads bytes 1 … 3 of the AUX scratchpad; bytes that",
    ),
    "slots out of step": Case(
        add,
        (("pb=p2 out", "pb=p3 out"), ("quant", AUX_SLOT.format(0, 1))),
        "it reads bytes 4096 … 4098 of the AUX scratchpad; bytes that",
    ),
    "operand not waited for": Case(
        add,
        (("p=p2 wait=2 signal=1", "p=p2 wait=2"), ("p=p1 wait=0", "p=p1 wait=0 signal=1")),
        "it reads bytes 0 … 2 of the AUX scratchpad, which instruction 37 (load) of node 'add0' may still be writing;"
        " a token from it first",
    ),
    "result not waited for": Case(
        add,
        (
            ("wait=1,10 signal=0,11", "wait=1,10 signal=0"),
            ("wait=11 signal=10", "signal=10"),
        ),
        "it reads bytes 0 … 23 of the OUT scratchpad, which instruction 38 (vadd) of node 'add0' may still be writing",
    ),
    "weights not waited for": Case(
        matmul,
        (
            ("p=p1 format=plain wait=3 signal=4", "p=p1 format=plain wait=3"),
            ("wait=1,4 signal=0,3", "wait=1 signal=0,3"),
        ),
        "of the WGT scratchpad, which instruction 50 (load.terms) of node 'conv0' may still be writing",
    ),
    "constants not waited for": Case(
        conv,
        (("store.acc", "load.params t=t2 p=p2\nstore.acc"),),
        "it reads bytes 0 … 63 of the PRM scratchpad,"
        " which instruction 52 (load.params) of node 'conv0' may still be writing",
    ),
    "sums not waited for": Case(
        conv,
        (("wait=1,8 signal=0,9", "wait=1,8 signal=0"), ("wait=9 signal=8", "signal=8")),
        "it reads bytes 0 … 383 of the ACC scratchpad,"
        " which instruction 51 (mmac) of node 'conv0' may still be writing",
    ),
}

OVERWRITES = {
    "operand that is still being read": Case(
        add,
        (("p=p1 wait=0", "p=p1"), ("wait=1,10 signal=0,11", "wait=1,10 signal=11")),
        "it overwrites bytes 0 … 23 of the ACT scratchpad while the compute queue may still read them;"
        " a token from the compute queue first",
    ),
    "result that is still being stored": Case(
        add,
        (("wait=1,10 signal=0,11", "wait=1 signal=0,11"), ("wait=11 signal=10", "wait=11")),
        "it overwrites bytes 0 … 23 of the OUT scratchpad while the store queue may still read them",
    ),
    "sums that are still being stored": Case(
        conv,
        (("wait=1,8 signal=0,9", "wait=1 signal=0,9"), ("wait=9 signal=8", "wait=9")),
        "it overwrites bytes 0 … 383 of the ACC scratchpad while the store queue may still read them",
    ),
    "one slot with credits for two": Case(
        add,
        (("pad=act addr=0 toggle=8192 mask=2", "pad=act addr=0 toggle=8192 mask=0"),),
        "it overwrites bytes 0 … 23 of the ACT scratchpad while the compute queue may still read them",
    ),
    "one slot of weights": Case(
        conv,
        (("pad=wgt addr=0 toggle=16384 mask=1", "pad=wgt addr=0 toggle=16384 mask=0"),),
        "of the WGT scratchpad while the compute queue may still read them",
    ),
    "constants that the other queue loads": Case(
        conv,
        (("sync.store wait=6", "load t=t2 p=p2\nsync.store wait=6"),),
        "instruction 47 (load) of node 'conv0': it overwrites bytes 0 … 63 of the PRM scratchpad,"
        " which instruction 45 (load.params) of node 'conv0' may still be writing",
    ),
    "activations that the other queue loads": Case(
        conv,
        (("mmac x=t0", "load.params t=t2 p=p0\nmmac x=t0"),),
        "(load.params) of node 'conv0': it overwrites bytes 0 … 239 of the ACT scratchpad,"
        " which instruction 50 (load) of node 'conv0' may still be writing",
    ),
    "slots that overlap": Case(
        add,
        (("pad=act addr=0 toggle=8192", "pad=act addr=0 toggle=16"),),
        "it overwrites bytes 0 … 23 of the ACT scratchpad while the compute queue may still read them",
    ),
    "slots that follow another loop": Case(
        conv,
        (("pad=act addr=0 toggle=8192 mask=4", "pad=act addr=0 toggle=8192 mask=2"),),
        "it overwrites bytes 0 … 239 of the ACT scratchpad while the compute queue may still read them",
    ),
    "phase not carried on to the next operation": Case(
        chain,
        (("pad=prm addr=2048 toggle=256 mask=0 phase=1", "pad=prm addr=2048 toggle=256 mask=0 phase=0"),),
        "(load.params) of node 'table1': it overwrites bytes 2048 … 2303 of the PRM scratchpad while the compute queue",
    ),
}

CONTENTS = {
    "weights from within a tile": Case(
        conv,
        (("wgt=p1 acc", "wgt=p5 acc"), ("quant", "pointer p=p5 pad=wgt addr=1 toggle=16384 mask=1\nquant")),
        "wgt points 1 bytes into what instruction 45 (load.terms) of node 'conv0' wrote; the start of a weight tile",
    ),
    "constants of other elements": Case(
        conv,
        (
            ("elem=8", "elem=4"),
            ("shape t=t2 n=1 h=1 w=1 c=20", "shape t=t2 n=1 h=1 w=1 c=40"),
            ("stride t=t2 n=160 h=160 w=160 c=8", "stride t=t2 n=160 h=160 w=160 c=4"),
            ("walk t=t2 dim=c origin=0 extent=8 step=8", "walk t=t2 dim=c origin=0 extent=16 step=16"),
        ),
        "its constants are elements of 4 bytes, by instruction 45 (load.params) of node 'conv0';"
        " elements of 8 bytes: bias and scale",
    ),
    "sums stored with another walk": Case(
        conv,
        (("store.acc t=t3", "store.acc t=t4"), ("quant", OTHER_WALK)),
        "the box of t is not that of y in instruction 57 (mmac) of node 'conv0', whose sums it reads;"
        " the same sizes and walk, in the same iteration",
    ),
    "sums of an iteration that is over": Case(
        conv,
        (
            (
                "sync.store signal=14\nsync.compute",
                f"sync.store signal=14\n{LATE_STORES}sync.compute",
            ),
        ),
        "instruction 62 (store.acc): the box of t is not that of y in instruction 51 (mmac) of node 'conv0'",
    ),
    "sums begun by another instruction": Case(
        matmul,
        (
            ("mmac x=t0", "mmac x=t0 y=t3 act=p0 wgt=p1 acc=p3 layer=0 wait=1,4\nmmac x=t0"),
            ("wait=1,4 signal=0,3", "signal=0,3"),
        ),
        "instruction 52 (mmac) of node 'conv0': it adds to bytes 0 … 255 of the ACC scratchpad;"
        " sums that it has begun itself in iteration 0",
    ),
}


@pytest.mark.parametrize("name", READS)
def test_reads(name: str) -> None:
    READS[name].check()


@pytest.mark.parametrize("name", OVERWRITES)
def test_overwrites(name: str) -> None:
    OVERWRITES[name].check()


@pytest.mark.parametrize("name", CONTENTS)
def test_contents(name: str) -> None:
    CONTENTS[name].check()


def test_tables_are_waited_for() -> None:
    rejected(
        chain().edit("sync.compute wait=15\n", "", 0).edit(" signal=15", "", 0),
        "(vtable) of node 'table0': it reads bytes 2048 … 2303 of the PRM scratchpad,"
        " which instruction 28 (load.params) of node 'table0' may still be writing",
    )


def test_a_host_segment_is_known_to_all_queues() -> None:
    """After it, the weights queue may overwrite what the compute queue has read before."""

    def source(*, hosted: bool) -> Source:
        builder = Builder()
        x = builder.input("x", (1, 1, 1, 8))
        y, z = (builder.tensor(name, x.shape) for name in "yz")
        builder.lookup(x, y, x.shape)
        if hosted:
            builder.host([y], [y])
        builder.lookup(y, z, x.shape)
        builder.output(z)
        same_slot = builder.source().edit("pad=prm addr=2048 toggle=256 mask=0 phase=1", "pad=prm addr=2048")
        without_credits = re.sub(r"sync\.\w+ (signal|wait)=7(,7)?\n| wait=7(?= )", "", same_slot.text)
        return replace(same_slot, text=without_credits)

    verify(source(hosted=True).program())
    rejected(
        source(hosted=False),
        "(load.params) of node 'table1': it overwrites bytes 2048 … 2303 of the PRM scratchpad"
        " while the compute queue may still read them",
    )


@pytest.mark.parametrize("box", [(1, 1, 4, 8), (1, 4, 4, 8)])
def test_loads_wait_for_earlier_stores(box: tuple[int, int, int, int]) -> None:
    """In loops, and in straight code where every instruction is a node of its own."""
    source = chain(box)
    verify(source.program())
    loose = source.edit("sync.store signal=14\n", "", 1).edit("sync.load wait=14\n", "", 1)
    rejected(
        loose,
        "(load) of node 'table1': it loads DRAM bytes of instruction…(store) of node 'table0',"
        " which may not be over; a token from it first",
    )


def test_stores_wait_for_earlier_loads() -> None:
    source = chain((1, 4, 4, 8)).edit("pointer p=p2", "pointer p=p5 pad=act addr=4096\npointer p=p2", 1)
    late = "load t=t1 p=p5\nstore t=t1 p=p0\nsync.compute wait=8,8\n"
    rejected(
        source.edit("sync.compute wait=8,8\n", late),
        "instruction 66 (store): it overwrites DRAM bytes of instruction 65 (load), which may not be over",
    )


def test_the_rest_of_an_overwritten_slot_is_not_readable() -> None:
    """Two loads overlap: what is left of the first is not all that its reader reads."""
    source = chain((1, 4, 4, 8)).edit(
        "load t=t1 p=p1 wait=0 signal=1\n", "load t=t1 p=p1 wait=0\nload t=t2 p=p3 signal=1\n", 0
    )
    source = source.edit("pointer p=p2", "pointer p=p3 pad=act addr=100\npointer p=p2", 0)
    rejected(source, "(vtable) of node 'table0': it reads bytes 0 … 127 of the ACT scratchpad; bytes that one earlier")


def test_a_loop_that_does_not_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmac.isa.verify.races.MAX_ITERATIONS", 1)
    rejected(
        examples.convolution(),
        "the use of scratchpads has not settled after 2 iterations; a loop whose iterations repeat",
    )
