"""External data: weights in files beside the model, and in no other place."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir

from mmac.isa.errors import MalformedError


def check_external(proto: onnx.ModelProto, path: Path) -> None:
    """Check what tensors say about their external data, before anything opens a file.

    Raises:
        MalformedError: no name of a file, numbers that are none, external data of an attribute.
    """
    for initializer in _initializers(proto.graph):
        _check_entries(initializer, f"{path}: initializer {initializer.name!r}")
    for node in _nodes(proto):
        for attribute in node.attribute:
            for tensor in (attribute.t, *attribute.tensors):
                if tensor.data_location == onnx.TensorProto.EXTERNAL:
                    where = f"{path}: node {node.name or node.op_type!r}, attribute {attribute.name!r}"
                    raise MalformedError(where, "external data", "external data of initializers")


def _initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _initializers(inner)


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    waiting = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [inner for attr in node.attribute for graph in (attr.g, *attr.graphs) for inner in graph.node]


def _check_entries(tensor: onnx.TensorProto, where: str) -> None:
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not location or "\0" in location:
        raise MalformedError(where, f"external data at {location!r}", "the name of a file in the model's folder")
    for key in ("offset", "length"):
        if key in entries and not re.fullmatch(r"[0-9]{1,19}", entries[key]):
            raise MalformedError(where, f"external data with {key} {entries[key]!r}", "a number of bytes")


def map_external(model: ir.Model, path: Path) -> None:
    """Map external tensors from the folder of the model file, and from nowhere else.

    Neither links out of the folder are followed nor files taken that have other names elsewhere.

    Raises:
        MalformedError: a file that is missing, too short, outside, or none.
    """
    folder = path.resolve().parent
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if not isinstance(tensor, ir.ExternalTensor):
                continue
            where = f"{path}: initializer {name!r}"
            _check_file(folder, tensor, where)
            tensor.base_dir = folder
            value.const_value = ir.Tensor(tensor.numpy(), tensor.dtype, name=name)


def _check_file(folder: Path, tensor: ir.ExternalTensor, where: str) -> None:
    file = (folder / tensor.location).resolve()
    if not file.is_relative_to(folder):
        raise MalformedError(where, f"external data at {tensor.location!r}", "files inside the model's folder")
    if not file.is_file():
        found = "is missing" if not file.exists() else "is no file"
        raise MalformedError(where, f"external data file {tensor.location!r} {found}", hint=f"copy it into {folder}")
    about = file.stat()
    if about.st_nlink > 1 or stat.S_ISLNK((folder / tensor.location).lstat().st_mode):
        raise MalformedError(
            where, f"external data file {tensor.location!r} is a link", "files of their own", f"copy it into {folder}"
        )
    length = tensor.nbytes if tensor.length is None else tensor.length
    end = (tensor.offset or 0) + length
    if end > about.st_size or length < tensor.nbytes:
        raise MalformedError(
            where, f"external data ends before byte {end} of {tensor.location!r}", hint="copy it again"
        )
