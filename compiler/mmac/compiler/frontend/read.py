"""An ONNX file becomes a graph IR model; everything that is wrong with the file itself is found here."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from pathlib import Path

import google.protobuf.message
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common

from mmac.compiler.frontend.external import check_external, map_external
from mmac.compiler.frontend.growth import check_inlined
from mmac.compiler.frontend.infer import light_proto
from mmac.isa.errors import MalformedError, MmacError, UnsupportedError, UsageError

MIN_OPSET = 13
"""Lowest opset of the graph IR: the first whose QuantizeLinear takes per-channel scales."""

MAX_OPSET = 27
"""onnxruntime 1.32 has no kernels for QuantizeLinear of opset 28."""

logging.getLogger("onnx_ir").addHandler(logging.NullHandler())  # what it says beside its exceptions helps nobody

_FREE_INITIALIZERS = 4
"""IR version from which initializers need not be inputs."""


def read_model(path: Path) -> ir.Model:
    """Read, check and normalise the file structure.

    Afterwards the model is well formed: functions inlined, nodes in topological order and with unique names, no
    initializer among the inputs, opset `MIN_OPSET`…`MAX_OPSET`.  Weights stay in the file's buffer or, if they are
    external, in their file.

    Raises:
        UsageError: no such file.
        MalformedError: not an ONNX model, or a broken one.
        UnsupportedError: an opset that is not known.
        ResourceError: functions that expand to more nodes than anybody can use.
    """
    proto = _parse(path)
    versions = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    opset = versions.get("ai.onnx", MIN_OPSET)
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= opset <= newest:
        raise UnsupportedError(str(path), f"opset {opset}", f"opset 1…{newest}", "export it with opset 17")
    _check_names(proto, path)
    check_external(proto, path)
    try:
        model = ir.serde.deserialize_model(proto)
        model.opset_imports.setdefault("", MIN_OPSET)
        map_external(model, path)
        common.RemoveInitializersFromInputsPass()(model)
        model.ir_version = max(model.ir_version, _FREE_INITIALIZERS)
        if model.functions:
            check_inlined(proto, str(path))
            common.InlinePass()(model)
        model.graph.sort()
        _check(model)
        model = _convert(model, path)
        _name_nodes(model)
    except MmacError:
        raise
    except Exception as error:  # onnx and onnx_ir raise many unrelated types for broken models
        raise MalformedError(
            str(path), f"not a valid ONNX model: {_reason(error)}", hint="export or copy it again"
        ) from error
    return model


def _parse(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise UsageError(str(path), "no such file" if not path.exists() else "not a file", "an ONNX file")
    try:
        proto = onnx.load_model(path, load_external_data=False)
    except (google.protobuf.message.DecodeError, ValueError) as error:
        raise MalformedError(
            str(path), "not an ONNX model, or a truncated one", "a file in ONNX's protobuf form"
        ) from error
    if not proto.ir_version or not proto.opset_import or not proto.graph.output:
        raise MalformedError(
            str(path), "no complete ONNX model in it", "a model with ir_version, opset and graph outputs"
        )
    return proto


def _check_names(proto: onnx.ModelProto, path: Path) -> None:
    """Refuse nodes and graph outputs that read what nothing produces; the order of the nodes does not matter."""
    _check_graph(proto.graph, frozenset(), str(path))
    for function in proto.functions:
        _check_nodes(function.node, frozenset(function.input), f"{path}: function {function.name!r}")


def _check_graph(graph: onnx.GraphProto, outer: Set[str], where: str) -> None:
    """`outer` names the values of the graphs around it."""
    names = [tensor.name for tensor in graph.initializer]
    if len(names) > len(known := set(names)):
        twice = next(name for name in names if names.count(name) > 1)
        raise MalformedError(where, f"two initializers {twice!r}", "unique names", "export the model again")
    known |= {value.name for value in graph.input}
    known |= outer | {tensor.values.name for tensor in graph.sparse_initializer}
    produced = _check_nodes(graph.node, known, where)
    for output in graph.output:
        if output.name not in produced:
            raise MalformedError(
                where, f"nothing produces the output {output.name!r}", "a result of a node", "export the model again"
            )


def _check_nodes(nodes: Sequence[onnx.NodeProto], outer: Set[str], where: str) -> Set[str]:
    """Everything that can be read after the nodes."""
    known = outer | {name for node in nodes for name in node.output}
    for node in nodes:
        here = f"{where}: node {node.name or node.op_type!r}"
        for name in node.input:
            if name and name not in known:
                raise MalformedError(
                    here,
                    f"reads {name!r}, which nothing produces",
                    "model inputs, initializers and results of nodes",
                    "export the model again",
                )
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                _check_graph(graph, known, here)
    return known


def _check(model: ir.Model) -> None:
    onnx.checker.check_model(light_proto(model))


def _convert(model: ir.Model, path: Path) -> ir.Model:
    """Bring the opset into `MIN_OPSET`…`MAX_OPSET`, keeping the weights where they are."""
    opset = model.opset_imports[""]
    wanted = min(max(opset, MIN_OPSET), MAX_OPSET)
    if wanted == opset:
        return model
    inputs = {value.name for value in model.graph.inputs}
    try:
        proto = onnx.version_converter.convert_version(light_proto(model), wanted)
    except Exception as error:  # the converter raises RuntimeError and several of onnx's own types
        raise UnsupportedError(
            str(path),
            f"opset {opset}, which cannot be converted: {_reason(error)}",
            f"opset {MIN_OPSET}…{MAX_OPSET}",
            "export it again with opset 17",
        ) from error
    converted = ir.serde.deserialize_model(proto)
    weights = {value.name: value.const_value for value in model.graph.initializers.values()}
    kept = [value for value in converted.graph.inputs if value.name in inputs]
    for value in converted.graph.inputs:
        if value.name not in inputs and value.name in weights:
            value.const_value = weights[value.name]
    dropped = [value for value in converted.graph.inputs if value.name not in inputs]
    converted.graph.inputs.clear()
    converted.graph.inputs.extend(kept)
    for value in dropped:
        if value.const_value is not None:
            converted.graph.register_initializer(value)
    converted.graph.sort()
    return converted


def _name_nodes(model: ir.Model) -> None:
    """Give each node a unique, non-empty name, and record it as the source of what is made of the node."""
    used: set[str] = set()
    for position, node in enumerate(model.graph.all_nodes()):
        base = node.name or f"{node.op_type}_{position}"
        name, count = base, 1
        while name in used:
            count += 1
            name = f"{base}_{count}"
        used.add(name)
        node.name = name
        node.metadata_props.setdefault("mmac.source", name)


def _reason(error: BaseException) -> str:
    """First line of the cause: onnx_ir says in what it was when something went wrong, and chains what went wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
