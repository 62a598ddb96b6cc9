"""Each rule about what surrounds the code."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mmac.isa.errors import MmacError, ResourceError, VerificationError
from mmac.isa.plan import PAPER_LEVELS, LayerPlan, Level, Plan
from mmac.isa.program import DebugEntry, HostSegment, Place, Prediction, Program, TensorInfo
from mmac.isa.verify import verify
from tests.isa import examples
from tests.isa.source import PADS
from tests.isa.verify.rejection import rejected

Change = Callable[[Program], dict[str, Any]]


def tensor(**changes: Any) -> Change:
    """The first tensor, "x" of shape (1, 8, 6, 5), changed."""
    return lambda p: {"tensors": (dataclasses.replace(p.tensors[0], **changes), *p.tensors[1:])}


def port(kind: str, **changes: Any) -> Change:
    return lambda p: {kind: (dataclasses.replace(getattr(p, kind)[0], **changes),)}


def plan(*levels: Level, layers: tuple[Level, ...] | None = None) -> Change:
    return lambda p: {"plan": Plan(levels, (LayerPlan("layer0", levels if layers is None else layers),))}


def pads(**sizes: int) -> Change:
    return lambda p: {"scratchpads": p.scratchpads | sizes}


def debug(**changes: Any) -> Change:
    return lambda p: {"debug": (dataclasses.replace(p.debug[0], **changes),)}


def predicted(*first: Any, others: tuple[Any, ...] = (1.5, 2, None)) -> Change:
    """Predictions of all levels, that of the first with other values."""
    return lambda p: {"predictions": tuple(Prediction(*v) for v in (first, *[others] * (len(p.plan.levels) - 1)))}


NAN, INF = float("nan"), float("inf")
LOW = Level(8, 2)

CASES: dict[str, tuple[Change, str]] = {
    "image of words": (lambda p: {"image": p.image.view(np.uint16)}, "image: uint16 of 1 dimensions; uint8 of one"),
    "image of lines": (lambda p: {"image": p.image.reshape(2, -1)}, "image: uint8 of 2 dimensions"),
    "less DRAM than image": (lambda p: {"dram_bytes": 65535}, "DRAM: 65535 bytes; at least the 65536 of the image"),
    "buffer before DRAM": (
        lambda p: {"buffer": (-64, 64)},
        "on-chip buffer: 64 bytes at -64; bytes within 0 … 66376, all that the program uses",
    ),
    "buffer of less than nothing": (lambda p: {"buffer": (64, -64)}, "on-chip buffer: -64 bytes at 64; bytes within"),
    "buffer beyond DRAM": (lambda p: {"buffer": (66304, 128)}, "on-chip buffer: 128 bytes at 66304; bytes within"),
    "buffer that begins in between": (lambda p: {"buffer": (32, 64)}, "64 bytes at 32; multiples of 64"),
    "buffer that ends in between": (lambda p: {"buffer": (64, 65)}, "65 bytes at 64; multiples of 64"),
    "no accumulators": (
        lambda p: {"scratchpads": {k: v for k, v in p.scratchpads.items() if k != "acc"}},
        "scratchpads: act, aux, out, wgt, prm; acc, act, aux, out, prm, wgt",
    ),
    "another pad": (pads(cache=1), "scratchpads: act, aux, out, wgt, prm, acc, cache; "),
    "no levels": (plan(), "plan: 0 levels; 1 … 16"),
    "too many levels": (plan(*[LOW] * 17), "plan: 17 levels; 1 … 16"),
    "levels that fall": (plan(LOW, Level(7, 2)), "plan: 8x2 is followed by 7x2; alpha and beta that do not fall"),
    "level out of range": (plan(Level(65, 2)), "plan: alpha 65, beta 2; alpha 1 … 64, beta 1 … 5"),
    "no data terms": (plan(Level(8, 0)), "plan: alpha 8, beta 0"),
    "layer of other levels": (plan(*PAPER_LEVELS, layers=(LOW,)), "plan of layer 'layer0': 1 levels; 8 as the program"),
    "layer that falls": (
        plan(*PAPER_LEVELS, layers=(*PAPER_LEVELS[:7], LOW)),
        "plan of layer 'layer0': 18x3 is followed by 8x2",
    ),
    "fewer predictions than levels": (
        lambda p: {"predictions": (Prediction(1.0, 1.0),)},
        "predictions: 1 levels; 8 as the program, or none",
    ),
    "latency below 0": (predicted(-1.5, 2, None), "prediction of level 8x2: a cost of -1.5; a number of 0 or more"),
    "energy below 0": (predicted(1.5, -2.0, None), "prediction of level 8x2: a cost of -2.0; a number of 0 or more"),
    "latency that is no number": (predicted(NAN, 2, None), "prediction of level 8x2: a cost of nan; a number of 0 or"),
    "energy without end": (predicted(1.5, INF, None), "prediction of level 8x2: a cost of inf; a number of 0 or more"),
    "SQNR that is no number": (
        predicted(1.5, 2, NAN, others=(1.5, 2, 9.5)),
        "prediction of level 8x2: nan dB; a finite number, or none",
    ),
    "SQNR without end": (predicted(1.5, 2, -INF), "prediction of level 8x2: -inf dB; a finite number, or none"),
    "SQNR of one level": (predicted(1.5, 2, 9.5), "predictions: 7 of 8 levels without SQNR; all or none"),
    "tensor twice": (lambda p: {"tensors": p.tensors * 2}, "tensor 'x': the name is taken twice; distinct names"),
    "type": (tensor(dtype="object"), "tensor 'x': dtype 'object'; bool, float16"),
    "negative size": (tensor(shape=(1, 8, -6, 5)), "tensor 'x': shape (1, 8, -6, 5); sizes of 0 or more"),
    "empty in DRAM": (tensor(shape=(1, 8, 0, 5)), "tensor 'x': shape (1, 8, 0, 5) in DRAM; sizes of 1 or more"),
    "scale without zero point": (tensor(zero_point=None), "tensor 'x': only one of scale and zero point; both or none"),
    "scale of a float": (tensor(dtype="float32"), "tensor 'x': a scale for float32; int8 or uint8"),
    "scale of 0": (tensor(scale=0.0), "tensor 'x': scale 0.0; a positive number"),
    "scale without end": (tensor(scale=float("inf")), "tensor 'x': scale inf; a positive number"),
    "zero point": (tensor(zero_point=256), "tensor 'x': zero point 256; 0 … 255"),
    "strides": (tensor(place=Place(65536, (1, 1, 1))), "tensor 'x': 3 strides; 4"),
    "negative strides": (tensor(place=Place(65536, (1, 1, -1, 1))), "tensor 'x': strides (1, 1, -1, 1); 0 or more"),
    "place beyond DRAM": (
        tensor(place=Place(66200, (240, 1, 40, 8))),
        "tensor 'x': DRAM bytes 0x10298 … 0x10387; 0x0 … 0x10347",
    ),
    "place before DRAM": (tensor(place=Place(-1, (240, 1, 40, 8))), "tensor 'x': DRAM bytes -0x1 … "),
    "input of nothing": (port("inputs", tensors=("nix",)), "input 'x': unknown tensor 'nix'; tensors of the program"),
    "input of another shape": (port("inputs", shape=(1, 8, 30)), "input 'x': shape (1, 8, 30); (1, 8, 6, 5) as tensor"),
    "input of another type": (port("inputs", dtype="int8"), "input 'x': dtype int8; uint8 as tensor 'x'"),
    "input twice": (lambda p: {"inputs": p.inputs * 2}, "input 'x': the name is taken twice"),
    "output of nothing": (port("outputs", tensors=()), "output 'y': 0 tensors; one"),
    "output of two": (port("outputs", tensors=("y", "y")), "output 'y': 2 tensors; one"),
    "host input": (
        lambda p: {"host": (HostSegment(b"", ("nix",), (), ()),)},
        "host segment 0: unknown tensor 'nix'; tensors of the program",
    ),
    "debug beyond the code": (debug(stop=69), "debug entry of node 'conv0': instructions 8 … 69; 0 … 68"),
    "debug upside down": (debug(start=60, stop=59), "debug entry of node 'conv0': instructions 60 … 59"),
    "debug output": (debug(outputs=("nix",)), "debug entry of node 'conv0': output 'nix'; tensors in DRAM"),
}


@pytest.mark.parametrize("name", CASES)
def test_refuses(name: str) -> None:
    change, said = CASES[name]
    source = examples.convolution()
    verify(source.program())
    rejected(source.change(**change(source.rest)), said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dram_bytes": 2**32 + 1}, "DRAM: 4294967297 bytes; at most 4294967296"),
        ({"scratchpads": PADS | {"act": 2**25 + 1}}, "scratchpad act: 33554433 bytes; 0 … 33554432"),
        ({"scratchpads": PADS | {"aux": -1}}, "scratchpad aux: -1 bytes"),
    ],
)
def test_more_than_addresses_reach(change: dict[str, Any], said: str) -> None:
    rejected(examples.convolution().change(**change), said, ResourceError)


def test_a_debug_output_must_be_in_dram() -> None:
    source = examples.convolution()
    away = TensorInfo("away", "float32", (3,))
    entry = DebugEntry(8, 59, "conv0", "conv", 0, ("away",))
    rejected(source.change(tensors=(*source.rest.tensors, away), debug=(entry,)), "output 'away'; tensors in DRAM")


def test_empty_code() -> None:
    program = dataclasses.replace(examples.convolution().program(), code=(), debug=())
    with pytest.raises(VerificationError, match="without halt"):
        verify(program)


def test_all_errors_are_of_the_project() -> None:
    assert issubclass(VerificationError, MmacError)
    assert (VerificationError.exit_code, ResourceError.exit_code) == (6, 5)
