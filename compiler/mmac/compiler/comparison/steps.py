"""The layers of a program as steps from tensor to tensor, each with its counterpart in the reference model."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.constants import is_constant
from mmac.compiler.graph.edit import Array, all_operands
from mmac.compiler.graph.execute import part, session
from mmac.compiler.graph.integers import FLOAT
from mmac.compiler.graph.stepwise import is_layer
from mmac.isa.program import Program, TensorInfo


@dataclass(frozen=True)
class Step:
    """From tensors that are known to the next one.

    Attributes:
        layer: name of the node that makes the tensor.
        op: its operator.
        tensor: name of the program's tensor (or output), which is that of the value in the exact model.
        reference: name of the value in the reference model that it stands for.
        inputs: values of the exact model that it is computed from: tensors of earlier steps, or model inputs.
        reference_inputs: values of the reference model that `reference` is computed from.
        reference_tensors: the tensors that stand for these.
        size_bytes: of the tensor.
        is_layer: a Conv or MatMul on the array.
        is_output: an output of the model, as the user gets it.
    """

    layer: str
    op: str
    tensor: str
    reference: str
    inputs: tuple[str, ...]
    reference_inputs: tuple[str, ...]
    reference_tensors: tuple[str, ...]
    size_bytes: int
    is_layer: bool
    is_output: bool


def plan_steps(exact: ir.Model, reference: ir.Model, program: Program) -> list[Step]:
    """All steps in the order of the exact model; the outputs last.

    A tensor without a counterpart of its shape in the reference model lies inside a step.
    """
    return _Planner(exact, reference, program).steps()


class _Planner:
    def __init__(self, exact: ir.Model, reference: ir.Model, program: Program) -> None:
        self._exact, self._program = exact, program
        self._theirs = ir.convenience.create_value_mapping(reference.graph)
        self._known = {value.name or "" for value in exact.graph.inputs}
        self._stands_for = {name: name for name in self._known}
        """Tensor by the value of the reference model that it stands for."""

    def steps(self) -> list[Step]:
        steps: list[Step] = []
        for value in _tensors(self._exact, self._program):
            name = _counterpart(value, self._theirs)
            if name is not None and static_shape(self._theirs[name]) == static_shape(value):
                steps.append(self._step(value, self._theirs[name], is_output=False))
                self._known.add(value.name or "")
                self._stands_for[name] = value.name or ""
        outputs = [(value, self._theirs[value.name or ""]) for value in self._exact.graph.outputs]
        return steps + [self._step(value, theirs, is_output=True) for value, theirs in outputs]

    def _step(self, value: ir.Value, theirs: ir.Value, *, is_output: bool) -> Step:
        node = value.producer()
        reference_inputs = tuple(_cut(theirs, self._stands_for))
        size = math.prod(static_shape(value) or ()) * (value.dtype.itemsize if value.dtype else 4)
        return Step(
            layer=(node.name if node is not None else value.name) or "",
            op=node.op_type if node is not None else "Identity",
            tensor=value.name or "",
            reference=theirs.name or "",
            inputs=tuple(_cut(value, self._known)),
            reference_inputs=reference_inputs,
            reference_tensors=tuple(self._stands_for[name] for name in reference_inputs),
            size_bytes=int(size),
            is_layer=node is not None and is_layer(node) and not is_output,
            is_output=is_output,
        )


def _tensors(exact: ir.Model, program: Program) -> Iterator[ir.Value]:
    """What the program holds as numbers, apart from mere conversions to float, in topological order."""
    for node in exact.graph:
        for value in node.outputs:
            info = program.tensor.get(value.name or "")
            if info is not None and node.op_type != "DequantizeLinear" and _is_number(info):
                yield value


def _is_number(info: TensorInfo) -> bool:
    return info.scale is not None or np.issubdtype(info.dtype, np.floating)


def _counterpart(value: ir.Value, theirs: dict[str, ir.Value]) -> str | None:
    """The value of the reference model by the same name, or that an integer value stands for."""
    dequantized = [user.outputs[0].name for user in value.consumers() if user.op_type == "DequantizeLinear"]
    for name in (value.name, value.metadata_props.get(FLOAT), *dequantized):
        if name in theirs:
            return name
    return None


def _cut(value: ir.Value, known: Container[str]) -> list[str]:
    """The nearest known values that `value` is computed from; itself, if it is known."""
    found: dict[str, None] = {}
    seen: set[ir.Value] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if each in seen or is_constant(each):
            continue
        seen.add(each)
        node = each.producer()
        if each.name in known:
            found[each.name or ""] = None
        elif node is not None:
            waiting += reversed(all_operands(node))
    return list(found)


class Piece:
    """Part of a model, from some values to another, in onnxruntime."""

    def __init__(self, model: ir.Model, inputs: Sequence[str], output: str) -> None:
        self._inputs, self._output = inputs, output
        self._position = inputs.index(output) if output in inputs else None
        if self._position is None:
            self._session = session(part(model, inputs, [output]))

    def run(self, arrays: Sequence[Array]) -> Array:
        """The output [samples, *shape], from arrays [samples, *shape] of the inputs in their order."""
        if self._position is not None:
            return arrays[self._position]
        results = [
            self._session.run([self._output], dict(zip(self._inputs, map(np.asarray, sample), strict=True)))[0]
            for sample in zip(*arrays, strict=True)
        ]
        return np.stack(results)
