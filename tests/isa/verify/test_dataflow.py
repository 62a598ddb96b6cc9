"""Each rule about what has been written to DRAM when it is read."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from mmac.isa.errors import ResourceError
from mmac.isa.program import Place, Port
from mmac.isa.verify import verify
from tests.isa import examples
from tests.isa.build import Builder
from tests.isa.source import Source, Tensor
from tests.isa.verify.rejection import rejected

HALF = (256, 64, 16, 1)
"""Strides of one half of the channels of a 4 × 4 × 16 tensor."""


def concatenation(channels: int = 8, first: int = 8) -> Source:
    """Tables write two parts of each pixel's channels; a move reads all 16."""
    builder = Builder()
    x = builder.input("x", (1, 4, 4, 8))
    both = builder.tensor("both", (1, 4, 4, 16))
    builder.lookup(x, Tensor("", both.base, x.shape, HALF), (1, 2, 4, 8))
    builder.lookup(x, Tensor("", both.base + first, (1, 4, 4, channels), HALF), (1, 2, 4, channels))
    y = builder.tensor("y", both.shape)
    builder.move(both, y, (1, 2, 4, 16))
    builder.output(y)
    return builder.source()


def dense_block(first: int = 8) -> Source:
    """A table reads one half of each pixel's channels and writes the other half in between."""
    builder = Builder()
    both = builder.tensor("both", (1, 4, 4, 16))
    x = builder.input("x", (1, 4, 4, 8))
    half = Tensor("", both.base, x.shape, HALF)
    builder.lookup(x, half, (1, 2, 4, 8))
    builder.lookup(half, dataclasses.replace(half, base=both.base + first), (1, 2, 4, 8))
    y = builder.tensor("y", x.shape)
    builder.move(half, y, (1, 2, 4, 8))
    builder.output(y)
    return builder.source()


def scattered(step: int) -> Source:
    """A move that touches two rows of every `step`."""
    builder = Builder()
    x, y = builder.input("x", (1, 8, 4, 8)), builder.tensor("y", (1, 8, 4, 8))
    builder.move(x, y, (1, 2, 4, 8))
    builder.output(y)
    old, new = (f"walk t=t1 dim=h origin=0 extent=2 step={s} loop=d0" for s in (2, step))
    return builder.source().edit(old, new).edit("loop 4", f"loop {8 // step}")


def test_nothing_wrote_it() -> None:
    rejected(
        examples.addition().edit("base=65536", "base=65662"),
        "instruction 36 (load) of node 'add0': it loads DRAM bytes 0x1007e … 0x100f5, not all of which have been"
        " written; bytes of the image, an input, or something stored before",
    )


def test_one_byte_beyond_the_input() -> None:
    rejected(examples.addition().edit("base=65656", "base=65657"), "it loads DRAM bytes 0x10079 … 0x1007e")


def test_one_byte_before_the_first_activation() -> None:
    source = examples.addition()
    verify(source.edit("base=65536", "base=65535").program())  # part of the image
    rejected(
        source.change(image=source.rest.image[:65535]).edit("base=65536", "base=65535"), "it loads DRAM bytes 0xffff"
    )


def test_interleaved_parts() -> None:
    verify(concatenation().program())
    rejected(concatenation(channels=7), "(load) of node 'move2': it loads DRAM bytes 0x10080 … 0x1017f, not all")
    rejected(
        concatenation(first=9, channels=7), "(load) of node 'move2': it loads DRAM bytes 0x10080 … 0x1017f, not all"
    )


def test_reading_and_writing_in_place() -> None:
    verify(dense_block().program())
    rejected(
        dense_block(first=7),
        "(store) of node 'table1': it stores to DRAM bytes that instruction…(load) of node 'table1' loads",
    )


def test_stores_with_gaps() -> None:
    verify(scattered(2).program())
    rejected(scattered(4), "output 'y': not all of it has been written by then; a whole tensor")


def test_an_operation_does_not_feed_itself() -> None:
    """Rows that a loop has just stored cannot be loaded in the same nest."""
    builder = Builder()
    x = builder.input("x", (1, 1, 4, 8))
    y = builder.tensor("y", (1, 3, 4, 8))
    previous = Tensor("", x.base, y.shape, y.strides)
    builder.move(previous, y, (1, 1, 4, 8))
    builder.output(y)
    assert y.base == x.base + 32  # the view of x runs on into y
    rejected(builder.source(), "it loads DRAM bytes 0x10000 … 0x1005f, not all of which have been written")


# --------------------------------------------------------------------------------------------------- host, in and out


def hosted(missing: bool = False) -> Source:
    builder = Builder()
    x, y, z = (builder.tensor(name, (1, 4, 4, 8)) for name in "xyz")
    shape = builder.tensors[0].shape
    builder.inputs.append(Port("x", "float32", shape, ("x",)))
    if not missing:
        builder.lookup(x, y, (1, 2, 4, 8))
    builder.host([y], [z])
    builder.output(z)
    return builder.source()


def test_host_segments() -> None:
    verify(hosted().program())
    rejected(
        hosted(missing=True), "instruction 16 (host) of node 'host0', input 'y': not all of it has been written by then"
    )


def test_tensors_that_only_the_host_has() -> None:
    source = hosted()
    away = tuple(dataclasses.replace(t, place=None) if t.name == "z" else t for t in source.rest.tensors)
    verify(source.change(tensors=away).program())
    gone = (dataclasses.replace(source.rest.host[0], outputs=()),)
    rejected(source.change(tensors=away, host=gone), "output 'z': not all of it has been written by then")


def test_an_output_that_nothing_writes() -> None:
    builder = Builder()
    builder.input("x", (1, 4, 4, 8))
    builder.output(builder.tensor("y", (1, 4, 4, 8)))
    rejected(builder.source(), "output 'y': not all of it has been written by then")


def _move_tensor(source: Source, name: str, base: int, strides: tuple[int, ...] | None = None) -> Source:
    tensors = tuple(
        dataclasses.replace(t, place=Place(base, strides or t.place.strides)) if t.name == name and t.place else t
        for t in source.rest.tensors
    )
    return source.change(tensors=tensors)


@pytest.mark.parametrize("base", [65535, 0])
def test_inputs_stay_out_of_the_image(base: int) -> None:
    rejected(
        _move_tensor(examples.addition(), "b", base), "inputs: tensor 'b': it overlaps itself or the read-only image"
    )


def test_inputs_do_not_overlap() -> None:
    rejected(
        _move_tensor(examples.addition(), "b", 65655), "inputs: tensor 'b': it overlaps tensor 'a'; bytes of its own"
    )


def test_inputs_do_not_overlap_themselves() -> None:
    rejected(_move_tensor(examples.addition(), "a", 65536, (120, 0, 24, 6)), "inputs: tensor 'a': it overlaps itself")


def test_more_memory_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("mmac.isa.verify.dataflow.np", SimpleNamespace(zeros=full, bool_=bool))
    rejected(examples.addition(), "DRAM: 65782 bytes; what this machine has free", ResourceError)
