"""Small files that ask for much: found by counting, before any tool of onnx or onnxruntime begins to compute.

Everything here is done with Python's integers, which do not overflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from mmac.compiler.frontend.infer import GROWING, static_shape
from mmac.isa.errors import MalformedError, ResourceError

MAX_NODES = 1_000_000
"""Nodes of a model after its functions are inlined."""
MAX_TRIPS = 10_000_000
"""Trips of a Loop whose number is constant."""
FOLD_BYTES, FOLD_RATIO = 64 << 20, 8
"""A constant is computed while compiling if it has at most so many bytes, or so many times those it is made of."""


def check_inlined(proto: onnx.ModelProto, where: str) -> None:
    """Refuse functions that call each other so often that a model of a few lines has billions of nodes.

    Raises:
        MalformedError: functions that call themselves.
        ResourceError: more than `MAX_NODES` nodes.
    """
    functions = {(function.domain, function.name): function for function in proto.functions}
    sizes: dict[tuple[str, str], int] = {}
    open_calls: set[tuple[str, str]] = set()

    def count(nodes: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in nodes:
            bodies = [graph for attr in node.attribute for graph in (attr.g, *attr.graphs)]
            total += 1 + sum(count(graph.node) for graph in bodies) + size((node.domain, node.op_type))
        return total

    def size(name: tuple[str, str]) -> int:
        if name not in functions:
            return 0
        if name in open_calls or len(open_calls) > 100:
            raise MalformedError(f"{where}: function {name[1]!r}", "calls itself, or is nested too deeply", "no cycles")
        if name not in sizes:
            open_calls.add(name)
            sizes[name] = count(functions[name].node)
            open_calls.remove(name)
        return sizes[name]

    if (nodes := count(proto.graph.node)) > MAX_NODES:
        raise ResourceError(
            where, f"its functions expand to {nodes} nodes", f"at most {MAX_NODES}", "export it without functions"
        )


def check_growth(model: ir.Model, where: str, memory_bytes: int) -> None:
    """Refuse ranges and loops that nobody could wait for.

    Args:
        model: as it was read.
        where: file that errors name.
        memory_bytes: most that a value may have.

    Raises:
        MalformedError: a Range without end.
        ResourceError: a Range larger than the memory, more than `MAX_TRIPS` trips of a Loop.
    """
    for node in model.graph.all_nodes():
        at = f"{where}: node {node.name!r}"
        if node.op_type == "Loop" and (trips := _number(node, 0)) is not None and trips > MAX_TRIPS:
            raise ResourceError(at, f"{trips:.0f} trips", f"at most {MAX_TRIPS}", "compute the result outside")
        if node.op_type == "Range":
            if _number(node, 2) == 0:
                raise MalformedError(at, "a step of 0", "another step")
            if (count := _length(node) or 0) * 8 > memory_bytes:
                raise ResourceError(at, f"{count} numbers", f"at most {memory_bytes // 8}", "use a smaller limit")


def _length(node: ir.Node) -> int | None:
    """How many numbers a Range gives, if that is known; a Python integer, which does not overflow."""
    start, limit, delta = (_number(node, position) for position in range(3))
    if start is None or limit is None or not delta:
        return None
    return max(0, math.ceil((limit - start) / delta))


def _number(node: ir.Node, position: int) -> float | None:
    """An operand that is one finite constant number."""
    value = node.inputs[position] if position < len(node.inputs) else None
    tensor = value.const_value if value is not None else None
    maker = value.producer() if value is not None else None
    if tensor is None and maker is not None and maker.op_type == "Constant" and "value" in maker.attributes:
        tensor = maker.attributes["value"].as_tensor()
    if tensor is None or math.prod(tensor.shape.numpy()) != 1:
        return None
    number = float(np.asarray(tensor.numpy()).reshape(()))
    return number if math.isfinite(number) else None


def may_fold(node: ir.Node, sizes: Mapping[ir.Value, int]) -> bool:
    """Whether the result of a node with constant operands, of `sizes` bytes, is small enough to be kept."""
    given = sum(sizes.get(value, 0) for value in node.inputs if value is not None)
    for value in node.outputs:
        found = size_bytes(value)
        if found is None:
            if node.op_type in GROWING:
                return False
        elif found > max(FOLD_BYTES, FOLD_RATIO * given):
            return False
    return True


def size_bytes(value: ir.Value) -> int | None:
    """Bytes of a value, if they are known."""
    shape = static_shape(value)
    return None if shape is None or value.dtype is None else math.ceil(math.prod(shape) * value.dtype.itemsize)
