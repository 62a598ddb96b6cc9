"""Rules that merge an operator into the one before it; each changes the graph around one node in place."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.canonical import Rule
from mmac.compiler.graph.constants import along
from mmac.compiler.graph.edit import (
    SOURCE,
    Array,
    Editor,
    attribute,
    constant_array,
    only_user,
    operand,
    sources,
    take_over,
)

_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def _merge_batch_norm(editor: Editor, node: ir.Node) -> bool:
    """Batch norm goes into the linear operator before it, else it becomes Mul and Add."""
    parameters = [constant_array(value) for value in node.inputs[1:5]]
    if any(p is None for p in parameters) or attribute(node, "training_mode", 0):
        return False
    gamma, beta, mean, variance = (p.astype(np.float64) for p in parameters if p is not None)
    factor = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    shift = beta - mean * factor
    if (linear := _linear_before(node.inputs[0])) is not None and _normalises(linear, factor):
        _scale_and_shift(editor, linear, factor, shift)
        return _absorb(editor, linear, node)
    return _spell_out(editor, node, factor, shift)


def _normalises(linear: ir.Node, factor: Array) -> bool:
    """Whether the channels of `linear` are those of the batch norm after it, which are on axis 1."""
    shape = static_shape(linear.outputs[0]) or ()
    return _channel_count(linear) == factor.size and (_convolves(linear) or len(shape) == 2)


def _spell_out(editor: Editor, node: ir.Node, factor: Array, shift: Array) -> bool:
    shape, like = static_shape(node.inputs[0]), node.outputs[0]
    if shape is None or len(shape) < 2:
        return False
    column = (-1, *[1] * (len(shape) - 2))
    factors = editor.constant(factor.reshape(column).astype(np.float32), f"{node.name}_factor")
    shifts = editor.constant(shift.reshape(column).astype(np.float32), f"{node.name}_shift")
    name = editor.fresh(f"{node.name}_mul")
    mul = editor.node("Mul", [node.inputs[0], factors], like=like, name=name, origin=[node])
    add = editor.node("Add", [mul.outputs[0], shifts], like=like, name=node.name or "", origin=[node])
    node.resize_outputs(1)
    editor.replace(node, [mul, add])
    return True


def _merge_factor(editor: Editor, node: ir.Node) -> bool:
    """``Mul(Conv(x), c)`` with one c per channel."""
    linear, vector = _linear_and_vector(node)
    if linear is None or vector is None:
        return False
    _scale_and_shift(editor, linear, vector.astype(np.float64), np.zeros(vector.shape))
    return _absorb(editor, linear, node)


def _merge_offset(editor: Editor, node: ir.Node) -> bool:
    """``Add(Conv(x), c)`` with one c per channel; a MatMul of higher rank keeps its Add, with a vector [N]."""
    linear, vector = _linear_and_vector(node)
    if linear is None or vector is None:
        return False
    if linear.op_type != "MatMul" or len(static_shape(linear.outputs[0]) or ()) == 2:
        _scale_and_shift(editor, linear, None, vector.astype(np.float64))
        return _absorb(editor, linear, node)
    index = 1 if node.inputs[0] is linear.outputs[0] else 0
    bias = operand(node, index)
    if static_shape(bias) == vector.shape or static_shape(node.outputs[0]) != static_shape(linear.outputs[0]):
        return False
    node.replace_input_with(index, editor.constant(vector, f"{bias.name}_vector"))
    return True


def _linear_and_vector(node: ir.Node) -> tuple[ir.Node | None, Array | None]:
    """The linear operator and the constant vector, one number per output channel, that meet in `node`."""
    for value, other in (node.inputs, tuple(reversed(node.inputs))):
        array = constant_array(other)
        linear = _linear_before(value) if array is not None and array.dtype == np.float32 else None
        if linear is not None and array is not None:
            return linear, _per_channel(linear, array)
    return None, None


def _linear_before(value: ir.Value | None) -> ir.Node | None:
    """The canonical linear operator with constant float weights that makes `value` for one user only."""
    node = value.producer() if value is not None else None
    if node is None or value is None or node.op_type not in _LINEAR or only_user(value) is None:
        return None
    weights, *bias = [constant_array(operand) for operand in node.inputs[1:] if operand is not None]
    if any(array is None or array.dtype != np.float32 for array in (weights, *bias)) or weights is None:
        return None
    if not _convolves(node) and weights.ndim != 2:
        return None
    if attribute(node, "transB", 0) or any(array is not None and array.ndim != 1 for array in bias):
        return None  # not canonical yet
    if node.op_type == "ConvTranspose" and attribute(node, "group", 1) != 1:
        return None  # its channels are spread over two axes of the weights
    return node


def _convolves(linear: ir.Node) -> bool:
    return linear.op_type in ("Conv", "ConvTranspose")


def _channel_axis(linear: ir.Node) -> int:
    """Axis of the output channels in the weights."""
    return 0 if linear.op_type == "Conv" else 1


def _channel_count(linear: ir.Node) -> int:
    shape = static_shape(linear.inputs[1]) or (0, 0)
    return shape[_channel_axis(linear)]


def _per_channel(linear: ir.Node, array: Array) -> Array | None:
    """`array` as one number per output channel, if it broadcasts so and does not enlarge the result."""
    shape = static_shape(linear.outputs[0])
    channels = _channel_count(linear)
    if shape is None or array.ndim > len(shape):
        return None
    aligned = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    axis = 1 if _convolves(linear) else len(shape) - 1
    if aligned.size != aligned.shape[axis] or aligned.size not in (1, channels):
        return None
    return np.broadcast_to(aligned.reshape(-1), (channels,)).astype(np.float32)


def _scale_and_shift(editor: Editor, linear: ir.Node, factor: Array | None, shift: Array) -> None:
    """Make `linear` compute ``factor · before + shift`` for each output channel."""
    weights, name = constant_array(linear.inputs[1]), linear.name
    bias = constant_array(linear.inputs[2]) if len(linear.inputs) > 2 else None
    total = np.zeros(shift.shape) if bias is None else bias.astype(np.float64)
    if factor is not None and weights is not None:
        scaled = weights * along(factor.astype(np.float32), weights.ndim, _channel_axis(linear))
        linear.replace_input_with(1, editor.constant(scaled, f"{name}_weight"))
        total = total * factor
    total = total + shift
    if linear.op_type == "MatMul":
        if not total.any():
            return
        linear.op_type = "Gemm"
    if len(linear.inputs) < 3:
        linear.resize_inputs(3)
    linear.replace_input_with(2, editor.constant(total.astype(np.float32), f"{name}_bias"))


def _absorb(editor: Editor, linear: ir.Node, node: ir.Node) -> bool:
    """Drop `node`, whose work `linear` does now."""
    linear.metadata_props[SOURCE] = sources([linear, node])
    result = linear.outputs[0]
    for index in [i for i, value in enumerate(node.inputs) if value is result]:
        node.replace_input_with(index, None)
    node.resize_outputs(1)
    take_over(node.outputs[0], result)
    editor.graph.remove(node, safe=True)
    return True


def _merge_pad(editor: Editor, node: ir.Node) -> bool:
    """Zero padding before a Conv, or before an AveragePool that then counts it."""
    before = operand(node, 0)
    pad = before.producer()
    if pad is None or pad.op_type != "Pad" or only_user(before) is None:
        return False
    amounts, old = _spatial_pads(pad), attribute(node, "pads", None)
    if amounts is None or old is None or len(amounts) != len(old) or attribute(node, "ceil_mode", 0):
        return False
    if node.op_type == "AveragePool":
        kernel = attribute(node, "kernel_shape", [])
        # onnxruntime wants padding smaller than the window
        if any(old) or any(p >= k for p, k in zip(amounts, kernel * 2, strict=True)):
            return False
        node.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
    pads = [a + b for a, b in zip(old, amounts, strict=True)]
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    node.replace_input_with(0, pad.inputs[0])
    node.metadata_props[SOURCE] = sources([pad, node])
    editor.graph.remove(pad, safe=True)
    return True


def _spatial_pads(pad: ir.Node) -> list[int] | None:
    """Amounts per spatial axis (all begins, then all ends) of a Pad that puts zeros around the image only."""
    if attribute(pad, "mode", "constant") != "constant" or (len(pad.inputs) > 3 and pad.inputs[3] is not None):
        return None
    amounts = constant_array(pad.inputs[1])
    value = pad.inputs[2] if len(pad.inputs) > 2 else None
    fill = np.zeros(1) if value is None else constant_array(value)
    if amounts is None or fill is None or fill.any() or amounts.min() < 0 or amounts.size < 6:
        return None
    table = amounts.reshape(2, -1)
    return None if table[:, :2].any() else [int(n) for n in table[:, 2:].reshape(-1)]


FUSIONS: dict[str, Rule] = {
    "BatchNormalization": _merge_batch_norm,
    "Mul": _merge_factor,
    "Add": _merge_offset,
    "Conv": _merge_pad,
    "AveragePool": _merge_pad,
}
"""Rule for each op_type."""
