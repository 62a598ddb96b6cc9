"""Groups of ONNX nodes that become one mMAC operation."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.constants import constant_of, is_constant, is_scalar
from mmac.compiler.graph.edit import only_user
from mmac.compiler.graph.operators import BY_OP_TYPE, TABLE, UNARY, Operator

_CLAMPS = ("Relu", "Clip")
_LARGEST_CHAIN = 32
_LONGEST_TAIL = 8


@dataclass(frozen=True)
class Cluster:
    """Nodes that one operation computes, without any rounding to integers between them.

    Attributes:
        operator: what computes them.
        nodes: in topological order; the last one has the cluster's outputs.
        core: the node that gives the cluster its name and its attributes.
        inputs: run-time operands (for Add and Mul one of the two may be a constant tensor).
    """

    operator: Operator
    nodes: tuple[ir.Node, ...]
    core: ir.Node
    inputs: tuple[ir.Value, ...]

    @property
    def outputs(self) -> tuple[ir.Value, ...]:
        """Results that others see."""
        return tuple(self.nodes[-1].outputs)

    @property
    def tail(self) -> tuple[ir.Node, ...]:
        """Relu and Clip nodes after the core, in the order they apply."""
        position = self.nodes.index(self.core)
        return tuple(node for node in self.nodes[position + 1 :] if node.op_type in _CLAMPS)


def match(node: ir.Node) -> Cluster | str:
    """The largest cluster that ends in `node`, or why there is none."""
    if node.domain not in ("", "com.microsoft"):
        return f"operator domain {node.domain}"
    if reason := _check_values(node):
        return reason
    core, tail = _strip_clamps(node)
    if core.op_type in ("Add", "Sub", "Mul"):
        return _match_elementwise(node, core, tail)
    operator = BY_OP_TYPE.get(core.op_type)
    if operator is not None and (operator.tail or not tail):
        if not (reason := operator.check(core)):
            return Cluster(operator, (core, *tail), core, _run_time(core, operator))
        if not tail:
            return reason
    return _match_chain(node) or f"neither the array nor the vector unit has {node.op_type}"


def _check_values(node: ir.Node) -> str:
    for value in (*node.inputs, *node.outputs):
        if value is None or is_constant(value) or (value in node.outputs[1:] and not value.uses()):
            continue
        shape = static_shape(value)
        if shape is None:
            return f"the shape of {value.name!r} is not known before run time"
        if value.dtype != ir.DataType.FLOAT and not _may_be_inside(value, node):
            return f"{value.name!r} is {value.dtype.name.lower() if value.dtype else 'of unknown type'}, not float"
        if 0 in shape:
            return f"{value.name!r} has no elements"
    return ""


def _may_be_inside(value: ir.Value, node: ir.Node) -> bool:
    """True for a value, perhaps of another type than float, between two element-wise operators of one chain."""
    before = value.producer()
    return node.op_type in UNARY and before is not None and before is not node and before.op_type in UNARY


def _run_time(core: ir.Node, operator: Operator) -> tuple[ir.Value, ...]:
    operands = core.inputs if core.op_type == "Concat" else core.inputs[: len(operator.roles)]
    return tuple(value for value in operands if value is not None)


def _strip_clamps(node: ir.Node) -> tuple[ir.Node, list[ir.Node]]:
    """The node before the Relu and Clip nodes that end in `node`, and those, first one first."""
    tail: list[ir.Node] = []
    core = node
    while core.op_type in _CLAMPS and all(is_scalar(bound) for bound in core.inputs[1:] if bound is not None):
        before = core.inputs[0]
        producer = before.producer() if before is not None else None
        if producer is None or before is None or only_user(before) is None or len(tail) == _LONGEST_TAIL:
            break
        tail.insert(0, core)
        core = producer
    return core, tail


def _match_elementwise(node: ir.Node, core: ir.Node, tail: list[ir.Node]) -> Cluster | str:
    """Add, Sub or Mul at the core: the bias of a MatMul, part of a chain, or an operation on two tensors."""
    if (product := _biased_product(core)) is not None:
        operator = BY_OP_TYPE["MatMul"]
        if not (reason := operator.check(product)):
            return Cluster(operator, (product, core, *tail), product, _run_time(product, operator))
        return reason
    chain = _match_chain(node)
    if chain is not None and core in chain.nodes:
        return chain
    operator = BY_OP_TYPE[core.op_type]
    return operator.check(core) or Cluster(operator, (core, *tail), core, _run_time(core, operator))


def _biased_product(node: ir.Node) -> ir.Node | None:
    """The MatMul in ``Add(MatMul(x, w), bias[N])``."""
    if node.op_type != "Add":
        return None
    for product, bias in (node.inputs, reversed(node.inputs)):
        producer = product.producer() if product is not None else None
        if producer is None or producer.op_type != "MatMul" or product is None or not is_constant(bias):
            continue
        shape = static_shape(bias)
        weights = static_shape(producer.inputs[1])
        if (
            only_user(product) is node
            and weights
            and shape
            and shape == (weights[-1],)
            and is_constant(producer.inputs[1])
        ):
            return producer
    return None


def _match_chain(node: ir.Node) -> Cluster | None:
    """The largest set of element-wise nodes ending in `node` that depends on one tensor only."""
    if node.op_type not in UNARY:
        return None
    inside: dict[ir.Node, None] = {node: None}
    best: tuple[tuple[ir.Node, ...], ir.Value] | None = None
    while len(inside) <= _LARGEST_CHAIN:
        leaves = _leaves(inside)
        if not leaves:
            break
        if len(leaves) == 1 and _same_floats(leaves[0], node.outputs[0]):
            best = tuple(inside), leaves[0]
        producer = next((leaf.producer() for leaf in leaves if _absorbable(leaf, inside)), None)
        if producer is None:
            break
        inside[producer] = None
    if best is None:
        return None
    nodes, leaf = best
    return Cluster(TABLE, _in_order(node, set(nodes)), node, (leaf,))


def _same_floats(value: ir.Value, result: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT and static_shape(value) == static_shape(result)


def _in_order(last: ir.Node, nodes: set[ir.Node]) -> tuple[ir.Node, ...]:
    """`nodes`, which all lead to `last`, in topological order."""
    done: dict[ir.Node, None] = {}

    def visit(node: ir.Node) -> None:
        for before in node.predecessors():
            if before in nodes and before not in done:
                visit(before)
        done[node] = None

    visit(last)
    return tuple(done)


def _leaves(inside: dict[ir.Node, None]) -> list[ir.Value] | None:
    """Distinct values that flow into the set, or None if one is a constant tensor of several elements."""
    leaves: dict[ir.Value, None] = {}
    for node in inside:
        for value in node.inputs:
            if value is None or is_scalar(value) or value.producer() in inside:
                continue
            if constant_of(value) is not None:
                return None
            leaves[value] = None
    return list(leaves)


def _absorbable(value: ir.Value, inside: dict[ir.Node, None]) -> bool:
    """Whether the producer of `value` can join the set: element-wise, seen by nobody outside, no clamp of another."""
    node = value.producer()
    if node is None or node.op_type not in UNARY or value.is_graph_output():
        return False
    if any(user not in inside for user in value.consumers()):
        return False
    return not (node.op_type in _CLAMPS and _clamps_another(node))


def _clamps_another(node: ir.Node) -> bool:
    """True if this Relu or Clip belongs to the operation before it."""
    core, tail = _strip_clamps(node)
    if not tail:
        return False
    operator = BY_OP_TYPE.get(core.op_type)
    if operator is None or not operator.tail:
        return False
    return operator.unit == "array" or operator.kind == "AveragePool" or _two_tensors(core)


def _two_tensors(node: ir.Node) -> bool:
    first, second = node.inputs[:2]
    return first is not second and not is_scalar(first) and not is_scalar(second)
