"""Pass `terms`: the machine's exact arithmetic, with weights and data truncated to their terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from mmac.compiler.graph.bodies import DOMAIN, declare
from mmac.compiler.graph.budget import LEVELS
from mmac.compiler.graph.call import Call
from mmac.compiler.graph.edit import Array, Editor, remove_unused, similar, take_over
from mmac.compiler.graph.execute import session
from mmac.compiler.graph.rewrites import REWRITES, Exact
from mmac.compiler.passes import Pass
from mmac.isa.errors import UsageError


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
            UnsupportedError: scales whose ratio is not finite (names the node).
        """
        levels = model.metadata_props.get(LEVELS, "").split(",")
        chosen = len(levels) - 1 if self.level is None else self.level
        if not 0 <= chosen < len(levels):
            raise UsageError("level", str(self.level), f"0…{len(levels) - 1} ({', '.join(levels)})")
        result = model.clone()
        editor = Editor(result)
        calls = [Call(node, result) for node in result.graph if node.domain == DOMAIN]
        tables = _tables(result, [call for call in calls if call.node.op_type == "Table"])
        for call in calls:
            if call.node in tables:
                _replace(editor, call, Exact({"table": tables[call.node]}, {}))
            elif (rewrite := REWRITES.get(call.node.op_type)) is not None:
                with np.errstate(over="ignore"):  # a ratio that overflows is refused there
                    exact = rewrite(call, chosen)
                _replace(editor, call, exact)
        used = {node.op_identifier() for node in result.graph}
        for identifier in [key for key in result.functions if key not in used]:
            del result.functions[identifier]
        remove_unused(result)
        return result


def _replace(editor: Editor, call: Call, exact: Exact) -> None:
    """Swap the call of an outlined cluster for one of the exact body."""
    old, kind = call.node, call.node.op_type
    arrays = [editor.constant(array, f"{call.name}_{role}") for role, array in exact.arrays.items()]
    output = similar(old.outputs[0], editor.fresh(f"{call.name}_exact"))
    inputs = [*call.integers, *arrays]
    new = ir.node(kind, inputs, exact.attributes, domain=DOMAIN, outputs=[output], name=call.name)
    new.metadata_props.update(old.metadata_props)
    output.metadata_props.update(old.outputs[0].metadata_props)
    editor.graph.insert_before(old, new)
    take_over(old.outputs[0], output)
    editor.graph.remove(old, safe=True)
    declare(editor.model, kind)


def _tables(model: ir.Model, calls: list[Call]) -> dict[ir.Node, Array]:
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
        every_byte = np.arange(256).astype(np.uint8).view(np.int8 if x.dtype == ir.DataType.INT8 else np.uint8)
        arrays = [every_byte if role == "x" else call.required(role) for role in call.operands]
        output = similar(call.node.outputs[0], editor.fresh("table"))
        output.shape = None
        inputs = [editor.constant(array, "c") for array in arrays]
        probe.graph.append(ir.node("Table", inputs, domain=DOMAIN, overload=call.node.overload, outputs=[output]))
        probe.graph.outputs.append(output)
    results = session(probe, optimize=False).run(None, {})
    # A constant [1, 1, 1] in a cluster gives the probe more axes than its operand has.
    return {call.node: np.asarray(table).reshape(256) for call, table in zip(calls, results, strict=True)}
