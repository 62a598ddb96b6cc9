"""Small tools for changing a graph: constants, nodes, deterministic names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[Any]

SOURCE = "mmac.source"
"""Node metadata: names of the ONNX nodes that a node was made of, separated by ``;``."""


class Editor:
    """Adds nodes and constants to the main graph of a model, under names that are unused and always the same.

    Args:
        model: the model that is changed in place (a pass gives its own clone).
    """

    def __init__(self, model: ir.Model) -> None:
        self.model, self.graph = model, model.graph
        self._used: dict[str, int] = {}
        for graph in model.graphs():
            for value in ir.convenience.create_value_mapping(graph).values():
                self._used[value.name or ""] = 1
            for node in graph:
                self._used[node.name or ""] = 1

    def fresh(self, base: str) -> str:
        """`base`, or `base` with the first free number."""
        count = self._used.get(base, 0)
        self._used[base] = count + 1
        return base if count == 0 else self.fresh(f"{base}_{count}")

    def constant(self, array: Array, base: str) -> ir.Value:
        """A new initializer that holds `array`."""
        name = self.fresh(base)
        tensor = ir.Tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), const_value=tensor)
        value.dtype = tensor.dtype
        self.graph.register_initializer(value)
        return value

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        like: ir.Value,
        name: str,
        shape: Sequence[int] | None = None,
        dtype: ir.DataType | None = None,
        origin: Iterable[ir.Node] = (),
    ) -> ir.Node:
        """A new node with one output, outside the graph.

        Args:
            op_type: ONNX operator.
            inputs: operands.
            attributes: attributes as plain Python.
            like: value that the output resembles.
            name: of the node, not used by any other that stays.
            shape: of the output, if not that of `like`.
            dtype: of the output, if not that of `like`.
            origin: nodes that it is made of.
        """
        output = similar(like, self.fresh(f"{name}_out"), dtype)
        if shape is not None:
            output.shape = ir.Shape(list(shape))
        node = ir.node(op_type, inputs, attributes, outputs=[output], name=name)
        if source := sources(origin):
            node.metadata_props[SOURCE] = source
        return node

    def replace(self, old: ir.Node, new: ir.Node | Sequence[ir.Node]) -> None:
        """Put `new` where `old` is; the outputs of its last node take the names and the uses of the old outputs."""
        nodes = [new] if isinstance(new, ir.Node) else list(new)
        self.graph.insert_before(old, nodes)
        for before, after in zip(old.outputs, nodes[-1].outputs, strict=True):
            take_over(before, after)
        self.graph.remove(old, safe=True)


def take_over(old: ir.Value, new: ir.Value) -> None:
    """All uses of `old` become uses of `new`, which also takes its name (graph outputs keep theirs that way)."""
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    name, old.name = old.name, f"{old.name}_replaced"
    new.name = name


def similar(value: ir.Value, name: str, dtype: ir.DataType | None = None) -> ir.Value:
    """A new value with the shape of `value`, and its type unless `dtype` says otherwise."""
    kind = value.type if dtype is None else ir.TensorType(dtype)
    return ir.Value(name=name, type=kind, shape=None if value.shape is None else value.shape.copy())


def constant_array(value: ir.Value | None) -> Array | None:
    """The array of an initializer, or None for anything else."""
    if value is None or value.const_value is None or not value.is_initializer():
        return None
    return value.const_value.numpy()


def operand(node: ir.Node, index: int) -> ir.Value:
    """An input that the operator requires.

    Raises:
        ValueError: it is not there, which the ONNX checker would have found.
    """
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        raise ValueError(f"node {node.name} has no input {index}")
    return value


def maker(value: ir.Value) -> ir.Node:
    """The node that makes a value.

    Raises:
        ValueError: it is an input or an initializer, which the caller has excluded.
    """
    node = value.producer()
    if node is None:
        raise ValueError(f"value {value.name} is made by no node")
    return node


def only_user(value: ir.Value) -> ir.Node | None:
    """The single node that uses `value`, if there is exactly one and the value is no graph output."""
    users = value.consumers()
    return users[0] if len(value.uses()) == 1 and not value.is_graph_output() else None


def all_operands(node: ir.Node) -> list[ir.Value]:
    """What a node reads, from outside its subgraphs if it has any."""
    values = [v for v in node.inputs if v is not None]
    for attr in node.attributes.values():
        if attr.type == ir.AttributeType.GRAPH:
            graph = attr.as_graph()
            local = {v for n in graph for v in n.outputs} | set(graph.inputs) | set(graph.initializers.values())
            nested = [v for n in graph for v in all_operands(n)] + [v for v in graph.outputs if v is not None]
            values += [v for v in nested if v not in local]
    return values


def leaves(value: ir.Value, inside: Collection[ir.Node]) -> bool:
    """Whether anything but the nodes `inside` sees a value."""
    return value.is_graph_output() or any(node not in inside for node in value.consumers())


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """Value of an attribute of `node` as plain Python, or `default` if it is absent."""
    found = node.attributes.get(name)
    if found is None:
        return default
    return list(found.value) if isinstance(found.value, tuple) else found.value


def sources(nodes: Iterable[ir.Node]) -> str:
    """What to record as the source of a node made from `nodes`."""
    names: dict[str, None] = {}
    for node in nodes:
        for name in node.metadata_props.get(SOURCE, "").split(";"):
            if name:
                names[name] = None
    return ";".join(names)


def remove_unused(model: ir.Model) -> None:
    """Drop nodes and initializers that no output depends on; in place."""
    graph = model.graph
    for node in reversed(graph):
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            graph.initializers.pop(name)
