"""Small models for the graph passes, written as ONNX text in which ``w[8,3,3,3]`` is a random weight of that shape."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort

from mmac.compiler.frontend import ImportModel
from mmac.compiler.graph import Budget, Correct, Fold, Partition, Quantize, Terms
from mmac.isa.plan import FULL, Level

Array = npt.NDArray[Any]
FULL_ONLY = (FULL,)


def model(text: str, opset: int = 17, seed: int = 0, **constants: npt.ArrayLike) -> onnx.ModelProto:
    """Parse a graph; `constants` are initializers by name."""
    rng = np.random.default_rng(seed)
    arrays = {name: np.asarray(value) for name, value in constants.items()}

    def weight(match: re.Match[str]) -> str:
        shape = [int(n) for n in match[1].split(",")]
        name = f"weight{len(arrays)}"
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else 10
        arrays[name] = (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)
        return name

    body = re.sub(r"\bw\[([\d,]+)\]", weight, text)
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> small {body}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, name) for name, a in arrays.items())
    for number, node in enumerate(proto.graph.node):
        node.name = node.name or f"{node.op_type.lower()}{number}"
    onnx.checker.check_model(proto, full_check=True)
    return proto


def save(proto: onnx.ModelProto, folder: Path) -> Path:
    """Write a model; its path."""
    path = folder / "model.onnx"
    onnx.save(proto, path)
    return path


def imported(proto: onnx.ModelProto, folder: Path) -> ir.Model:
    """The model after `import`."""
    return ImportModel().apply(save(proto, folder))


def samples(proto: onnx.ModelProto, count: int = 4, seed: int = 3) -> dict[str, Array]:
    """Calibration data: `count` standard-normal batches for each input."""
    rng = np.random.default_rng(seed)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in proto.graph.input}
    batches = [{name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()} for _ in range(count)]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in shapes}


def feeds(proto: onnx.ModelProto) -> dict[str, Array]:
    """One input: the first batch of the calibration data, so that nothing saturates."""
    return samples(proto, 1)


def stages(
    proto: onnx.ModelProto, folder: Path, levels: tuple[Level, ...] = FULL_ONLY, **budget: Any
) -> dict[str, ir.Model]:
    """The model after each pass, by the pass's name."""
    result = {"import": imported(proto, folder)}
    state = result["import"]
    data = samples(proto)
    for step in (Fold(), Quantize(data), Budget(levels, **budget), Partition(), Correct(data), Terms()):
        state = result[step.name] = step.apply(state)
    return result


def original(proto: onnx.ModelProto, inputs: dict[str, Array]) -> list[Array]:
    """What onnxruntime makes of the model as it is."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def ops(state: ir.Model, unit: str | None = None) -> list[str]:
    """op_types of the graph in order, without conversions; of one unit if given."""
    return [
        node.op_type
        for node in state.graph
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear")
        and (unit is None or node.metadata_props.get("mmac.unit") == unit)
    ]
