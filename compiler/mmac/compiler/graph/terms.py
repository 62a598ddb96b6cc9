"""Pass `terms`: the machine's exact arithmetic, with weights and data truncated to their terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from mmac.compiler.frontend import static_shape
from mmac.compiler.graph.bodies import DOMAIN, declare
from mmac.compiler.graph.budget import ALPHA, BETA, LEVELS
from mmac.compiler.graph.call import Call
from mmac.compiler.graph.constants import along
from mmac.compiler.graph.edit import Array, Editor, attribute, remove_unused, similar
from mmac.compiler.graph.execute import session
from mmac.compiler.passes import Pass
from mmac.isa.errors import UsageError
from mmac.isa.terms import data_table, truncate_groups

_EXACT = 2**24
"""Integers below it are exact in binary32, and so is every partial sum of a sum whose magnitudes add up to less."""

_RADIX = {1: 512, 2: 16, 3: 8, 4: 4, 9: 2}
"""Digits that a data value (−256…256) can be split into, and their radix."""


@dataclass(frozen=True)
class Terms(Pass[ir.Model, ir.Model]):
    """Replace the float bodies by the integer arithmetic of the machine, at one level.

    Needs: a partitioned model with its plan.

    Guarantees: every ``mmac`` node has its final integer operands and one of the bodies of `bodies`; onnxruntime
    computes exactly what the machine computes at `level`.  Weights at a lower level are prefixes of these.

    Before: ``mmac.Conv(q1, scale1, zero1, w, w_scale, …)``.
    After: ``mmac.Conv(q1, data_table, w_terms, bias, scale)`` with the attributes ``x_zero_point``,
    ``y_zero_point``, ``y_min``, ``y_max``, ``y_type`` and those of the convolution.

    Args:
        level: index of the level; None is the highest.
    """

    name: ClassVar[str] = "terms"
    level: int | None = None

    def apply(self, model: ir.Model, /) -> ir.Model:
        """The exact model.

        Raises:
            UsageError: no such level.
        """
        levels = model.metadata_props.get(LEVELS, "").split(",")
        chosen = len(levels) - 1 if self.level is None else self.level
        if not 0 <= chosen < len(levels):
            raise UsageError("level", str(self.level), f"0…{len(levels) - 1} ({', '.join(levels)})")
        result = model.clone()
        editor = Editor(result)
        calls = [Call(node, result) for node in result.graph if node.domain == DOMAIN]
        tables = _run_tables(result, [call for call in calls if call.node.op_type == "Table"])
        for call in calls:
            if call.node.op_type == "Table":
                _replace(editor, call, [editor.constant(tables[call.node], f"{call.name}_table")], {})
            elif call.node.op_type in _REWRITES:
                extra, attributes = _REWRITES[call.node.op_type](editor, call, chosen)
                _replace(editor, call, extra, attributes)
        _drop_outlined(result)
        remove_unused(result)
        return result


def _replace(editor: Editor, call: Call, extra: list[ir.Value], attributes: dict[str, Any]) -> None:
    """Swap the call of an outlined cluster for one of the exact body."""
    old = call.node
    output = similar(old.outputs[0], editor.fresh(f"{call.name}_exact"))
    new = ir.node(old.op_type, [*call.integers, *extra], attributes, domain=DOMAIN, outputs=[output], name=call.name)
    new.metadata_props.update(old.metadata_props)
    editor.graph.insert_before(old, new)
    old.outputs[0].replace_all_uses_with(output, replace_graph_outputs=True)
    name, old.outputs[0].name = old.outputs[0].name, None
    output.name = name
    editor.graph.remove(old, safe=True)
    declare(editor.model, old.op_type)


def _drop_outlined(model: ir.Model) -> None:
    used = {node.op_identifier() for node in model.graph}
    for identifier in list(model.functions):
        if identifier not in used:
            del model.functions[identifier]


def _conv(editor: Editor, call: Call, level: int) -> tuple[list[ir.Value], dict[str, Any]]:
    core = call.core("Conv")
    kernel = attribute(core, "kernel_shape", list(static_shape(call.operands["w"]) or ())[2:])
    rank = len(kernel)
    extra, attributes = _products(editor, call, level)
    attributes.update(
        kernel_shape=kernel,
        strides=attribute(core, "strides", [1] * rank),
        pads=attribute(core, "pads", [0] * 2 * rank),
        dilations=attribute(core, "dilations", [1] * rank),
        group=attribute(core, "group", 1),
    )
    return extra, attributes


def _matmul(editor: Editor, call: Call, level: int) -> tuple[list[ir.Value], dict[str, Any]]:
    return _products(editor, call, level)


def _products(editor: Editor, call: Call, level: int) -> tuple[list[ir.Value], dict[str, Any]]:
    """Operands data_table, w, bias, scale of an array layer, and its attributes."""
    alpha, beta = (int(call.node.metadata_props[key].split(",")[level]) for key in (ALPHA, BETA))
    x, y = call.encoding("x"), call.output()
    integers = call.weights()
    channels_first = integers.shape[0] if call.node.op_type == "Conv" else integers.shape[1]
    terms = _truncate(integers, alpha, call.node.op_type)
    table = data_table(x.zero_point, x.dtype == ir.DataType.INT8, beta)
    sums = np.abs(terms.reshape(len(terms), -1) if call.node.op_type == "Conv" else terms.T).sum(axis=1, dtype=np.int64)
    digits = _digits(table, int(sums.max(initial=0)))
    w_scale = np.broadcast_to(call.vector("w_scale"), (channels_first,))
    scale = (np.float32(x.scale) * w_scale.astype(np.float32)) / np.float32(y.scale)
    bias = call.bias(np.float32(x.scale) * w_scale.astype(np.float32))
    name = call.name
    narrow = np.int8 if terms.max(initial=0) <= 127 else np.int16
    extra = [
        editor.constant(digits.astype(np.float32), f"{name}_data_table"),
        editor.constant(terms.astype(narrow, copy=False), f"{name}_terms"),
        editor.constant(bias, f"{name}_bias"),
        editor.constant(scale.astype(np.float32), f"{name}_scale"),
    ]
    radix = _RADIX[len(digits)]
    return extra, {
        "digit_weights": [radix**position for position in range(len(digits))],
        "x_zero_point": x.zero_point,
        **y.attributes(),
    }


def _truncate(integers: Array, alpha: int, op_type: str) -> Array:
    """Weights with at most `alpha` terms in each group along the reduction axis, in their own layout."""
    if op_type == "Conv":
        rows = np.moveaxis(integers, 1, -1)
        kept = truncate_groups(rows.reshape(len(rows), -1), alpha).reshape(rows.shape)
        return np.moveaxis(kept, -1, 1)
    return truncate_groups(np.ascontiguousarray(integers.T), alpha).T


def _digits(table: Array, largest_sum: int) -> Array:
    """The data table [256] as rows of digits [P, 256], the fewest with which every sum of products is exact.

    Row p has the digit of weight radix^p; the last row is signed and the others are not.
    """
    for count, radix in _RADIX.items():
        rest = table.astype(np.int64)
        rows = []
        for _ in range(count - 1):
            rows.append(rest % radix)
            rest = rest // radix
        rows.append(rest)
        if largest_sum * max(int(np.abs(row).max()) for row in rows) < _EXACT:
            break
    return np.stack(rows)


def _add(editor: Editor, call: Call, level: int) -> tuple[list[ir.Value], dict[str, Any]]:
    a, b, y = call.encoding("a"), call.encoding("b"), call.output()
    sign = np.float32(-1 if call.has("Sub") else 1)
    return [], {
        "a_zero_point": a.zero_point,
        "b_zero_point": b.zero_point,
        "a_ratio": float(np.float32(a.scale) / np.float32(y.scale)),
        "b_ratio": float(sign * (np.float32(b.scale) / np.float32(y.scale))),
        **y.attributes(),
    }


def _mul(editor: Editor, call: Call, level: int) -> tuple[list[ir.Value], dict[str, Any]]:
    a, b, y = call.encoding("a"), call.encoding("b"), call.output()
    return [], {
        "a_zero_point": a.zero_point,
        "b_zero_point": b.zero_point,
        "scale": float(np.float32(a.scale) * np.float32(b.scale) / np.float32(y.scale)),
        **y.attributes(),
    }


def _average_pool(editor: Editor, call: Call, level: int) -> tuple[list[ir.Value], dict[str, Any]]:
    core = call.core("AveragePool")
    x, y = call.encoding("x"), call.output()
    kernel = attribute(core, "kernel_shape", [])
    rank = len(kernel)
    strides, pads = attribute(core, "strides", [1] * rank), attribute(core, "pads", [0] * 2 * rank)
    include = attribute(core, "count_include_pad", 0)
    shape = static_shape(call.operands["x"]) or ()
    count = window_counts(shape[2:], kernel, strides, pads, include_pad=bool(include))
    return [editor.constant(count, f"{call.name}_count")], {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": pads,
        "count_include_pad": include,
        "x_zero_point": x.zero_point,
        "scale": float(np.float32(x.scale) / np.float32(y.scale)),
        **y.attributes(),
    }


def window_counts(
    size: tuple[int, ...], kernel: list[int], strides: list[int], pads: list[int], *, include_pad: bool
) -> Array:
    """Values that each window of an average pool counts: float32, broadcastable to [.., output size]."""
    rank = len(kernel)
    counts = np.ones((), np.float32)
    for axis, (n, k, s) in enumerate(zip(size, kernel, strides, strict=True)):
        before, after = pads[axis], pads[axis + rank]
        first = np.arange((n + before + after - k) // s + 1) * s - before
        inside = np.minimum(first + k, n) - np.maximum(first, 0)
        along_axis = np.full_like(first, k) if include_pad else inside
        counts = counts * along(along_axis.astype(np.float32), rank, axis)
    return np.unique(counts).reshape(()) if np.unique(counts).size == 1 else counts


_REWRITES: dict[str, Callable[[Editor, Call, int], tuple[list[ir.Value], dict[str, Any]]]] = {
    "Conv": _conv,
    "MatMul": _matmul,
    "Add": _add,
    "Mul": _mul,
    "AveragePool": _average_pool,
}


def _run_tables(model: ir.Model, calls: list[Call]) -> dict[ir.Node, Array]:
    """Each Table's cluster on all 256 bytes, computed by onnxruntime in one model."""
    if not calls:
        return {}
    probe = ir.Model(
        ir.Graph([], [], nodes=[], opset_imports=dict(model.opset_imports), name="tables"),
        ir_version=model.ir_version,
        functions=[model.functions[call.node.op_identifier()].clone() for call in calls],
    )
    editor = Editor(probe)
    for call in calls:
        x = call.operands["x"]
        every_byte = np.arange(256).astype(np.uint8).view(x.dtype.numpy())  # type: ignore[union-attr]
        inputs = [
            editor.constant(every_byte if value is x else value.const_value.numpy(), "c")  # type: ignore[union-attr]
            for value in call.node.inputs
            if value is not None
        ]
        output = ir.Value(name=editor.fresh("table"), shape=ir.Shape([256]))
        output.dtype = call.node.outputs[0].dtype  # type: ignore[assignment]
        probe.graph.append(ir.node("Table", inputs, domain=DOMAIN, overload=call.node.overload, outputs=[output]))
        probe.graph.outputs.append(output)
    results = session(probe, optimize=False).run(None, {})
    return {call.node: np.asarray(table) for call, table in zip(calls, results, strict=True)}
