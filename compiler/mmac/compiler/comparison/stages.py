"""The stages that a program went through, made again from its model and from what the program itself says.

Scales and zero points are those of the program's tensors, budgets those of its plan, biases and scales per level those
of its image; everything else follows from the model. So no calibration data are needed, and none would give the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from mmac.compiler.frontend import ImportModel, static_shape
from mmac.compiler.frontend.read import read_model
from mmac.compiler.graph import Budget, Fold, Partition, Quantize, Terms
from mmac.compiler.graph.clusters import Cluster
from mmac.compiler.graph.correct import untruncated
from mmac.compiler.graph.edit import Editor
from mmac.compiler.graph.group_budgets import GROUPS, limits_text
from mmac.compiler.graph.level_constants import BIAS, SCALE, to_metadata
from mmac.compiler.graph.qdq import Affine
from mmac.compiler.graph.quantize import run_time_values, sharing_groups
from mmac.compiler.graph.stepwise import is_layer
from mmac.isa.errors import MalformedError, MmacError, UsageError
from mmac.isa.program import Port, Program
from mmac.runtime.engines.fast.constants import channel_constants, group_alphas


@dataclass(frozen=True)
class Stages:
    """One model in several forms; names of values agree.

    Attributes:
        original: as it was imported.
        reference: folded, with the arithmetic of the original (float or the user's QDQ).
        outlined: what the machine computes, cluster by cluster.
        full: its exact arithmetic on 8-bit integers with nothing dropped, with the model's own biases and scales.
        compiled: `outlined` with the biases and scales of the program.
    """

    original: ir.Model
    reference: ir.Model
    outlined: ir.Model
    full: ir.Model
    compiled: ir.Model

    def exact(self, level: int) -> ir.Model:
        """The exact arithmetic at a level: what the program must give, integer by integer."""
        return Terms(level).apply(self.compiled)


def stages(model: str | Path, program: Program) -> Stages:
    """Make the stages again.

    Raises:
        MalformedError: the program was not compiled from this model.
        UsageError: its channels were reordered.
        MmacError: whatever `compile_model` finds wrong with the model.
    """
    if moved := next((name for name in program.tensor if name.endswith("_reordered")), None):
        raise UsageError(
            f"program {program.name}", f"its channels were sorted, such as those of {moved!r}",
            "a program compiled without --reorder, which gives the same results",
        )  # fmt: skip
    original = ImportModel(_dims(model, program)).apply(model)
    _check_ports(str(model), original.graph.inputs, program.inputs, "input")
    reference = Fold().apply(original)
    budgets = {
        layer.name: {"alpha": [own.alpha for own in layer.levels], "beta": [own.beta for own in layer.levels]}
        for layer in program.plan.layers
    }
    planned = Budget(program.plan.levels, budgets)
    quantized = QuantizeAs(program=program).apply(reference)
    try:
        outlined = Partition().apply(planned.apply(quantized))
    except UsageError as error:  # a layer of the plan that the model does not have
        raise _another(str(model), f"{error.where}: {error.found}") from None
    _check_ports(str(model), outlined.graph.outputs, program.outputs, "output")
    _check_layers(str(model), outlined, program)
    alphas = group_alphas(program)
    for node in outlined.graph:
        for key in (BIAS, SCALE, GROUPS):  # from training; the program has its own
            node.metadata_props.pop(key, None)
        if (own := alphas.get(node.name or "")) is not None:
            node.metadata_props[GROUPS] = limits_text(own)
    full = Terms().apply(untruncated(outlined))
    _check_tensors(str(model), full, program)
    return Stages(original, reference, outlined, full, _with_constants(outlined, program))


@dataclass(frozen=True)
class QuantizeAs(Quantize):
    """Quantize a float model with the scales and zero points of a program's tensors.

    Args:
        program: compiled from the same model.
    """

    program: Program | None = None

    def affines(self, model: ir.Model, clusters: list[Cluster]) -> dict[ir.Value, Affine]:
        """Parameters of every run-time value that a cluster reads or writes.

        Raises:
            MalformedError: a value that the program does not have.
        """
        editor, known = Editor(model), _encodings(self.program) if self.program else {}
        found: dict[ir.Value, Affine] = {}
        for group in sharing_groups(clusters, run_time_values(clusters)):
            # what `insert_pair` and the move of layout operations to integers call them
            names = [editor.fresh(f"{value.name}_{form}") for value in group for form in ("quantized", "integer")]
            affine = next((known[name] for name in names if name in known), None)
            if affine is None:
                raise _another(f"model {model.graph.name!r}", f"the program has no tensor for {group[0].name!r}")
            found.update(dict.fromkeys(group, affine))
        return found


def _encodings(program: Program) -> dict[str, Affine]:
    """Scale and zero point by the name of the integer value: tensors, and what host segments quantize inside."""
    inside = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for segment in program.host
        for tensor in onnx.load_from_string(segment.onnx).graph.initializer
    }
    found: dict[str, Affine] = {}
    for name, zero in inside.items():
        base = name.removesuffix("_zero_point")
        scale = inside.get(f"{base}_scale")
        if base != name and scale is not None and scale.size == zero.size == 1:
            found[f"{base}_quantized"] = Affine(np.float32(scale.item()), int(zero.item()))
    for info in program.tensors:
        if info.scale is not None:
            found[info.name] = Affine(np.float32(info.scale), info.zero_point or 0)
    return found


def _dims(model: str | Path, program: Program) -> dict[str, int]:
    """Sizes of the symbolic dimensions of the model's inputs, which are fixed in the program."""
    shapes = {port.name: port.shape for port in program.inputs}
    dims: dict[str, int] = {}
    for value in read_model(Path(model)).graph.inputs:
        size = shapes.get(value.name or "", ())
        for axis, dim in enumerate(value.shape or ()):
            if not (isinstance(dim, int) and dim >= 0) and axis < len(size):
                dims[f"{value.name}[{axis}]"] = size[axis]
    return dims


def _check_ports(model: str, values: Sequence[ir.Value], ports: Sequence[Port], kind: str) -> None:
    ours = {value.name or "": _described(value) for value in values}
    theirs = {port.name: f"{port.dtype}{list(port.shape)}" for port in ports}
    for name in dict.fromkeys([*ours, *theirs]):
        if ours.get(name) != theirs.get(name):
            found, expected = (described.get(name, "none") for described in (theirs, ours))
            raise _another(model, f"{kind} {name!r} is {found} in the program, {expected} in the model")


def _described(value: ir.Value) -> str:
    return f"{value.dtype.numpy() if value.dtype else 'unknown'}{list(static_shape(value) or ())}"


def _check_tensors(model: str, exact: ir.Model, program: Program) -> None:
    for node in exact.graph:
        for value in node.outputs:
            info = program.tensor.get(value.name or "")
            if info is not None and (found := f"{info.dtype}{list(info.shape)}") != (expected := _described(value)):
                raise _another(model, f"tensor {info.name!r} is {found} in the program, {expected} in the model")


def _check_layers(model: str, outlined: ir.Model, program: Program) -> None:
    ours = [node.name or "" for node in outlined.graph if is_layer(node)]
    theirs = [layer.name for layer in program.plan.layers]
    if missing := [name for name in ours if name not in theirs] or [name for name in theirs if name not in ours]:
        raise _another(model, f"array layer {missing[0]!r} is in one of them only")


def _with_constants(outlined: ir.Model, program: Program) -> ir.Model:
    compiled = outlined.clone()
    constants = channel_constants(program)
    for node in filter(is_layer, compiled.graph):
        if (found := constants.get(node.name or "")) is not None:
            node.metadata_props[BIAS] = to_metadata(found["bias"], BIAS)
            node.metadata_props[SCALE] = to_metadata(found["scale"], SCALE)
    return compiled


def _another(where: str, found: str) -> MmacError:
    return MalformedError(
        where, f"the program was not compiled from this model: {found}", "a model and its own program",
        "compile the model again",
    )  # fmt: skip
