"""Where each node of a model would run, and why: what `mmac check` prints."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from mmac.compiler.frontend.checks import unknown_operators
from mmac.compiler.frontend.read import read_model
from mmac.compiler.graph.edit import SOURCE
from mmac.compiler.graph.partition import REASON, UNIT
from mmac.compiler.passes import MmacWarning
from mmac.compiler.pipeline import Options, Progress, run_passes

FATES = ("array", "vector", "folded", "host", "refused")
"""On the array, on the vector unit, without work at run time, in onnxruntime on the host, or not at all."""

_COPIES = frozenset(("Concat", "Pad", "Resize"))
"""Layout operators that move bytes; the others only change addresses."""

_HINTS = (
    (r"shape .* not known before run time", "give every input dimension a number with --dim"),
    (r"product of two run-time tensors", "the array multiplies by constant weights only; onnxruntime computes this"),
    (r"computed at run time", "make it an initializer of the model"),
    (r"is (float16|double|bfloat16)", "export the model in float32"),
    (r"is (u?int\d+|bool), not float", "indices and conditions stay on the host; onnxruntime computes this exactly"),
    (r"neither the array nor the vector unit", "onnxruntime computes it, at no loss of accuracy"),
    (r"comes from the host", "it would run on the machine if what computes its operand did"),
    (r"conversion between integers", "it disappears together with the host operator beside it"),
    (r"ceil_mode or auto_pad", "export it with explicit pads"),
    (r"block-quantized|another axis|has several scales", "quantize per tensor, and weights per output channel"),
    (r"weights minus their zero point", "quantize the weights to int8 without zero point"),
    (r"not quantized|not per tensor to 8 bits|without being quantized", "quantize operands and result to 8 bits"),
)
"""What would help, by what the reason says."""


@dataclass(frozen=True)
class Fate:
    """What becomes of one node.

    Attributes:
        node, op: name and operator in the ONNX file.
        fate: one of `FATES`.
        reason: why, or as part of what.
        hint: what would help, if something would.
    """

    node: str
    op: str
    fate: str
    reason: str = ""
    hint: str = ""


def check_model(
    model: str | Path,
    dims: Mapping[str, int] | None = None,
    progress: Progress | None = None,
    *,
    max_memory: int | None = None,
) -> list[Fate]:
    """The fate of every node of an ONNX file.

    If some are refused, only those are listed: the passes that decide about the others cannot run.

    Args:
        model: path of the file.
        dims: numbers for symbolic input dimensions.
        progress: called when a pass begins.
        max_memory: most bytes that a value of the model may have; None for this machine's memory.

    Raises:
        MmacError: the file is not a valid model, or cannot be compiled for another reason than its operators.
    """
    refused = unknown_operators(read_model(Path(model)))
    if refused:
        reason, hint = (
            "onnxruntime does not know the operator",
            "export it as ONNX operators or as a model-local function",
        )
        return [Fate(node.name or "", _operator(node), "refused", reason, hint) for node in refused]
    stages: dict[str, ir.Model] = {}
    with warnings.catch_warnings():
        # ranges decide nothing here, so it does not matter that they come from no data
        warnings.simplefilter("ignore", MmacWarning)
        run_passes(model, Options(dims=dims or {}, max_memory=max_memory), "partition", progress, stages.__setitem__)
    into = {
        source: node for node in stages["partition"].graph for source in node.metadata_props.get(SOURCE, "").split(";")
    }
    kept = {node.metadata_props.get(SOURCE, "").partition(";")[0] for node in stages["fold"].graph}
    return [_fate(node, into.get(node.name or ""), node.name in kept) for node in stages["import"].graph]


def _fate(node: ir.Node, into: ir.Node | None, kept: bool) -> Fate:
    """The fate of a node that has become (part of) `into`, after (`kept`) or during the pass `fold`."""
    name, op = node.name or "", _operator(node)
    if into is None:
        return Fate(name, op, "folded", "computed while compiling, or part of its neighbours")
    if not kept:
        return Fate(name, op, "folded", f"merged into {into.name}")
    unit, reason = into.metadata_props[UNIT], into.metadata_props.get(REASON, "")
    if unit == "host":
        hint = next((hint for pattern, hint in _HINTS if re.search(pattern, reason)), "")
        return Fate(name, op, "host", reason, hint)
    if unit == "io":
        return Fate(name, op, "folded", "the runtime converts inputs and outputs")
    if unit == "layout":
        if into.op_type in _COPIES:
            return Fate(name, op, "vector", "a copy unless its operands can be written in place")
        return Fate(name, op, "folded", "only changes addresses")
    return Fate(name, op, unit, "" if into.name == name else f"part of {into.name}")


def _operator(node: ir.Node) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type
