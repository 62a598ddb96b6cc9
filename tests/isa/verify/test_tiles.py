"""Each rule about weight tiles: directory entries, streams, and the instructions that use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mmac.isa.plan import PAPER_LEVELS
from mmac.isa.program import directory_dtype
from mmac.isa.table import TermFormat
from mmac.isa.verify import verify
from tests.isa import examples
from tests.isa.source import Source
from tests.isa.verify.rejection import rejected

Entries = np.ndarray[Any, Any]
DIRECTORY = {TermFormat.PLAIN: 2176, TermFormat.RAW: 1920, TermFormat.CODED: 1152}


def changed(change: Callable[[Entries, Entries], None], kind: TermFormat = TermFormat.PLAIN) -> Source:
    """`examples.convolution` with its image edited: `change` gets the three directory entries and all bytes."""
    source = examples.convolution(kind=kind)
    image = source.rest.image.copy()
    base = DIRECTORY[kind]
    assert f"base={base} elem=72" in source.text
    change(image[base : base + 3 * 72].view(directory_dtype(len(PAPER_LEVELS))), image)
    return source.change(image=image)


def groups(entries: Entries, image: Entries) -> None:
    entries["groups"][1] = 39


def alpha(entries: Entries, image: Entries) -> None:
    entries["level"]["alpha"][2, 4] -= 1


def prefix(entries: Entries, image: Entries) -> None:
    entries["level"]["bytes"][1, 2] += 1


def top(entries: Entries, image: Entries) -> None:
    entries["level"]["bytes"][0, 7] += 1


def count(entries: Entries, image: Entries) -> None:
    image[entries["offset"][0]] -= 1


def many(entries: Entries, image: Entries) -> None:
    image[entries["offset"][1] + 3] = 65


def order(entries: Entries, image: Entries) -> None:
    start = entries["offset"][1] + entries["groups"][1]
    image[[start, start + 1]] = image[[start + 1, start]]


def shifted(entries: Entries, image: Entries) -> None:
    entries["offset"][2] += 1


STREAM = "(load.terms) of node 'conv0': a weight tile: "


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (groups, "it loads a tile of 39 groups for instruction 51 (mmac) of node 'conv0'; 40: 5 × 8 channels"),
        (alpha, "a directory entry says alpha 13 at level 4; 14 as its stream"),
        (prefix, "a directory entry says bytes …at level 2; "),
        (top, STREAM),
        (count, STREAM),
        (many, f"{STREAM}a group of 65 terms; at most 64"),
        (order, f"{STREAM}terms that are not the ranked signed digits of weights; what encode writes"),
        (shifted, STREAM),
    ],
)
def test_plain(change: Callable[[Entries, Entries], None], said: str) -> None:
    rejected(changed(change), said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (groups, "it loads a tile of 39 groups"),
        (alpha, "a directory entry says alpha 13 at level 4; 14 as its stream"),
        (top, f"{STREAM}641 bytes; 640 bytes"),
    ],
)
def test_raw(change: Callable[[Entries, Entries], None], said: str) -> None:
    rejected(changed(change, TermFormat.RAW), said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (groups, "it loads a tile of 39 groups"),
        (alpha, "a directory entry says alpha 13 at level 4; 14 as its stream"),
        (prefix, "a directory entry says bytes …at level 2; "),
        (top, STREAM),
        (count, STREAM),
        (shifted, STREAM),
    ],
)
def test_coded(change: Callable[[Entries, Entries], None], said: str) -> None:
    rejected(changed(change, TermFormat.CODED), said)


def test_a_raw_prefix_is_the_whole_tile() -> None:
    def shorter(entries: Entries, image: Entries) -> None:
        entries["level"]["bytes"][1, :2] -= 1

    rejected(changed(shorter, TermFormat.RAW), "a directory entry says bytes 639 at level 0; 640 as its stream")


def test_any_raw_bytes_are_weights() -> None:
    def noise(entries: Entries, image: Entries) -> None:
        image[: 3 * 640] = np.tile(np.arange(256), 8)[: 3 * 640]
        entries["level"]["alpha"] = np.minimum([level.alpha for level in PAPER_LEVELS], 64)

    source = changed(noise, TermFormat.RAW)
    verify(source.program())


def test_the_format_is_that_of_the_stream() -> None:
    for own in TermFormat:
        source = examples.convolution(kind=own)
        for other in set(TermFormat) - {own}:
            text = source.text.replace(f"format={own.name.lower()}", f"format={other.name.lower()}")
            rejected(replace(source, text=text), STREAM)


def test_load_and_mmac_agree_on_the_format() -> None:
    source = examples.convolution()
    load = next(line for line in source.text.splitlines() if line.startswith("load.terms"))
    said = "(load.terms) of node 'conv0': it loads a raw tile for instruction 51 (mmac) of node 'conv0'; format plain"
    rejected(source.edit(load, load.replace("plain", "raw")), said)


def test_the_plan_is_that_of_the_stream() -> None:
    """The same stream under a plan of other budgets."""
    source = examples.convolution()
    low = tuple(type(level)(4, 2) for level in PAPER_LEVELS)
    layer = type(source.rest.plan.layers[0])("layer0", low)
    plan = type(source.rest.plan)(PAPER_LEVELS, (layer,))
    rejected(source.change(plan=plan), STREAM)


def test_two_instructions_may_use_one_tile() -> None:
    """Both uses are checked: here the second takes the tile for another format."""
    source = examples.convolution()
    mmac = next(line for line in source.text.splitlines() if line.startswith("mmac"))
    again = mmac.partition(" wait")[0].replace("acc=p3", "acc=p5")
    second = source.edit(mmac, f"{mmac}\n{again}").edit("quant", "pointer p=p5 pad=acc addr=8192\nquant")
    # the activations are released by the first: let the second release them
    second = second.edit("signal=0,9", "signal=9").edit(again, f"{again} signal=0")
    verify(second.program())
    rejected(second.edit("acc=p5 layer=0 format=plain", "acc=p5 layer=0 format=raw"), "it loads a plain tile for ")


def test_a_coded_tile_that_no_instruction_uses() -> None:
    """It would be decoded as it is loaded, unchecked."""
    source = examples.convolution(kind=TermFormat.CODED)
    load = next(line for line in source.text.splitlines() if line.startswith("load.terms"))
    unused = "load.terms t=t1 p=p1 format=coded"
    rejected(source.edit(load, f"{load.replace(' signal=4', '')}\n{unused} signal=4"), "no mmac uses the coded tiles")


def test_a_directory_and_its_tiles_are_in_one_memory() -> None:
    source = examples.convolution(kind=TermFormat.CODED)
    for window in ((1152, 256), (0, 1152), (960, 128)):
        rejected(
            source.change(buffer=window), "(load.terms) of node 'conv0': its directory and weight tiles are partly in"
        )
