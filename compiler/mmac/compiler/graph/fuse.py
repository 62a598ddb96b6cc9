"""Rules that merge an operator into a neighbour; each changes the graph around one node in place."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.canonical import Rule
from mmac.compiler.graph.constants import along
from mmac.compiler.graph.edit import SOURCE, Array, Editor, attribute, constant_array, only_user, sources, take_over

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
    shape = static_shape(node.inputs[0])
    if shape is None or len(shape) < 2:
        return False
    column = (-1, *[1] * (len(shape) - 2))
    names = editor.fresh(f"{node.name}_factor"), editor.fresh(f"{node.name}_shift")
    scaled = ir.Value(name=editor.fresh(f"{node.name}_scaled"), type=node.outputs[0].type, shape=node.outputs[0].shape)
    result = ir.Value(name=editor.fresh(f"{node.name}_shifted"), type=scaled.type, shape=scaled.shape)
    factors = editor.constant(factor.reshape(column).astype(np.float32), names[0])
    shifts = editor.constant(shift.reshape(column).astype(np.float32), names[1])
    mul = ir.node("Mul", [node.inputs[0], factors], outputs=[scaled], name=editor.fresh(f"{node.name}_mul"))
    add = ir.node("Add", [scaled, shifts], outputs=[result], name=node.name)
    for new in (mul, add):
        new.metadata_props[SOURCE] = sources([node])
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
    """``Add(Conv(x), c)`` with one c per channel; the Add of a MatMul stays, as a bias of shape [N]."""
    linear, vector = _linear_and_vector(node)
    if linear is None or vector is None:
        return False
    if linear.op_type != "MatMul" or len(static_shape(linear.outputs[0]) or ()) == 2:
        _scale_and_shift(editor, linear, None, vector.astype(np.float64))
        return _absorb(editor, linear, node)
    index = 1 if node.inputs[0] is linear.outputs[0] else 0
    bias = node.inputs[index]
    if bias is None or static_shape(bias) == vector.shape:
        return False
    if static_shape(node.outputs[0]) != static_shape(linear.outputs[0]):
        return False
    node.replace_input_with(index, editor.constant(vector, f"{bias.name}_vector"))
    return True


def _linear_and_vector(node: ir.Node) -> tuple[ir.Node | None, Array | None]:
    """The linear operator and the constant vector, one number per output channel, that meet in `node`."""
    for value, operand in (node.inputs, tuple(reversed(node.inputs))):
        array = constant_array(operand)
        linear = _linear_before(value) if array is not None else None
        if linear is None or array is None or array.dtype != np.float32:
            continue
        return linear, _per_channel(linear, array)
    return None, None


def _linear_before(value: ir.Value | None) -> ir.Node | None:
    """The Conv, Gemm or MatMul with constant float weights that makes `value` for one user only."""
    node = value.producer() if value is not None else None
    if node is None or value is None or node.op_type not in _LINEAR or only_user(value) is None:
        return None
    operands = [constant_array(operand) for operand in node.inputs[1:] if operand is not None]
    if any(array is None or array.dtype != np.float32 for array in operands) or operands[0] is None:
        return None
    if not _convolves(node) and operands[0].ndim != 2:
        return None
    if node.op_type == "ConvTranspose" and attribute(node, "group", 1) != 1:
        return None  # its channels are spread over two axes of the weights
    if node.op_type == "Gemm" and (attribute(node, "transB", 0) or (len(operands) > 1 and operands[1].ndim != 1)):  # type: ignore[union-attr]
        return None  # not canonical yet
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
    if weights is None:
        return
    channels = _channel_count(linear)
    bias = constant_array(linear.inputs[2]) if len(linear.inputs) > 2 else None
    total = np.zeros(channels) if bias is None else bias.astype(np.float64)
    if factor is not None:
        scaled = weights * along(factor.astype(np.float32), weights.ndim, _channel_axis(linear))
        linear.replace_input_with(1, editor.constant(scaled, f"{name}_weight"))
        total = total * factor
    total = total + shift
    if linear.op_type == "MatMul" and not total.any():
        return
    if linear.op_type == "MatMul":
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
    take_over(node.outputs[0], result)
    editor.graph.remove(node, safe=True)
    return True


def _merge_pad(editor: Editor, node: ir.Node) -> bool:
    """Zero padding before a Conv, or before an AveragePool that then counts it."""
    before = node.inputs[0]
    pad = before.producer() if before is not None else None
    if pad is None or before is None or pad.op_type != "Pad" or only_user(before) is None:
        return False
    amounts = _zero_pads(pad)
    rank = len(static_shape(before) or ())
    if amounts is None or len(amounts) != 2 * rank or rank < 3:
        return False
    ends = amounts[rank:]
    if any(amounts[:2]) or any(ends[:2]) or min(amounts) < 0:
        return False
    old = attribute(node, "pads", [0] * 2 * (rank - 2))
    if attribute(node, "auto_pad", "NOTSET") != "NOTSET" or attribute(node, "ceil_mode", 0):
        return False
    if node.op_type == "AveragePool":
        kernel = attribute(node, "kernel_shape", [])
        new_pads = [*amounts[2:rank], *ends[2:]]
        if any(old) or any(p >= k for p, k in zip(new_pads, kernel * 2, strict=True)):
            return False
        node.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
    pads = [a + b for a, b in zip(old, [*amounts[2:rank], *ends[2:]], strict=True)]
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    node.replace_input_with(0, pad.inputs[0])
    node.metadata_props[SOURCE] = sources([pad, node])
    editor.graph.remove(pad, safe=True)
    return True


def _zero_pads(pad: ir.Node) -> list[int] | None:
    """Amounts of a Pad that pads with constant zeros along all axes."""
    amounts = constant_array(pad.inputs[1])
    value = constant_array(pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] is not None else np.zeros(1)
    axes = pad.inputs[3] if len(pad.inputs) > 3 else None
    if attribute(pad, "mode", "constant") != "constant" or amounts is None or value is None or value.any() or axes:
        return None
    return [int(a) for a in amounts]


FUSIONS: dict[str, Rule] = {
    "BatchNormalization": _merge_batch_norm,
    "Mul": _merge_factor,
    "Add": _merge_offset,
    "Conv": _merge_pad,
    "AveragePool": _merge_pad,
}
"""Rule for each op_type."""
