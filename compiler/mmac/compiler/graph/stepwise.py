"""A model run step by step on many samples, in several variants side by side, with only the live values in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from mmac.compiler.graph.bodies import DOMAIN
from mmac.compiler.graph.constants import is_constant
from mmac.compiler.graph.edit import Array, all_operands, leaves
from mmac.compiler.graph.execute import part, session

Values = list[Array]
"""One value: for each variant an array [samples, *shape]. Variants that are equal so far share one array."""
Layer = Callable[[ir.Node, Values], Values]
"""What an array layer makes of its data."""


def walk(model: ir.Model, feeds: Sequence[Mapping[str, Array]], variants: int, layer: Layer) -> dict[str, Values]:
    """Run `model` from its inputs to its outputs.

    Args:
        model: an exact model (after `terms`).
        feeds: the inputs of each sample.
        variants: how many there are.
        layer: computes Conv and MatMul of the domain ``mmac``; onnxruntime everything else.

    Returns:
        The outputs of the model.
    """
    values: dict[str, Values] = {name: [np.stack([feed[name] for feed in feeds])] * variants for name in feeds[0]}
    steps = _steps(model.graph)
    last = {name: number for number, step in enumerate(steps) for name in _names(_read(step))}
    kept = _names(model.graph.outputs)
    for number, step in enumerate(steps):
        if is_layer(step[0]):
            values[_name(step[0].outputs[0])] = layer(step[0], values[_name(step[0].inputs[0])])
        else:
            values.update(_run(model, step, values))
        for name in [name for name in values if last.get(name, number) <= number and name not in kept]:
            del values[name]
    return {name: values[name] for name in kept}


def is_layer(node: ir.Node) -> bool:
    """Whether the array computes a node of a partitioned model."""
    return node.domain == DOMAIN and node.op_type in ("Conv", "MatMul")


def _steps(graph: ir.Graph) -> list[list[ir.Node]]:
    """The nodes in order: array layers alone, what lies between them together."""
    steps: list[list[ir.Node]] = []
    for node in graph:
        if not steps or is_layer(node) or is_layer(steps[-1][0]):
            steps.append([])
        steps[-1].append(node)
    return steps


def _read(step: Sequence[ir.Node]) -> list[ir.Value]:
    """Run-time values that nodes read and do not make."""
    inside = set(step)
    read = dict.fromkeys(value for node in step for value in all_operands(node))
    return [value for value in read if value.producer() not in inside and not is_constant(value)]


def _run(model: ir.Model, step: Sequence[ir.Node], values: Mapping[str, Values]) -> dict[str, Values]:
    """What onnxruntime makes of some nodes, sample by sample."""
    inside = set(step)
    outputs = [value for node in step for value in node.outputs if leaves(value, inside)]
    inputs, names = _names(_read(step)), _names(outputs)
    runner = session(part(model, inputs, names))
    done: dict[tuple[int, ...], list[Array]] = {}
    made: dict[str, Values] = {name: [] for name in names}
    for arrays in zip(*(values[name] for name in inputs), strict=True):
        key = tuple(map(id, arrays))
        if key not in done:
            samples = zip(*(map(_sample, array) for array in arrays), strict=True)
            feeds = [dict(zip(inputs, sample, strict=True)) for sample in samples]
            made_of = [runner.run(names, feed) for feed in feeds]
            done[key] = [_stacked(column) for column in zip(*made_of, strict=True)]
        for name, array in zip(names, done[key], strict=True):
            made[name].append(array)
    return made


def _sample(value: Any) -> Any:
    """A sequence as it is, all else as an array: numpy takes numbers out of vectors as scalars."""
    return value if isinstance(value, list) else np.asarray(value)


def _stacked(column: Sequence[Any]) -> Any:
    """[samples, …]; sequences stay a list."""
    return list(column) if isinstance(column[0], list) else np.stack(column)


def _names(values: Sequence[ir.Value]) -> list[str]:
    return [_name(value) for value in values]


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""
