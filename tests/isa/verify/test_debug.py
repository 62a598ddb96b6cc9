"""Each rule about the tensors that debug entries name."""

from __future__ import annotations

import dataclasses

import pytest

from mmac.isa.verify import verify
from tests.isa.build import Builder
from tests.isa.source import Source
from tests.isa.verify.rejection import rejected


def tables(output: str = "y", *, shift: int = 0, rows: int = 2) -> Source:
    """Two tables, the first of which completes a tensor; its debug entry ends `shift` instructions later."""
    builder = Builder()
    x = builder.input("x", (1, 4, 4, 8))
    y, z = (builder.tensor(name, x.shape) for name in "yz")
    builder.lookup(x, y, (1, rows, 4, 8))
    builder.lookup(y, z, (1, 4, 4, 8))
    builder.output(z)
    source = builder.source()
    first, second = source.rest.debug
    first = dataclasses.replace(first, stop=first.stop + shift, outputs=(output,))
    return source.change(debug=(first, dataclasses.replace(second, outputs=("z",))))


@pytest.mark.parametrize("rows", [2, 4])
@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 9])
def test_entries_end_after_a_nest(rows: int, shift: int) -> None:
    """The table's nest ends in two synchronisations; the next one begins with registers."""
    verify(tables(shift=shift, rows=rows).program())


@pytest.mark.parametrize(("rows", "shift"), [(2, -4), (2, -5), (4, -3), (4, -4), (4, -6), (4, -22), (2, 21), (4, 24)])
def test_entries_that_end_elsewhere(rows: int, shift: int) -> None:
    """Inside the loop, before the store, before everything, among the instructions of the next table."""
    rejected(
        tables(shift=shift, rows=rows),
        "debug entry of node 'table0': it ends before instruction…, with outputs; the end of a loop nest, after…",
    )


def test_entries_without_outputs_may_end_anywhere() -> None:
    source = tables()
    bare = tuple(dataclasses.replace(entry, stop=entry.start + 3, outputs=()) for entry in source.rest.debug)
    verify(source.change(debug=bare).program())


def test_a_nest_of_several_stores_ends_after_the_last() -> None:
    source = tables(rows=4)
    again = source.edit("store t=t0 p=p0 wait=11", "store t=t0 p=p0 wait=11\nstore t=t0 p=p0", 0)
    first, second = again.rest.debug

    def ends(stop: int) -> Source:
        moved = dataclasses.replace(second, start=second.start + 1, stop=second.stop + 1)
        return again.change(debug=(dataclasses.replace(first, stop=stop), moved))

    verify(ends(first.stop + 1).program())
    rejected(ends(first.stop - 2), "debug entry of node 'table0': it ends before instruction")
