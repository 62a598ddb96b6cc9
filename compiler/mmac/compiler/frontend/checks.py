"""Contents of a well-formed model that cannot be compiled: found at once, with names."""

from __future__ import annotations

import functools
import math
import os

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend.growth import size_bytes
from mmac.compiler.frontend.infer import is_numeric, static_shape, type_name
from mmac.isa.errors import MalformedError, ResourceError, UnsupportedError
from mmac.isa.program import DTYPES

_ONNX = ("", "ai.onnx")
_SCALES = {
    "QuantizeLinear": (1,),
    "DequantizeLinear": (1,),
    "QLinearConv": (1, 4, 6),
    "QLinearMatMul": (1, 4, 6),
    "QLinearAdd": (1, 4, 6),
    "QLinearMul": (1, 4, 6),
    "QLinearGlobalAveragePool": (1, 3),
    "QLinearAveragePool": (1, 3),
    "QGemm": (1, 4, 7),
}
"""Operands that are scales."""
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


def unknown_operators(model: ir.Model) -> list[ir.Node]:
    """Nodes whose operator onnxruntime does not have: they could not even run on the host."""
    known = _onnxruntime_operators()
    return [
        node
        for node in model.graph.all_nodes()
        if ("" if node.domain == "ai.onnx" else node.domain, node.op_type) not in known
    ]


def check_operators(model: ir.Model, where: str) -> None:
    """Refuse operators that nothing here can run.

    Raises:
        UnsupportedError: names the first such node.
    """
    for node in unknown_operators(model):
        raise UnsupportedError(
            f"{where}: node {node.name!r}",
            f"operator {node.domain or 'ai.onnx'}::{node.op_type}",
            "operators that onnxruntime knows",
            "export it as ONNX operators or as a model-local function",
        )


def check_weights(model: ir.Model, where: str) -> None:
    """Refuse NaN and infinite weights, and tensors whose data do not match their shape.

    Raises:
        MalformedError: names the tensor and the index of its first bad value.
    """
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None:
            raise MalformedError(
                f"{where}: initializer {name!r}", "no data", "weights with their values", "export the model again"
            )
        try:
            array = tensor.numpy()
        except (ValueError, TypeError, OSError) as error:
            raise MalformedError(
                f"{where}: initializer {name!r}", f"data do not fit the shape: {error}", hint="export the model again"
            ) from error
        # The sum is non-finite if any value is; only then is it worth looking for which one.
        if tensor.dtype in _FLOATS and array.size and not np.isfinite(np.sum(array, dtype=np.float64)):
            bad = np.argwhere(~np.isfinite(array))
            if len(bad):
                index = tuple(int(i) for i in bad[0])
                raise MalformedError(
                    f"{where}: initializer {name!r}", f"{array[index]} at index {list(index)}", "finite weights"
                )


def check_types(model: ir.Model, where: str) -> None:
    """Refuse inputs and outputs that are no tensors of numbers that numpy has.

    Raises:
        UnsupportedError: names the value and its type.
    """
    for kind, values in (("input", model.graph.inputs), ("output", model.graph.outputs)):
        for value in values:
            if not is_numeric(value):
                raise UnsupportedError(
                    f"{where}: {kind} {value.name!r}",
                    f"is {type_name(value)}",
                    f"tensors of {', '.join(sorted(DTYPES))}",
                    "convert it outside of the model",
                )


def memory_of_machine() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_shapes(model: ir.Model, where: str, memory_bytes: int) -> None:
    """Refuse empty and impossible inputs and results, and values of more than `memory_bytes`.

    Raises:
        MalformedError: a tensor without elements, or with fewer than none.
        ResourceError: names the value and its size.
    """
    values = [*model.graph.inputs, *(out for node in model.graph for out in node.outputs)]
    for value in values:
        shape = static_shape(value)
        if shape is None or value.dtype in (None, ir.DataType.STRING):
            continue
        if min(shape, default=1) < 0:
            raise MalformedError(f"{where}: {value.name!r}", f"shape {list(shape)}", "a larger input")
        if 0 in shape and (value.is_graph_input() or value.is_graph_output()):
            raise MalformedError(
                f"{where}: {value.name!r}", f"shape {list(shape)} has no elements", "non-empty tensors"
            )
        if (needed := size_bytes(value) or 0) > memory_bytes:
            raise ResourceError(
                f"{where}: {value.name!r}",
                f"shape {list(shape)} needs {needed / 2**30:.1f} GiB",
                f"at most {memory_bytes / 2**30:.1f} GiB, the memory of this machine or what --max-memory gives",
                "bind smaller dimensions with --dim",
            )


def check_nodes(model: ir.Model, where: str) -> None:
    """Refuse nodes whose operands do not fit each other, which ONNX's shape inference lets pass.

    Raises:
        MalformedError: names the node and what does not fit.
    """
    for node in model.graph.all_nodes():
        at = f"{where}: node {node.name!r}"
        if node.op_type == "Conv" and node.domain in _ONNX:
            _check_convolution(node, at)
        elif node.op_type == "Reshape" and node.domain in _ONNX:
            _check_reshape(node, at)
        elif node.op_type in _SCALES:
            _check_scales(node, at)


def _check_convolution(node: ir.Node, at: str) -> None:
    data, weights = (static_shape(value) for value in node.inputs[:2])
    if data is None or weights is None:
        return
    group = node.attributes["group"].as_int() if "group" in node.attributes else 1
    if group < 1 or data[1] != weights[1] * group or weights[0] % group:
        raise MalformedError(
            at,
            f"shapes or types do not fit: {data[1]} input channels, weights {list(weights)} in {group} groups",
            "weights [output channels, input channels / groups, ...]",
        )
    kernel = node.attributes["kernel_shape"].as_ints() if "kernel_shape" in node.attributes else weights[2:]
    if tuple(kernel) != weights[2:]:
        raise MalformedError(at, f"kernel_shape {list(kernel)}, weights {list(weights)}", "the same kernel")


def _check_reshape(node: ir.Node, at: str) -> None:
    data, result = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if data is not None and result is not None and math.prod(data) != math.prod(result):
        raise MalformedError(at, f"shape {list(data)} becomes {list(result)}", "as many elements as before")


def _check_scales(node: ir.Node, at: str) -> None:
    for position in _SCALES[node.op_type]:
        value = node.inputs[position] if position < len(node.inputs) else None
        if value is None or value.const_value is None:
            continue
        scale = value.const_value.numpy()
        if scale.dtype != np.float32 or not scale.size:
            continue
        # quantizers write 0 for channels without weights, and 0 times an integer is 0
        bad = ~((scale >= 0) if node.op_type == "DequantizeLinear" else (scale > 0))
        if bad.any():
            found = f"{scale[bad].flat[0]:g}"
            raise MalformedError(f"{at}, scale {value.name!r}", found, "more than 0", "quantize the model again")


@functools.cache
def _onnxruntime_operators() -> frozenset[tuple[str, str]]:
    from onnxruntime.capi import onnxruntime_pybind11_state as binding

    return frozenset((schema.domain, schema.name) for schema in binding.get_all_operator_schema())
