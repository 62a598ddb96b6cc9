"""Host segments: the ONNX subgraphs that onnxruntime executes between parts of the device code."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir
import onnxruntime as ort

from mmac.compiler.graph import REASON
from mmac.compiler.graph.edit import all_operands, leaves
from mmac.isa.errors import UnsupportedError
from mmac.isa.program import HostSegment


def segment(model: ir.Model, nodes: Sequence[ir.Node]) -> tuple[HostSegment, list[ir.Value]]:
    """A segment of `nodes` (in topological order), and the values that others read of it.

    Raises:
        UnsupportedError: onnxruntime has no kernel for one of them.
    """
    inside = set(nodes)
    inputs, initializers = _operands(nodes, inside)
    outputs = [v for node in nodes for v in node.outputs if leaves(v, inside)]
    onnx_bytes = _model(model, nodes, inputs, outputs, initializers).SerializeToString(deterministic=True)
    _check(onnx_bytes, nodes)
    why = tuple((f"{node.op_type} {node.name}", node.metadata_props.get(REASON, "")) for node in nodes)
    return HostSegment(onnx_bytes, _names(inputs), _names(outputs), why), outputs


def _check(segment: bytes, nodes: Sequence[ir.Node]) -> None:
    """Have onnxruntime load a segment now, and not when the program runs."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        ort.InferenceSession(segment, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base but this one
        raise UnsupportedError(
            f"host segment {', '.join(node.name or '' for node in nodes[:3])}{' …' if len(nodes) > 3 else ''}",
            f"onnxruntime refuses it: {str(error).strip().splitlines()[0]}",
            "operators, versions and types that it has kernels for",
            "export the model at another opset, such as 17",
        ) from error


def _names(values: Sequence[ir.Value]) -> tuple[str, ...]:
    return tuple(value.name or "" for value in values)


def _operands(nodes: Sequence[ir.Node], inside: set[ir.Node]) -> tuple[list[ir.Value], list[ir.Value]]:
    """Run-time inputs and constants of a set of nodes, subgraphs included, each once, in order."""
    run_time: dict[str, ir.Value] = {}
    constant: dict[str, ir.Value] = {}
    for node in nodes:
        for value in all_operands(node):
            if value.const_value is not None and value.producer() is None:
                constant[value.name or ""] = value
            elif value.producer() not in inside:
                run_time[value.name or ""] = value
    return list(run_time.values()), list(constant.values())


def _model(
    model: ir.Model,
    nodes: Sequence[ir.Node],
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
    initializers: Sequence[ir.Value],
) -> onnx.ModelProto:
    graph = onnx.GraphProto(name="host")
    for node in nodes:
        proto = ir.serde.serialize_node(node)
        del proto.metadata_props[:]
        graph.node.append(proto)
    graph.input.extend(ir.serde.serialize_value(v) for v in inputs)
    graph.output.extend(ir.serde.serialize_value(v) for v in outputs)
    for value in initializers:
        assert value.const_value is not None
        tensor = ir.serde.serialize_tensor(value.const_value)
        tensor.name = value.name or ""
        graph.initializer.append(tensor)
    result = onnx.ModelProto(graph=graph, ir_version=min(model.ir_version or 10, 10))
    domains = {node.domain for node in nodes} | {""}
    for domain, version in sorted(model.opset_imports.items()):
        if domain in domains:
            result.opset_import.add(domain=domain, version=version)
    return result
