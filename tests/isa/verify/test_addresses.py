"""Each rule about addresses: DRAM, scratchpads, directories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mmac.isa.errors import ResourceError
from mmac.isa.plan import PAPER_LEVELS
from mmac.isa.program import directory_dtype
from mmac.isa.verify import verify
from tests.isa import examples
from tests.isa.source import PADS, Source
from tests.isa.verify.rejection import Case, rejected

conv, matmul, add = examples.convolution, examples.matrix_product, examples.addition
DIRECTORY = 72 * 3
Entries = np.ndarray[Any, Any]

CASES = {
    "view that no walk exhausts": Case(
        add, (("shape t=t2 n=1 h=1", "shape t=t2 n=1 h=40"),), "t covers DRAM bytes 0x10078 … 0x10167; 0x0 … 0x100f5"
    ),
    "load beyond DRAM": Case(
        add,
        (("shape t=t1 n=1 h=5", "shape t=t1 n=1 h=6"), ("base=65536", "base=65692")),
        "instruction 36 (load) of node 'add0': t covers DRAM bytes 0x1009c … 0x1012b; 0x0 … 0x100f5, DRAM",
    ),
    "result beyond DRAM": Case(
        add,
        (("base=65662", "base=65663"),),
        "(vadd) of node 'add0': y covers DRAM bytes 0x1007f … 0x100f6; 0x0 … 0x100f5, DRAM",
    ),
    "store into the image": Case(
        add,
        (("base=65662", "base=65535"),),
        "(store) of node 'add0': t covers DRAM bytes 0xffff … 0x10076; 0x10000 … 0x100f5,"
        " DRAM above the program's read-only image",
    ),
    "store.acc into the image": Case(
        conv, (("base=65776", "base=128"),), "(store.acc) of node 'conv0': t covers DRAM bytes 0x80 … 0x2d7"
    ),
    "strides that leave DRAM": Case(
        add, (("stride t=t1 n=120 h=24", "stride t=t1 n=120 h=268435455"),), "t covers DRAM bytes 0x10000 … 0x40010013"
    ),
    "overlapping stores": Case(
        add,
        (("stride t=t0 n=120 h=24", "stride t=t0 n=120 h=23"),),
        "elements of t overlap in DRAM (strides (120, 23, 6, 1)); stores to distinct bytes",
    ),
    "stores to one byte": Case(
        add, (("stride t=t0 n=120 h=24 w=6 c=1", "stride t=t0 n=120 h=24 w=6 c=0"),), "elements of t overlap in DRAM"
    ),
    "first slot too large": Case(
        conv,
        (("pad=act addr=0 toggle=8192", "pad=act addr=16145 toggle=0"),),
        "240 bytes at 16145 and 16145 of the ACT scratchpad; it has 16384 bytes",
    ),
    "second slot too large": Case(
        conv,
        (("toggle=8192", "toggle=16777215"),),
        "240 bytes at 0 and 16777215 of the ACT scratchpad; it has 16384 bytes",
    ),
    "sums between words": Case(
        conv, (("pad=acc addr=0", "pad=acc addr=2"),), "acc is at [2, 16386] of ACC; multiples of 4"
    ),
    "constants between words": Case(
        conv, (("toggle=1024", "toggle=1023"),), "prm is at [0, 1023] of PRM; multiples of 4"
    ),
    "directory after the image": Case(
        conv,
        (("base=2176 elem=72", "base=65400 elem=72"),),
        "(load.terms) of node 'conv0': t covers DRAM bytes 0xff78 … 0x1004f; 0x0 … 0xffff, the program's image",
    ),
    "constants after the image": Case(
        conv,
        (("base=2432 elem=8", "base=65400 elem=8"),),
        "(load.params) of node 'conv0': t covers DRAM bytes 0xff78 … 0x10017; 0x0 … 0xffff, the program's image",
    ),
    "directory entry before the first": Case(
        conv,
        (("walk t=t1 dim=h origin=0", "walk t=t1 dim=h origin=-1"),),
        "it selects directory entries -1 … -1; 0 … 0",
    ),
    "directory entry after the last": Case(
        conv,
        (("shape t=t1 n=1 h=1 w=1 c=3", "shape t=t1 n=1 h=1 w=1 c=2"),),
        "it selects directory entries 0 … 2; 0 … 1",
    ),
    "directory entries by the level": Case(
        conv,
        (("walk t=t1 dim=h origin=0 extent=1\n", "walk t=t1 dim=h origin=0 extent=1 step=1 loop=level\n"),),
        "it selects directory entries 0 … 7; 0 … 0",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refuses(name: str) -> None:
    CASES[name].check()


def test_a_load_may_miss_its_view() -> None:
    """Then it fetches the fill byte only and touches no DRAM."""
    verify(conv().edit("dim=h origin=-1", "dim=h origin=-100").program())


def test_scratchpads_that_are_too_small() -> None:
    source = examples.convolution()
    for name, size, said in (
        ("act", 8192 + 239, "240 bytes at 0 and 8192 of the ACT scratchpad; it has 8431 bytes"),
        ("wgt", 16384, "of the WGT scratchpad; it has 16384 bytes"),
        ("prm", 1024 + 63, "64 bytes at 0 and 1024 of the PRM"),
        ("acc", 16384 + 383, "384 bytes at 0 and 16384 of the ACC"),
    ):
        rejected(source.change(scratchpads={**PADS, name: size}), said)


# ------------------------------------------------------------------------------------------------------- directories


def _change(source: Source, change: Callable[[Entries], None]) -> Source:
    """Edit the three directory entries of `examples.convolution`."""
    image = source.rest.image.copy()
    change(image[2176 : 2176 + DIRECTORY].view(directory_dtype(len(PAPER_LEVELS))))
    return source.change(image=image)


def _beyond(entries: Entries) -> None:
    entries["offset"][1] = 65536 - entries["level"]["bytes"][1, 7] + 1


def _far_beyond(entries: Entries) -> None:
    entries["offset"][2] = 2**32 - 1


def _shrinking(entries: Entries) -> None:
    entries["level"]["bytes"][1, 3] = entries["level"]["bytes"][1, 2] - 1


def _empty(entries: Entries) -> None:
    entries["level"]["bytes"][2] = 0


def _huge(entries: Entries) -> None:
    entries["level"]["bytes"][0, 7] = 2**32 - 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_beyond, "the directory entry at 0x8c8 has a weight tile that ends beyond the program image; up to 0x10000"),
        (_far_beyond, "the directory entry at 0x910 has a weight tile that ends beyond"),
        (_huge, "the directory entry at 0x880 has a weight tile that ends beyond"),
        (_shrinking, "the directory entry at 0x8c8 has prefixes that get shorter from one level to the next"),
        (_empty, "the directory entry at 0x910 has an empty weight tile; 1 byte or more"),
    ],
)
def test_directory_entries(change: Callable[[Entries], None], said: str) -> None:
    rejected(_change(examples.convolution(), change), f"(load.terms) of node 'conv0': {said}")


def test_a_tile_larger_than_its_pad() -> None:
    def long(entries: Entries) -> None:
        entries["offset"][0], entries["level"]["bytes"][0, 7] = 0, 16385

    rejected(
        _change(examples.convolution(), long), "16385 bytes at 0 and 16384 of the WGT scratchpad; it has 32768 bytes"
    )


def test_a_directory_without_end() -> None:
    code = """\
tensor t=t9 base=2176 elem=72 fill=0
shape t=t9 n=1 h=1 w=2000 c=2000
stride t=t9 n=0 h=0 w=0 c=0
walk t=t9 dim=w origin=0 extent=1 step=1 loop=d0
walk t=t9 dim=c origin=0 extent=1 step=1 loop=d1
loop 2000
loop 2000
load.terms t=t9 p=p1
end
end
"""
    source = examples.convolution().edit("mask=1 phase=0\npointer p=p2", "mask=0 phase=0\npointer p=p2")
    source = source.edit("sync.load wait=14\nloop", f"{code}sync.load wait=14\nloop")
    rejected(source, "it walks over 4000000 directory entries; 1048576", ResourceError)
