"""Contents of a well-formed model that cannot be compiled: found at once, with names."""

from __future__ import annotations

import functools
import math
import os

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend.infer import is_numeric, static_shape, type_name
from mmac.isa.errors import MalformedError, ResourceError, UnsupportedError
from mmac.isa.program import DTYPES

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


def check_shapes(model: ir.Model, where: str) -> None:
    """Refuse empty and impossible inputs and results, and values that would not fit into this machine's memory.

    Raises:
        MalformedError: a tensor without elements, or with fewer than none.
        ResourceError: names the value and its size.
    """
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
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
        size_bytes = math.prod(shape) * value.dtype.itemsize
        if size_bytes > memory_bytes:
            raise ResourceError(
                f"{where}: {value.name!r}",
                f"shape {list(shape)} needs {size_bytes / 2**30:.1f} GiB",
                f"at most this machine's {memory_bytes / 2**30:.1f} GiB",
                "bind smaller dimensions with --dim",
            )


def check_channels(model: ir.Model, where: str) -> None:
    """Refuse convolutions whose weights do not fit their input, which ONNX's shape inference lets pass.

    Raises:
        MalformedError: names the node and both numbers of channels.
    """
    for node in model.graph:
        if node.op_type != "Conv" or node.domain not in ("", "ai.onnx"):
            continue
        data, weights = (static_shape(value) for value in node.inputs[:2])
        if data is None or weights is None:
            continue
        group = node.attributes["group"].as_int() if "group" in node.attributes else 1
        if group < 1 or data[1] != weights[1] * group or weights[0] % group:
            raise MalformedError(
                f"{where}: node {node.name!r}",
                f"shapes or types do not fit: {data[1]} input channels, weights {list(weights)} in {group} groups",
                "weights [output channels, input channels / groups, ...]",
            )


@functools.cache
def _onnxruntime_operators() -> frozenset[tuple[str, str]]:
    from onnxruntime.capi import onnxruntime_pybind11_state as binding

    return frozenset((schema.domain, schema.name) for schema in binding.get_all_operator_schema())
