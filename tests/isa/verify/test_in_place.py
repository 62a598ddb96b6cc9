"""Each rule about a loop nest that stores where it loads."""

from __future__ import annotations

from mmac.isa.verify import verify
from tests.isa.build import Builder
from tests.isa.source import Source
from tests.isa.verify.rejection import rejected


def rewriting(extra: str = "") -> Source:
    """A table whose result takes the place of its operand; an `extra` load joins the loop."""
    builder = Builder()
    x, y = builder.input("x", (1, 4, 4, 8)), builder.tensor("y", (1, 4, 4, 8))
    builder.lookup(x, y, (1, 2, 4, 8))
    builder.lookup(y, y, (1, 2, 4, 8))
    builder.output(y)
    source = builder.source()
    return source.edit("store t=t0", f"{extra}store t=t0", 1) if extra else source


def test_each_box_back_in_its_place() -> None:
    verify(rewriting().program())
    inside = "(store) of node 'table1': it stores to DRAM bytes that instruction…(load) of node 'table1' loads"
    moved = ["walk t=t0 dim=h origin=0 extent=2 step=2 loop=d0", "walk t=t1 dim=h origin=0 extent=2 step=2 loop=d0"]
    # another box of the same bytes; boxes that overlap; boxes that come back in every iteration of a loop
    rejected(rewriting().edit(moved[1], moved[1].replace("origin=0", "origin=1"), 1), inside)
    source = rewriting()
    for old in moved:
        source = source.edit(old, old.replace("step=2", "step=1"), 1)
    rejected(source, inside)
    source = rewriting()
    for old in moved:
        source = source.edit(old, old.replace("step=2 loop=d0", "step=0 loop=none").replace("extent=2", "extent=4"), 1)
    rejected(source, inside)
    rejected(rewriting().edit("stride t=t1 n=128 h=32 w=8 c=1", "stride t=t1 n=128 h=32 w=4 c=2", 1), inside)


def test_a_store_in_place_waits_for_its_load() -> None:
    """The extra load gets the same box into another scratchpad, and nobody waits for it."""
    pointer = "pointer p=p5 pad=aux addr=0 toggle=0 mask=0 phase=0\n"
    load = "load t=t1 p=p5\n"
    source = rewriting(load).edit("loop 2", f"{pointer}loop 2", 1)
    rejected(
        source,
        "(store) of node 'table1': it overwrites the DRAM bytes that instruction…(load) of node 'table1' may still be"
        " loading; a token from it first",
    )
    waited = source.edit(load, "load t=t1 p=p5 signal=20\nsync.store wait=20\n")
    verify(waited.program())


COPY = """\
tensor t=t7 base={} elem=1 fill=0
shape t=t7 n=1 h=4 w=4 c=16
stride t=t7 n=256 h=64 w=16 c=1
walk t=t7 dim=h origin=0 extent=2 step=2 loop=d0
pointer p=p5 pad=aux addr=0 toggle=0 mask=0 phase=0
loop 2
"""


def product_in_place() -> Source:
    """A 1 x 1 convolution whose result takes the place of its operand, which a second load copies elsewhere."""
    builder = Builder()
    x, copy = builder.input("x", (1, 4, 4, 16)), builder.tensor("copy", (1, 4, 4, 16))
    builder.array(x, x, tile=(1, 2, 4, 16))
    builder.output(copy)
    source = builder.source().edit("loop 2\n", COPY.format(copy.base))
    store = "store.acc t=t3 acc=p3 prm=p2 wait=9 signal=8\n"
    after = "sync.load signal=20\nstore t=t7 p=p5 wait=20 signal=21\nsync.load wait=21\n"
    return source.edit(store, f"load t=t0 p=p5\n{store}{after}")


def test_a_store_of_sums_in_place_waits_for_its_load() -> None:
    source = product_in_place()
    rejected(
        source,
        "(store.acc)…overwrites the DRAM bytes that instruction…(load) may still be loading; a token from it first",
    )
    verify(source.edit("load t=t0 p=p5\n", "load t=t0 p=p5 signal=22\nsync.store wait=22\n").program())
