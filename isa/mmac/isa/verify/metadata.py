"""Proof that everything around the code is consistent: sizes, plan, tensors, ports, host segments, debug map."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from mmac.isa.errors import ResourceError, VerificationError
from mmac.isa.plan import MAX_ALPHA, MAX_BETA, MAX_LEVELS, Level
from mmac.isa.program import DTYPES, Port, Program, TensorInfo
from mmac.isa.table import Pad
from mmac.isa.verify.reach import reach_of

MAX_DRAM_BYTES = 1 << 32
"""What the base addresses of tensor registers can reach."""

MAX_PAD_BYTES = 1 << 25
"""What the addresses of pointer registers can reach: 24 bits of address and of slot distance."""

BUFFER_ALIGN = 64
"""The on-chip buffer begins and ends at a multiple of this, so that no word of it is half in DRAM."""


def check_metadata(program: Program) -> None:
    """Check all that is not code.

    Raises:
        VerificationError: names that are missing or taken twice, values out of range.
        ResourceError: more memory than addresses can reach.
    """
    _check_memory(program)
    _check_plan(program)
    _check_predictions(program)
    _check_tensors(program)
    for kind, ports in (("input", program.inputs), ("output", program.outputs)):
        _check_names(kind, [port.name for port in ports])
        for port in ports:
            _check_port(program, f"{kind} {port.name!r}", port)
            _require(kind == "input" or len(port.tensors) == 1, f"output {port.name!r}",
                     f"{len(port.tensors)} tensors", "one")  # fmt: skip
    for number, segment in enumerate(program.host):
        for name in (*segment.inputs, *segment.outputs):
            _require(
                name in program.tensor, f"host segment {number}", f"unknown tensor {name!r}", "tensors of the program"
            )
    _check_debug(program)


def _require(condition: bool, where: str, found: str, allowed: str) -> None:
    if not condition:
        raise VerificationError(where, found, allowed)


def _check_names(kind: str, names: Sequence[str]) -> None:
    for name, same in itertools.groupby(sorted(names)):
        _require(len(list(same)) == 1, f"{kind} {name!r}", "the name is taken twice", "distinct names")


def _check_memory(program: Program) -> None:
    image, dram = program.image, program.dram_bytes
    _require(
        image.ndim == 1 and image.dtype == np.uint8,
        "image",
        f"{image.dtype} of {image.ndim} dimensions",
        "uint8 of one",
    )
    if dram > MAX_DRAM_BYTES:
        raise ResourceError("DRAM", f"{dram} bytes", f"at most {MAX_DRAM_BYTES}")
    _require(image.size <= dram, "DRAM", f"{dram} bytes", f"at least the {image.size} of the image")
    _check_buffer(*program.buffer, dram)
    names = {pad.name.lower() for pad in Pad}
    _require(
        program.scratchpads.keys() == names, "scratchpads", ", ".join(program.scratchpads), ", ".join(sorted(names))
    )
    for name, size in program.scratchpads.items():
        if not 0 <= size <= MAX_PAD_BYTES:
            raise ResourceError(f"scratchpad {name}", f"{size} bytes", f"0 … {MAX_PAD_BYTES}")


def _check_buffer(base: int, size: int, dram: int) -> None:
    _require(base >= 0 and size >= 0 and base + size <= dram, "on-chip buffer", f"{size} bytes at {base}",
             f"bytes within 0 … {dram}, all that the program uses")  # fmt: skip
    _require(base % BUFFER_ALIGN == 0 and size % BUFFER_ALIGN == 0, "on-chip buffer", f"{size} bytes at {base}",
             f"multiples of {BUFFER_ALIGN}")  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- plan


def _check_plan(program: Program) -> None:
    levels = program.plan.levels
    _require(1 <= len(levels) <= MAX_LEVELS, "plan", f"{len(levels)} levels", f"1 … {MAX_LEVELS}")
    _check_levels("plan", levels)
    for layer in program.plan.layers:
        where = f"plan of layer {layer.name!r}"
        _require(
            len(layer.levels) == len(levels), where, f"{len(layer.levels)} levels", f"{len(levels)} as the program"
        )
        _check_levels(where, layer.levels)


def _check_levels(where: str, levels: Sequence[Level]) -> None:
    for level in levels:
        _require(1 <= level.alpha <= MAX_ALPHA and 1 <= level.beta <= MAX_BETA, where,
                 f"alpha {level.alpha}, beta {level.beta}", f"alpha 1 … {MAX_ALPHA}, beta 1 … {MAX_BETA}")  # fmt: skip
    for low, high in itertools.pairwise(levels):
        _require(low.alpha <= high.alpha and low.beta <= high.beta, where, f"{low} is followed by {high}",
                 "alpha and beta that do not fall from one level to the next")  # fmt: skip


def _check_predictions(program: Program) -> None:
    levels, predictions = program.plan.levels, program.predictions
    _require(len(predictions) in (0, len(levels)), "predictions", f"{len(predictions)} levels",
             f"{len(levels)} as the program, or none")  # fmt: skip
    for level, prediction in zip(levels, predictions, strict=False):
        where = f"prediction of level {level}"
        for cost in (prediction.latency_ms, prediction.energy_mj):
            _require(0 <= cost < math.inf, where, f"a cost of {cost}", "a number of 0 or more")
        sqnr_db = prediction.sqnr_db
        _require(sqnr_db is None or math.isfinite(sqnr_db), where, f"{sqnr_db} dB", "a finite number, or none")
    unknown = sum(prediction.sqnr_db is None for prediction in predictions)
    _require(unknown in (0, len(predictions)), "predictions", f"{unknown} of {len(predictions)} levels without SQNR",
             "all or none")  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- tensors


def _check_tensors(program: Program) -> None:
    _check_names("tensor", [tensor.name for tensor in program.tensors])
    for tensor in program.tensors:
        where = f"tensor {tensor.name!r}"
        _require(tensor.dtype in DTYPES, where, f"dtype {tensor.dtype!r}", ", ".join(sorted(DTYPES)))
        _require(all(size >= 0 for size in tensor.shape), where, f"shape {tensor.shape}", "sizes of 0 or more")
        _check_quantization(where, tensor)
        _check_place(program, where, tensor)


def _check_quantization(where: str, tensor: TensorInfo) -> None:
    _require(
        (tensor.scale is None) == (tensor.zero_point is None), where, "only one of scale and zero point", "both or none"
    )
    if tensor.scale is None or tensor.zero_point is None:
        return
    _require(tensor.dtype in ("int8", "uint8"), where, f"a scale for {tensor.dtype}", "int8 or uint8")
    limits = np.iinfo(tensor.dtype)
    _require(0 < tensor.scale < float("inf"), where, f"scale {tensor.scale}", "a positive number")
    _require(limits.min <= tensor.zero_point <= limits.max, where, f"zero point {tensor.zero_point}",
             f"{limits.min} … {limits.max}")  # fmt: skip


def _check_place(program: Program, where: str, tensor: TensorInfo) -> None:
    place = tensor.place
    if place is None:
        return
    _require(len(place.strides) == len(tensor.shape), where, f"{len(place.strides)} strides", f"{len(tensor.shape)}")
    _require(min(place.strides, default=0) >= 0, where, f"strides {place.strides}", "0 or more")
    _require(min(tensor.shape, default=1) >= 1, where, f"shape {tensor.shape} in DRAM", "sizes of 1 or more")
    reach = reach_of(tensor)
    if reach is not None:
        _require(reach.low >= 0 and reach.high <= program.dram_bytes, where,
                 f"DRAM bytes {reach.low:#x} … {reach.high - 1:#x}", f"0x0 … {program.dram_bytes - 1:#x}")  # fmt: skip


# ------------------------------------------------------------------------------------------------------ ports, debug


def _check_port(program: Program, where: str, port: Port) -> None:
    for name in port.tensors:
        _require(name in program.tensor, where, f"unknown tensor {name!r}", "tensors of the program")
        tensor = program.tensor[name]
        _require(tensor.shape == port.shape, where, f"shape {port.shape}", f"{tensor.shape} as tensor {name!r}")
        quantized = port.dtype == "float32" and tensor.scale is not None
        _require(
            quantized or tensor.dtype == port.dtype, where, f"dtype {port.dtype}", f"{tensor.dtype} as tensor {name!r}"
        )


def _check_debug(program: Program) -> None:
    for entry in program.debug:
        where = f"debug entry of node {entry.node!r}"
        _require(0 <= entry.start <= entry.stop <= len(program.code), where,
                 f"instructions {entry.start} … {entry.stop}", f"0 … {len(program.code)}")  # fmt: skip
        for name in entry.outputs:
            found = program.tensor.get(name)
            _require(found is not None and found.place is not None, where, f"output {name!r}", "tensors in DRAM")
