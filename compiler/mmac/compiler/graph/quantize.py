"""Pass `quantize`: a float model becomes a QDQ model; a QDQ model keeps its scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from mmac.compiler.graph.calibrate import calibrate
from mmac.compiler.graph.clusters import Cluster, match
from mmac.compiler.graph.constants import constant_of, is_constant
from mmac.compiler.graph.edit import Array, Editor, remove_unused
from mmac.compiler.graph.qdq import Affine, dequantized_constant, insert_pair
from mmac.compiler.graph.quality import remember_original
from mmac.compiler.graph.weights import quantize_layer
from mmac.compiler.passes import Pass

CALIBRATION = "mmac.calibration"
"""Key of the model's metadata: where the ranges came from (``data``, ``synthetic`` or ``model``)."""


@dataclass(frozen=True)
class Quantize(Pass[ir.Model, ir.Model]):
    """Insert QuantizeLinear/DequantizeLinear pairs around everything that mMAC can compute.

    Needs: a folded model with static shapes.

    Guarantees: activations are uint8 (asymmetric, one scale per tensor; zero points of what array layers read, the
    model's inputs apart, as `Affine.for_terms` chooses them), weights int8 (symmetric, one scale per output channel,
    −127…127), biases int32 at the product of both scales, and no sum can overflow int32.  There is no rounding inside
    an operation and its clamp, nor inside a chain of element-wise operators.  What mMAC cannot compute stays float.  A
    model that has QuantizeLinear already keeps all its scales and zero points.

    Before: ``y = Relu(Conv(x, w, b))``.  After: ``y = DQ(Q(Relu(Conv(DQ(Q(x)), DQ(w8), DQ(b32)))))``.

    Args:
        data: calibration samples, an array [n, ...] for each input; None takes one synthetic sample and warns.
        method: how a range follows from the samples.
    """

    name: ClassVar[str] = "quantize"
    data: Mapping[str, Array] | None = None
    method: str = "minmax"

    def apply(self, model: ir.Model, /) -> ir.Model:
        """The QDQ model.

        Raises:
            MalformedError: calibration data that do not fit the model's inputs.
            UnsupportedError: a layer whose sums could overflow int32 (names node and channel).
        """
        result = model.clone()
        editor = Editor(result)
        quantized_already = any(_rounds(node) for node in result.graph)
        if quantized_already:
            origin = "model"
        else:
            origin = "synthetic" if self.data is None else "data"
            clusters = find_clusters(result.graph)
            affines = self.affines(model, clusters)
            _insert_activations(editor, clusters, affines)
        for node in list(result.graph):
            if node.op_type in ("Conv", "Gemm", "MatMul"):
                quantize_layer(editor, node, weights=not quantized_already)
        remove_unused(result)
        result.metadata_props[CALIBRATION] = origin
        remember_original(result, model)
        return result

    def affines(self, model: ir.Model, clusters: list[Cluster]) -> dict[ir.Value, Affine]:
        """Parameters of every run-time value that a cluster reads or writes."""
        values = run_time_values(clusters)
        if not values:
            return {}
        names = [value.name or "" for value in values]
        ranges = calibrate(model, names, self.data, self.method)
        affines: dict[ir.Value, Affine] = {}
        array = (cluster for cluster in clusters if cluster.operator.unit == "array")
        # the first layer keeps all terms of the model's inputs, unless a plan says otherwise
        truncated = {value for cluster in array for value in cluster.inputs if not value.is_graph_input()}
        for group in sharing_groups(clusters, values):
            low = min(ranges[value.name or ""][0] for value in group)
            high = max(ranges[value.name or ""][1] for value in group)
            choose = Affine.from_range if truncated.isdisjoint(group) else Affine.for_terms
            affines.update(dict.fromkeys(group, choose(low, high)))
        return affines


