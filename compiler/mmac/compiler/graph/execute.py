"""Run a graph IR model in onnxruntime without copying its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir
import onnxruntime as ort

from mmac.compiler.graph.edit import Array
from mmac.isa.errors import UnsupportedError

_INLINE_BYTES = 1024
_PLAIN = frozenset(
    (
        ir.DataType.FLOAT,
        ir.DataType.DOUBLE,
        ir.DataType.INT8,
        ir.DataType.UINT8,
        ir.DataType.INT16,
        ir.DataType.INT32,
        ir.DataType.INT64,
    )
)
"""Types that numpy and onnxruntime lay out alike, so that an array can be lent."""


def session(
    model: ir.Model, extra_outputs: Sequence[str] = (), *, optimize: bool = True, threads: int = 1
) -> ort.InferenceSession:
    """An onnxruntime session for `model`, which is not changed.

    Weights above 1 KiB are lent to onnxruntime instead of being serialised: for ResNet-50 that halves the time.

    Args:
        model: any stage of the graph IR.
        extra_outputs: names of inner values to be returned after the model's outputs.
        optimize: onnxruntime's default optimizations; without them each node runs as it is written.
        threads: of onnxruntime's pool.

    Raises:
        UnsupportedError: onnxruntime refuses the model.
    """
    lent = model.clone()
    by_name = ir.convenience.create_value_mapping(lent.graph)
    lent.graph.outputs.extend(by_name[name] for name in extra_outputs)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # without it, unsigned × signed kernels saturate at 16 bits on processors without VNNI
    options.add_session_config_entry("session.x64quantprecision", "1")
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    names, arrays = _lend_weights(lent.graph)
    options.add_external_initializers(names, arrays)
    try:
        return ort.InferenceSession(
            ir.serde.serialize_model(lent).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exceptions have no common base but this one
        raise UnsupportedError(
            f"model {model.graph.name!r}",
            f"onnxruntime refuses it: {str(error).strip().splitlines()[0]}",
            hint="try the model in onnxruntime alone",
        ) from error


def run(model: ir.Model, feeds: Mapping[str, Array], *, optimize: bool = True) -> dict[str, Array]:
    """Outputs of `model` by name."""
    names = [value.name or "" for value in model.graph.outputs]
    return dict(zip(names, session(model, optimize=optimize).run(names, dict(feeds)), strict=True))


def part(model: ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> ir.Model:
    """What computes some values of a model from others, as a model of its own (the weights are shared)."""
    graph = ir.convenience.extract(model.graph, inputs, outputs)
    called = dict.fromkeys(node.op_identifier() for node in graph.all_nodes())
    functions = [model.functions[name] for name in called if name in model.functions]
    return ir.Model(graph, ir_version=model.ir_version, functions=functions)


def _lend_weights(graph: ir.Graph) -> tuple[list[str], list[ort.OrtValue]]:
    names, arrays = [], []
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype not in _PLAIN or tensor.nbytes <= _INLINE_BYTES:
            continue
        array = tensor.numpy()
        names.append(name)
        arrays.append(ort.OrtValue.ortvalue_from_numpy(array))
        value.const_value = ir.ExternalTensor(
            "weights", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(array.shape), name=name
        )
    return names, arrays
