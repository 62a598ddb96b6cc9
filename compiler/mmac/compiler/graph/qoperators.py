"""Rules that spell onnxruntime's quantized operators as DequantizeLinear, float operator, QuantizeLinear.

The float operator rounds at other places than the quantized one, so the result may be one step off until pass `terms`
makes the integers exact again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.edit import SOURCE, Editor, attribute, constant_array, operand, sources


@dataclass(frozen=True)
class _Form:
    """One quantized operator: which of its inputs are what.

    Attributes:
        op_type: float operator.
        operands: positions of (value, scale, zero point).
        result: positions of the scale and the zero point of the result.
        bias: position of an int32 bias in steps of the product of the first two scales, or -1.
        axes: axis that vectors of scales lie along, for each operand.
    """

    op_type: str
    operands: Sequence[tuple[int, int, int]]
    result: tuple[int, int]
    bias: int = -1
    axes: tuple[int, ...] = (0, 0)


_ONE, _TWO = [(0, 1, 2)], [(0, 1, 2), (3, 4, 5)]

_FORMS = {
    "QLinearConv": _Form("Conv", _TWO, (6, 7), bias=8),
    "QLinearMatMul": _Form("MatMul", _TWO, (6, 7), axes=(0, 1)),
    "com.microsoft.QGemm": _Form("Gemm", _TWO, (7, 8), bias=6, axes=(0, 1)),
    "com.microsoft.QLinearAdd": _Form("Add", _TWO, (6, 7)),
    "com.microsoft.QLinearMul": _Form("Mul", _TWO, (6, 7)),
    "com.microsoft.QLinearSigmoid": _Form("Sigmoid", _ONE, (3, 4)),
    "com.microsoft.QLinearLeakyRelu": _Form("LeakyRelu", _ONE, (3, 4)),
    "com.microsoft.QLinearAveragePool": _Form("AveragePool", _ONE, (3, 4)),
    "com.microsoft.QLinearGlobalAveragePool": _Form("GlobalAveragePool", _ONE, (3, 4)),
}


def _spell_out(form: _Form, editor: Editor, node: ir.Node) -> bool:
    scales = [node.inputs[triple[1]] for triple in form.operands]
    if len(node.inputs) <= form.result[1] or attribute(node, "channels_last", 0):
        return False
    if any(value is None or value.dtype != ir.DataType.FLOAT for value in scales):
        return False  # half-precision scales
    axes = (0, 0) if attribute(node, "transB", 0) else form.axes
    nodes = [_dequantize(editor, node, *triple, axis) for triple, axis in zip(form.operands, axes, strict=False)]
    inputs = [dq.outputs[0] for dq in nodes]
    if form.bias >= 0 and len(node.inputs) > form.bias and node.inputs[form.bias] is not None:
        bias = _dequantize_bias(editor, node, form)
        if bias is None:
            return False
        nodes.append(bias)
        inputs.append(bias.outputs[0])
    attributes = {key: attr for key, attr in node.attributes.items() if key != "channels_last"}
    return _finish(editor, node, nodes, (form.op_type, inputs, attributes), form.result)


def _spell_out_concat(editor: Editor, node: ir.Node) -> bool:
    """QLinearConcat: scale and zero point of the result, then a triple for each operand."""
    triples = [(i, i + 1, i + 2) for i in range(2, len(node.inputs), 3)]
    nodes = [_dequantize(editor, node, *triple, 0) for triple in triples]
    float_node = ("Concat", [dq.outputs[0] for dq in nodes], dict(node.attributes))
    return _finish(editor, node, nodes, float_node, (0, 1))


def _finish(
    editor: Editor,
    node: ir.Node,
    before: list[ir.Node],
    float_node: tuple[str, list[ir.Value], Mapping[str, ir.Attr]],
    result: tuple[int, int],
) -> bool:
    """Replace `node` by conversions, the float operator (which keeps the name) and a QuantizeLinear."""
    op_type, inputs, attributes = float_node
    core = editor.node(op_type, inputs, like=node.outputs[0], dtype=ir.DataType.FLOAT, name=node.name or "")
    core.attributes.update(attributes)
    core.metadata_props.update(node.metadata_props)
    core.metadata_props[SOURCE] = sources([node])
    parameters = [node.inputs[position] for position in result]
    name = editor.fresh(f"{node.name}_QuantizeLinear")
    q = editor.node("QuantizeLinear", [core.outputs[0], *parameters], like=node.outputs[0], name=name)
    editor.replace(node, [*before, core, q])
    return True


def _dequantize(editor: Editor, node: ir.Node, value: int, scale: int, zero: int, axis: int) -> ir.Node:
    inputs = [node.inputs[position] for position in (value, scale, zero)]
    shape = static_shape(inputs[1])
    attributes: dict[str, Any] = {"axis": axis} if shape is not None and np.prod(shape) > 1 else {}
    name = editor.fresh(f"{operand(node, value).name}_DequantizeLinear")
    like = operand(node, value)
    return editor.node("DequantizeLinear", inputs, attributes, like=like, dtype=ir.DataType.FLOAT, name=name)


def _dequantize_bias(editor: Editor, node: ir.Node, form: _Form) -> ir.Node | None:
    scales = [constant_array(node.inputs[triple[1]]) for triple in form.operands]
    bias = operand(node, form.bias)
    shape = static_shape(bias)
    if scales[0] is None or scales[1] is None or shape is None:
        return None
    steps = np.broadcast_to(scales[0].reshape(-1) * scales[1].reshape(-1), shape).astype(np.float32)
    scale = editor.constant(steps, f"{bias.name}_scale")
    name = editor.fresh(f"{bias.name}_DequantizeLinear")
    return editor.node("DequantizeLinear", [bias, scale], {"axis": 0}, like=bias, dtype=ir.DataType.FLOAT, name=name)


def _rule(form: _Form) -> Callable[[Editor, ir.Node], bool]:
    return lambda editor, node: _spell_out(form, editor, node)


QUANTIZED: dict[str, Callable[[Editor, ir.Node], bool]] = {
    **{name: _rule(form) for name, form in _FORMS.items()},
    "com.microsoft.QLinearConcat": _spell_out_concat,
}
"""Rule for each op_type, with its domain if that is not ONNX's."""
