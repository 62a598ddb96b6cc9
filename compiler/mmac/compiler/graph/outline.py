"""A cluster of nodes becomes one call of a model-local function with the cluster as its body."""

from __future__ import annotations

import onnx_ir as ir

from mmac.compiler.graph.bodies import DOMAIN
from mmac.compiler.graph.constants import is_constant
from mmac.compiler.graph.edit import SOURCE, Editor, maker, operand, similar, sources
from mmac.compiler.graph.integers import FLOAT
from mmac.compiler.graph.operators import Operator

_PARAMETERS = ("", "_scale", "_zero_point")


class Outline:
    """Moves one cluster, with the conversions around it, into a function.

    The function's inputs are named after their roles: ``x``, ``x_scale``, ``x_zero_point``, ``w``, … ``y_scale``,
    ``y_zero_point``; other constants are ``c0``, ``c1`` …

    Args:
        editor: of the graph that changes.
        operator: what the cluster is.
        q: the QuantizeLinear that ends it.
    """

    def __init__(self, editor: Editor, operator: Operator, q: ir.Node) -> None:
        self._editor, self._operator, self._q = editor, operator, q
        self._inner: dict[ir.Value, ir.Value] = {}
        self._formals: dict[str, ir.Value] = {}
        self._actuals: list[ir.Value] = []
        self._body: list[ir.Node] = []

    def build(self, nodes: tuple[ir.Node, ...], roles: dict[ir.Value, str], name: str) -> ir.Node:
        """Replace the QuantizeLinear by the call.

        Args:
            nodes: the cluster in topological order (empty for a mere change of scale).
            roles: what the dequantized values are to it.
            name: of the call, unique in the model.
        """
        for value, role in roles.items():
            self._copy(maker(value), role)
        for node in nodes:
            self._copy(node, "")
        self._copy(self._q, "y")
        call = self._call(name, sources(nodes) or self._q.name or "")
        function = ir.Function(
            DOMAIN,
            self._operator.kind,
            call.overload,
            graph=ir.Graph(
                list(self._formals.values()),
                [self._inner[self._q.outputs[0]]],
                nodes=self._body,
                opset_imports=dict(self._editor.model.opset_imports),
            ),
            attributes=(),
        )
        self._editor.model.functions[function.identifier()] = function
        return call

    def _copy(self, node: ir.Node, role: str) -> None:
        """A copy of `node` in the body; what it reads from outside becomes an input."""
        inputs = [self._read(value, role, position) for position, value in enumerate(node.inputs)]
        step = len(self._body)
        outputs = [similar(value, f"v{step}_{index}") for index, value in enumerate(node.outputs)]
        if node is self._q:
            outputs[0].name = "y"
        self._inner.update(zip(node.outputs, outputs, strict=True))
        copy = ir.Node(node.domain, node.op_type, inputs, node.attributes.values(), outputs=outputs, name=node.name)
        self._body.append(copy)

    def _read(self, value: ir.Value | None, role: str, position: int) -> ir.Value | None:
        if value is None:
            return None
        if value not in self._inner and is_constant(value) and value.producer() is not None:
            self._copy(maker(value), f"k{len(self._body)}")
        if value in self._inner:
            return self._inner[value]
        formal = role + _PARAMETERS[position] if role else f"c{len(self._formals)}"
        inner = similar(value, formal)
        self._formals[formal] = inner
        self._actuals.append(value)
        return inner

    def _call(self, name: str, source: str) -> ir.Node:
        graph, q = self._editor.graph, self._q
        output = similar(q.outputs[0], self._editor.fresh(f"{name}_call"))
        call = ir.node(self._operator.kind, self._actuals, domain=DOMAIN, overload=name, outputs=[output], name=name)
        call.metadata_props[SOURCE] = source
        output.metadata_props[FLOAT] = operand(q, 0).name or ""
        graph.insert_before(q, call)
        old = q.outputs[0]
        old.replace_all_uses_with(output, replace_graph_outputs=True)
        integer_name = old.name
        graph.remove(q, safe=True)
        old.name, output.name = None, integer_name
        return call