def _rounds(node: ir.Node) -> bool:
    """True for conversions of run-time values: somebody has quantized this model."""
    return node.op_type in ("QuantizeLinear", "DequantizeLinear") and not is_constant(node.outputs[0])


def find_clusters(graph: ir.Graph) -> list[Cluster]:
    """The operations of a float graph that will run on integers, in topological order.

    Array layers always; a vector or layout operation if all that it reads is integer anyway, because quantizing
    the result of a host operator just to add to it would cost accuracy and gain nothing.
    """
    claimed: set[ir.Node] = set()
    found: list[Cluster] = []
    for node in reversed(graph):
        if node not in claimed and isinstance(cluster := match(node), Cluster):
            claimed.update(cluster.nodes)
            found.append(cluster)
    integer = set(graph.inputs)
    kept: list[Cluster] = []
    for cluster in reversed(found):
        if cluster.operator.unit == "array" or all(v in integer or is_constant(v) for v in cluster.inputs):
            kept.append(cluster)
            integer.update(cluster.outputs)
    return _without_idle_layout(kept)


def _without_idle_layout(clusters: list[Cluster]) -> list[Cluster]:
    """Leave out layout operations between a graph input and the host: they would only round."""
    anchored: set[ir.Value] = set()
    for cluster in clusters:
        if cluster.operator.unit != "layout" or anchored.intersection(cluster.inputs):
            anchored.update(cluster.outputs)
    kept: list[Cluster] = []
    read: set[ir.Value] = set()
    for cluster in reversed(clusters):
        if read.intersection(cluster.outputs) or anchored.intersection(cluster.outputs):
            read.update(cluster.inputs)
            kept.insert(0, cluster)
    return kept


def run_time_values(clusters: list[Cluster]) -> list[ir.Value]:
    """All that the clusters read and write, constants left out, each once."""
    values: dict[ir.Value, None] = {}
    for cluster in clusters:
        for value in (*cluster.inputs, *cluster.outputs):
            if not is_constant(value):
                values[value] = None
    return list(values)


def sharing_groups(clusters: list[Cluster], values: list[ir.Value]) -> list[list[ir.Value]]:
    """Values that must have the same scale: what goes into and comes out of pooling and layout operations."""
    leader = {value: value for value in values}

    def find(value: ir.Value) -> ir.Value:
        while leader[value] is not value:
            leader[value] = leader[leader[value]]
            value = leader[value]
        return value

    for cluster in clusters:
        if cluster.operator.shares_scale:
            first = find(cluster.inputs[0])
            for value in (*cluster.inputs[1:], *cluster.outputs):
                leader[find(value)] = first
    groups: dict[ir.Value, list[ir.Value]] = {}
    for value in values:
        groups.setdefault(find(value), []).append(value)
    return list(groups.values())


def _insert_activations(editor: Editor, clusters: list[Cluster], affines: dict[ir.Value, Affine]) -> None:
    written = {output for cluster in clusters for output in cluster.outputs}
    inside = {node for cluster in clusters for node in cluster.nodes}
    for value, affine in affines.items():
        insert_pair(editor, value, affine, None if value in written else inside)
    for cluster in clusters:
        if cluster.operator.unit == "vector":
            for value in cluster.inputs:
                if is_constant(value) and value.producer() is None:
                    _quantize_operand(editor, cluster, value)


def _quantize_operand(editor: Editor, cluster: Cluster, value: ir.Value) -> None:
    """A constant tensor that is added or multiplied becomes uint8."""
    array = constant_of(value)
    if array is None:
        return
    affine = Affine.from_range(float(array.min()), float(array.max()))
    dq = dequantized_constant(
        editor,
        affine.quantize(array),
        np.asarray(affine.scale),
        value.name or "operand",
        zero_point=np.asarray(affine.zero_point, np.uint8),
    )
    editor.graph.insert_before(cluster.core, dq)
    for index, operand in enumerate(cluster.core.inputs):
        if operand is value:
            cluster.core.replace_input_with(index, dq.outputs[0])
