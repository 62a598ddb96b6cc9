"""Weights come from the one load of the same iteration, which the timing model relies on."""

from __future__ import annotations

import pytest

from mmac.isa.errors import UnsupportedError
from mmac.isa.structure import parse
from mmac.isa.verify import verify
from mmac.runtime.timing.binding import bind_weights
from tests.isa import examples
from tests.isa.build import Builder
from tests.isa.source import Source
from tests.isa.verify.rejection import rejected

SAID = "(mmac) of node 'conv0': its weights come from instruction …(load.terms) of node 'conv0'; the last load.terms"


def one_tile() -> Source:
    """All channels in one tile, two rows of tiles."""
    builder = Builder()
    x, y = builder.input("x", (1, 4, 4, 8)), builder.tensor("y", (1, 4, 4, 8))
    builder.array(x, y, tile=(1, 2, 4, 8))
    builder.output(y)
    return builder.source()


def edited(*edits: tuple[str, str]) -> Source:
    source = one_tile()
    verify(source.program())
    bind_weights(parse(source.program().code))
    for old, new in edits:
        source = source.edit(old, new)
    return source


LOAD = "load.terms t=t1 p=p1 format=plain wait=3 signal=4\n"
MMAC = "store.acc t=t3"


@pytest.mark.parametrize(
    "edits",
    {
        "another pointer": (("wgt=p1", "wgt=p5"), ("quant", "pointer p=p5 pad=wgt addr=0\nquant")),
        "another loop": ((LOAD, "sync.weights wait=3\nloop 1\nload.terms t=t1 p=p1\nend\nsync.weights signal=4\n"),),
        "a load into the other slot after it": (
            (MMAC, f"load.terms t=t1 p=p5\n{MMAC}"),
            ("quant", "pointer p=p5 pad=wgt addr=0 toggle=16384 phase=1\nquant"),
        ),
        "a load into the other slot before it": (
            (LOAD, f"{LOAD}load.terms t=t1 p=p5\n"),
            ("quant", "pointer p=p5 pad=wgt addr=16384\nquant"),
        ),
    }.values(),
)
def test_rejected_like_by_the_timing_model(edits: tuple[tuple[str, str], ...]) -> None:
    source = edited(*edits)
    rejected(source, SAID)
    with pytest.raises(UnsupportedError):
        bind_weights(parse(source.program().code))


@pytest.mark.parametrize(
    "edits",
    [
        ((LOAD, f"load.terms t=t1 p=p5\n{LOAD}"), ("quant", "pointer p=p5 pad=wgt addr=16384\nquant")),
        ((LOAD, f"{LOAD}load.terms t=t1 p=p5\n"), ("quant", "pointer p=p5 pad=wgt addr=20000\nquant")),
        (
            ("sync.compute signal=3\nsync.store", "sync.compute signal=3\nload.terms t=t1 p=p5\nsync.store"),
            ("quant", "pointer p=p5 pad=wgt addr=16384\nquant"),
        ),
    ],
)
def test_other_loads_may_stand_around(edits: tuple[tuple[str, str], ...]) -> None:
    """Before, into other slots, or after the last use."""
    source = edited(*edits)
    verify(source.program())
    bind_weights(parse(source.program().code))


@pytest.mark.parametrize("weights_outer", [True, False])
def test_what_the_compiler_emits(weights_outer: bool) -> None:
    for source in (examples.convolution, examples.matrix_product):
        program = source(weights_outer=weights_outer).program()
        verify(program)
        bind_weights(parse(program.code))
