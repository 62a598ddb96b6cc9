"""Pass `reorder`: output channels that keep many terms come first, so that like ones share weight tiles."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.bodies import DOMAIN
from mmac.compiler.graph.budget import ALPHA
from mmac.compiler.graph.constants import constant_of, is_constant
from mmac.compiler.graph.edit import Array, Editor, all_operands, attribute, operand, remove_unused
from mmac.compiler.graph.group_budgets import GROUPS, limits_of, limits_text
from mmac.compiler.graph.level_constants import BIAS, SCALE, from_metadata, to_metadata
from mmac.compiler.passes import Pass
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.terms import group_term_count

Order = Array
"""Blocks of 16 channels in their new order."""

_WEIGHTS, _BIAS, _SCALE = 2, 3, 4
"""Operands of an exact Conv or MatMul."""


@dataclass(frozen=True)
class Reorder(Pass[ir.Model, ir.Model]):
    """Sort the channels of inner tensors by the terms that they keep, in blocks of a group.

    All cells that work on a tile wait for its largest group. Where groups differ (budgets of their own, or levels that
    keep more than most groups have), tiles of like channels wait less. The layers that write a tensor get their output
    channels in the new order, those that read it their input channels. As whole groups move, every sum stays the same.

    Needs: an exact model.

    Guarantees: the same results. Tensors whose channels have moved have new names. Nothing changes where all groups
    keep equally many terms, nor the channels of what leaves the device or is reshaped.

    Before: ``y = mmac.Conv(x, …, w)``, ``z = mmac.Conv(y, …, v)``.
    After: ``y_reordered = mmac.Conv(x, …, w[order])``, ``z = mmac.Conv(y_reordered, …, v[:, order])``.

    Args:
        enabled: False leaves the model alone.
    """

    name: ClassVar[str] = "reorder"
    enabled: bool = True

    def apply(self, model: ir.Model, /) -> ir.Model:
        """The model with its channels sorted."""
        result = model.clone()
        if not self.enabled:
            return result
        spaces = _Spaces(result.graph)
        orders: dict[ir.Value | None, Order] = {}
        for space, layers in spaces.layers.items():
            if (order := _order(layers)) is not None:
                orders[space] = order
        editor = Editor(result)
        for node in list(result.graph):
            if _is_layer(node):
                _permute(editor, node, orders.get(spaces.of(operand(node, 0))), orders.get(spaces.of(node.outputs[0])))
        for value in [value for node in result.graph for value in node.outputs]:
            if spaces.of(value) in orders:
                value.name = editor.fresh(f"{value.name}_reordered")
        remove_unused(result)
        return result


class _Spaces:
    """Which values have to have their channels in one order: a space; those that cannot move have none."""

    def __init__(self, graph: ir.Graph) -> None:
        self._parent: dict[ir.Value, ir.Value] = {}
        self._fixed: set[ir.Value] = set()
        producers: list[ir.Node] = []
        for value in (*graph.inputs, *graph.outputs):
            self._fix(value)
        for node in graph:
            moving = [value for value in all_operands(node) if not is_constant(value)]
            tied = [*moving, *node.outputs]
            if _is_layer(node):
                producers.append(node)
                self._layer(node)
            elif node.domain != DOMAIN or len({_form(value) for value in tied}) > 1 or _has_vectors(node):
                self._fix(*tied)
            else:
                self._tie(*tied)
        self.layers: dict[ir.Value, list[ir.Node]] = defaultdict(list)
        for node in producers:
            if (space := self.of(node.outputs[0])) is not None:
                self.layers[space].append(node)

    def of(self, value: ir.Value) -> ir.Value | None:
        """The space of a value, by one of its values."""
        root = self._root(value)
        return None if root in self._fixed else root

    def _layer(self, node: ir.Node) -> None:
        x, y = operand(node, 0), node.outputs[0]
        if _is_depthwise(node):
            self._tie(x, y)
        elif attribute(node, "group", 1) > 1 or _axis(node) is None:
            self._fix(x, y)
        for value in (x, y):
            if (_channels(value) or 1) % GROUP_SIZE:
                self._fix(value)

    def _tie(self, first: ir.Value, *others: ir.Value) -> None:
        for other in others:
            a, b = self._root(first), self._root(other)
            if a is not b:
                self._parent[b] = a
                if b in self._fixed:
                    self._fixed.add(a)

    def _fix(self, *values: ir.Value) -> None:
        self._fixed.update(map(self._root, values))

    def _root(self, value: ir.Value) -> ir.Value:
        parent = self._parent.setdefault(value, value)
        while parent is not value:
            value, parent = parent, self._parent[parent]
        return value


def _is_layer(node: ir.Node) -> bool:
    return node.domain == DOMAIN and node.op_type in ("Conv", "MatMul")


def _is_depthwise(node: ir.Node) -> bool:
    group: int = attribute(node, "group", 1)
    return group == _channels(operand(node, 0)) == _channels(node.outputs[0]) != 1


def _axis(node: ir.Node) -> int | None:
    """Axis of the output channels in the weights; None if the channels are not the second axis of the result."""
    if node.op_type == "Conv":
        return 0
    return 1 if len(static_shape(node.outputs[0]) or ()) == 2 else None


def _channels(value: ir.Value) -> int | None:
    shape = static_shape(value) or ()
    return shape[1] if len(shape) > 1 else None


def _form(value: ir.Value) -> tuple[int, int | None]:
    """Rank and channels; of operands of another rank, broadcasting takes another axis for the channels."""
    return len(static_shape(value) or ()), _channels(value)


def _has_vectors(node: ir.Node) -> bool:
    """Whether an elementwise operator has a constant with a number for each channel."""
    if node.op_type not in ("Add", "Mul"):
        return False
    constants = (constant_of(value) for value in all_operands(node))
    return any(array is not None and array.size > 1 for array in constants)


def _rows(node: ir.Node) -> Array:
    """Weights [O, K] of an exact layer."""
    weights = constant_of(operand(node, _WEIGHTS))
    if weights is None:
        raise ValueError(f"node {node.name} has no constant weights")
    rows: Array = np.moveaxis(weights, 1, -1).reshape(len(weights), -1) if node.op_type == "Conv" else weights.T
    return rows


def _limits(node: ir.Node, rows: Array) -> Array | None:
    levels = node.metadata_props[ALPHA].count(",") + 1
    return limits_of(node, levels, len(rows), -(-rows.shape[1] // GROUP_SIZE))


def terms_of_channels(node: ir.Node) -> Array:
    """Terms of the largest group of each output channel of an exact layer at each level, [levels, O]."""
    rows = _rows(node)
    limits, count = _limits(node, rows), group_term_count(rows)
    alphas = [int(alpha) for alpha in node.metadata_props[ALPHA].split(",")]
    kept = np.minimum(count, np.reshape(alphas, (-1, 1, 1)) if limits is None else limits)
    most: Array = kept.max(axis=2)
    return most


def _order(layers: list[ir.Node]) -> Order | None:
    """Blocks by the terms that all layers of a space keep at all levels, most first; None if that changes nothing."""
    kept = np.sum([terms_of_channels(node) for node in layers], axis=0)
    blocks = kept.reshape(len(kept), -1, GROUP_SIZE).max(axis=2).sum(axis=0)
    order = np.argsort(-blocks, kind="stable")
    return None if (order == np.arange(len(order))).all() else order


def _elements(order: Order) -> Array:
    elements: Array = np.add.outer(order * GROUP_SIZE, np.arange(GROUP_SIZE)).ravel()
    return elements


def _permute(editor: Editor, node: ir.Node, inputs: Order | None, outputs: Order | None) -> None:
    """Bring the channels of a layer's operands into their new orders."""
    rows, out = _rows(node), _axis(node) or 0
    limits = _limits(node, rows)
    changed: dict[int, Array] = {}
    if outputs is not None:
        channels = _elements(outputs)
        for position, axis in ((_WEIGHTS, out), (_BIAS, 0), (_SCALE, 0)):
            array = constant_of(operand(node, position))
            if array is not None:
                changed[position] = array.take(channels, axis)
        for key in (BIAS, SCALE):
            of_levels = from_metadata(node, key, node.metadata_props[ALPHA].count(",") + 1, len(rows))
            if of_levels is not None:
                node.metadata_props[key] = to_metadata(of_levels[:, channels], key)
        limits = None if limits is None else limits[:, channels]
    if inputs is not None and not _is_depthwise(node):
        weights = changed.get(_WEIGHTS, constant_of(operand(node, _WEIGHTS)))
        if weights is not None:
            changed[_WEIGHTS] = weights.take(_elements(inputs), 1 - out)
        if limits is not None:
            taps = limits.reshape(*limits.shape[:2], -1, len(inputs))
            limits = taps[..., inputs].reshape(limits.shape)
    for position, array in changed.items():
        node.replace_input_with(position, editor.constant(array, f"{operand(node, position).name}_reordered"))
    if limits is not None:
        node.metadata_props[GROUPS] = limits_text(limits)
