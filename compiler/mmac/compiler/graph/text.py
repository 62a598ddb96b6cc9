"""Text of the graph IR: one line per value and per node, without weights, so that two stages can be compared."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

_SHOWN_ELEMENTS = 8
"""Constants of at most so many elements are printed."""

_SHOWN_CHARACTERS = 200
"""Longer metadata (constants of levels, in base64) are cut."""

_INDENT = "  "


def to_text(model: ir.Model) -> str:
    """Print a model: its metadata, graph and functions."""
    opsets = ", ".join(f"{domain or 'onnx'} {version}" for domain, version in sorted(model.opset_imports.items()))
    lines = [f'model "{model.graph.name}": IR version {model.ir_version}, opsets {opsets}']
    lines += [f"{_INDENT}{key} = {text!r}" for key, text in sorted(model.metadata_props.items())]
    lines += ["graph", *(_INDENT + line for line in _graph(model.graph))]
    for function in model.functions.values():
        name = ".".join((function.domain, function.name)) + (f":{function.overload}" if function.overload else "")
        lines += ["", f"function {name}", *(_INDENT + line for line in _graph(function.graph))]
    return "\n".join(lines) + "\n"


def _graph(graph: ir.Graph) -> Iterator[str]:
    yield from (f"input {_typed(value)}" for value in graph.inputs)
    yield from (f"constant {_typed(value)}{_content(value)}" for value in graph.initializers.values())
    for node in graph:
        yield from _node(node)
    yield from (f"output {_typed(value)}" for value in graph.outputs)


def _node(node: ir.Node) -> Iterator[str]:
    outputs = ", ".join(_typed(value) for value in node.outputs)
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    inputs = ", ".join('""' if value is None else f'"{value.name}"' for value in node.inputs)
    plain = [attr for attr in node.attributes.values() if attr.type != ir.AttributeType.GRAPH]
    attributes = ", ".join(f"{attr.name}={_attribute(attr)}" for attr in plain)
    yield f"{outputs} = {operator}({inputs})" + (f" {{{attributes}}}" if attributes else "")
    about = [f'"{node.name}"', *(f"{key} = {_shown(text)}" for key, text in sorted(node.metadata_props.items()))]
    yield f"{_INDENT}# {', '.join(about)}"
    for attr in node.attributes.values():
        if attr.type == ir.AttributeType.GRAPH:
            yield f"{_INDENT}{attr.name}:"
            yield from (2 * _INDENT + line for line in _graph(attr.as_graph()))


def _shown(text: str) -> str:
    if len(text) <= _SHOWN_CHARACTERS:
        return repr(text)
    return f"{text[: _SHOWN_CHARACTERS // 4]!r}… ({len(text)} characters)"


def _typed(value: ir.Value) -> str:
    dtype = value.dtype.name.lower() if value.dtype is not None else "?"
    dims = "?" if value.shape is None else ",".join("?" if d is None else str(d) for d in _dims(value.shape))
    return f'"{value.name}": {dtype}[{dims}]'


def _dims(shape: ir.Shape) -> list[int | str | None]:
    return [dim if isinstance(dim, int) else dim.value for dim in shape]


def _content(value: ir.Value) -> str:
    tensor = value.const_value
    return "" if tensor is None or tensor.size > _SHOWN_ELEMENTS else f" = {tensor.numpy().tolist()}"


def _attribute(attr: ir.Attr) -> str:
    if attr.is_ref():
        return f"@{attr.ref_attr_name}"
    if attr.type == ir.AttributeType.TENSOR:
        tensor = attr.as_tensor()
        shown = f" = {tensor.numpy().tolist()}" if tensor.size <= _SHOWN_ELEMENTS else ""
        return f"{tensor.dtype.name.lower()}{list(tensor.shape.numpy())}{shown}"
    return str(list(attr.value)) if isinstance(attr.value, tuple) else repr(attr.value)
