"""What the passes give, as text, ONNX and JSON: for `mmac inspect` and the dumps of `mmac compile`."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import onnx_ir as ir

from mmac.compiler.graph.budget import ALPHA, BETA, LEVELS, ORIGIN
from mmac.compiler.graph.edit import SOURCE
from mmac.compiler.graph.group_budgets import GROUPS, limits_of
from mmac.compiler.graph.layers import weight_rows
from mmac.compiler.graph.partition import REASON, UNIT
from mmac.compiler.graph.text import to_text as graph_text
from mmac.compiler.passes import Pass
from mmac.compiler.tile.ir import TileProgram
from mmac.compiler.tile.text import to_text as tile_text
from mmac.isa.asm import disassemble
from mmac.isa.errors import UsageError
from mmac.isa.files import write_file
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.program import Program

Stage = ir.Model | TileProgram | Program


def to_text(stage: Stage) -> str:
    """A stage for people: graph, tile IR or assembly text, without weights and other bulk data."""
    match stage:
        case ir.Model():
            return graph_text(stage)
        case TileProgram():
            return tile_text(stage)
        case Program():
            return disassemble(stage, data=False)


def to_onnx(stage: Stage) -> bytes:
    """The file content of a graph stage.

    Raises:
        UsageError: a later stage, which is no ONNX model any more, or a model above protobuf's limit of 2 GB.
    """
    if not isinstance(stage, ir.Model):
        raise UsageError("--format onnx", "the tile IR and the program are no ONNX models", "passes up to terms")
    try:
        content: bytes = ir.serde.serialize_model(stage).SerializeToString(deterministic=True)
    except ValueError as error:
        raise UsageError("--format onnx", f"the model cannot be one file: {error}", "at most 2 GB") from None
    return content


def to_json(stage: Stage, target: str | None = None) -> dict[str, Any]:
    """A stage as JSON types: the nodes of a graph, the operations of a tile program, or counts of a program.

    Args:
        stage: what a pass gave.
        target: needed for a program whose target is not a packaged one.
    """
    match stage:
        case ir.Model():
            return {
                "model": stage.graph.name,
                "metadata": dict(sorted(stage.metadata_props.items())),
                "inputs": [_value(value) for value in stage.graph.inputs],
                "outputs": [_value(value) for value in stage.graph.outputs],
                "nodes": [_node(node) for node in stage.graph],
            }
        case TileProgram():
            return {
                "model": stage.name,
                "levels": [str(level) for level in stage.plan.levels],
                "operations": [{"name": op.name, "op": op.kind} for op in stage.operations],
                "buffers": [{"name": b.name, "size_bytes": b.size_bytes, "base": b.base} for b in stage.buffers],
            }
        case Program():
            from mmac.compiler.pipeline import describe

            return describe(stage, target)


def plan_table(model: ir.Model) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the plan: what each array layer does at each level, and who says so.

    Each row begins with the layer's position, as in budget files. ``≤ 12x2 (8.3)`` stands for groups with budgets of
    their own: at most 12 terms, 8.3 on average.
    """
    levels = model.metadata_props[LEVELS].split(",")
    table: list[tuple[str, ...]] = []
    for node in (node for node in model.graph if ALPHA in node.metadata_props):
        metadata = node.metadata_props
        pairs = zip(metadata[ALPHA].split(","), metadata[BETA].split(","), strict=True)
        cells = [f"{alpha}x{beta}" for alpha, beta in pairs]
        if GROUPS in metadata:
            rows = weight_rows(node)
            limits = limits_of(node, len(levels), len(rows), -(-rows.shape[1] // GROUP_SIZE))
            means = [] if limits is None else limits.mean(axis=(1, 2)).tolist()
            cells = [f"≤ {cell} ({mean:.1f})" for cell, mean in zip(cells, means, strict=True)]
        table.append((f"#{len(table)}", node.name or "", *cells, metadata[ORIGIN]))
    return ("", "layer", *levels, "from"), table


def _value(value: ir.Value) -> dict[str, Any]:
    shape = None if value.shape is None else [d if isinstance(d, int) else d.value for d in value.shape]
    return {"name": value.name, "dtype": value.dtype.name.lower() if value.dtype else None, "shape": shape}


def _node(node: ir.Node) -> dict[str, Any]:
    about: dict[str, Any] = {
        "name": node.name,
        "op": f"{node.domain}.{node.op_type}" if node.domain else node.op_type,
        "inputs": [value.name if value is not None else "" for value in node.inputs],
        "outputs": [_value(value) for value in node.outputs],
    }
    labels = {"unit": UNIT, "reason": REASON, "source": SOURCE, "alpha": ALPHA, "beta": BETA, "budget_from": ORIGIN}
    return about | {label: node.metadata_props[key] for label, key in labels.items() if key in node.metadata_props}


def describe_pass(step: Pass[Any, Any]) -> dict[str, Any]:
    """Name of a pass, what it does (from its module's first line) and the names of its options."""
    first_line = (sys.modules[type(step).__module__].__doc__ or "").strip().partition("\n")[0]
    return {
        "name": step.name,
        "does": first_line.partition(": ")[2].rstrip("."),
        "options": [option.name for option in dataclasses.fields(step)],  # type: ignore[arg-type]
    }


class Dump:
    """An observer of `compile_model` that writes every stage into a folder.

    Graph stages become ONNX files (``03_budget.onnx``), tile stages text (``06_tile.txt``), the program assembly
    (``10_emit.s``).

    Raises:
        UsageError: the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._count = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                str(folder), f"cannot be made a folder ({error.strerror})", "a folder", "give another name"
            ) from None

    def __call__(self, name: str, stage: Stage) -> None:
        """Write what the pass `name` gave."""
        suffix = {ir.Model: "onnx", TileProgram: "txt", Program: "s"}[type(stage)]
        content = to_onnx(stage) if suffix == "onnx" else to_text(stage)
        write_file(self.folder / f"{self._count:02}_{name}.{suffix}", content)
        self._count += 1
