"""At full budgets a QDQ model's integers are onnxruntime's.

The models are quantized by onnxruntime's own `quantize_static`. The oracle runs them with ``session.x64quantprecision``
= 1: without it, processors that lack VNNI multiply uint8 by int8 with 16-bit saturation, and sums come out wrong. Graph
optimizations stay on, because they are what turns DQ-Conv-Q into an integer convolution.

Every operation is compared on equal inputs: its part of the model is cut out and fed with the machine's own tensors.
Array layers must agree in every integer. onnxruntime's additions and averages are not well defined to the last bit (a
fused multiply-add or not, sums of floats in whatever order), so there one step in one of 10,000 values is allowed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.utils
import onnxruntime as ort
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from mmac.compiler import Options, compile_model
from mmac.isa.plan import FULL
from mmac.runtime import Session

DATA = Path(__file__).parents[2] / "cli" / "mmac" / "cli" / "data"
STEP_SHARE = 1e-4


class Samples(CalibrationDataReader):
    def __init__(self, data: dict[str, np.ndarray]) -> None:
        count = len(next(iter(data.values())))
        self.samples = iter([{k: v[i : i + 1] for k, v in data.items()} for i in range(count)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.samples, None)


def quantize(source: Path, data: dict[str, np.ndarray], activations: QuantType, folder: Path) -> Path:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, quantized = folder / "prepared.onnx", folder / "quantized.onnx"
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(quantized), Samples(data), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=activations, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return quantized


def oracle(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def sources(model: onnx.ModelProto, name: str, known: set[str]) -> list[str]:
    """The nearest known tensors that `name` is computed from."""
    producers = {output: node for node in model.graph.node for output in node.output}
    found, pending = [], list(producers[name].input)
    while pending:
        value = pending.pop()
        if value in known:
            found.append(value)
        elif value in producers:
            pending += producers[value].input
    return sorted(set(found))


def disagreements(path: Path, feeds: dict[str, np.ndarray], engine: str) -> tuple[int, dict[str, float], int]:
    """Compare every quantized tensor on equal inputs.

    Returns:
        How many array layers were compared, share of differing values of every other tensor that differs, and the
        number of tensors compared. Asserts that array layers agree and that others differ by one step at most.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    program = compile_model(path, Options(levels=(FULL,))).program
    arrays = {name for entry in program.debug if entry.op == "arraylayer" for name in entry.outputs}
    quantized = [n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    names = [name for name in quantized if name in program.tensor]
    ours = dict(zip(names, Session(program, engine=engine).run(names, feeds), strict=True))
    extractor = onnx.utils.Extractor(model)
    known, layers, different, compared = set(names), 0, {}, 0
    for name in names:
        inputs = sources(model, name, known - {name})
        if not inputs:  # the quantized input of the model
            continue
        part = oracle(extractor.extract_model(inputs, [name]))
        (theirs,) = part.run(None, {key: ours[key] for key in inputs})
        steps = np.abs(theirs.astype(int) - ours[name].astype(int))
        compared += 1
        if name in arrays:
            layers += 1
            assert not steps.any(), f"array layer {name}: {np.count_nonzero(steps)} of {steps.size} differ"
        elif steps.any():
            assert steps.max() == 1, name
            different[name] = np.count_nonzero(steps) / steps.size
    return layers, different, compared


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("activations", [QuantType.QUInt8, QuantType.QInt8], ids=["uint8", "int8"])
def test_bundled_model(activations, engine, tmp_path):
    with np.load(DATA / "fashion_mnist_test.npz") as arrays:
        images = arrays["calibration"][:, None].astype(np.float32) / 255
    path = quantize(DATA / "fashion_mnist_cnn.onnx", {"image": images[:16]}, activations, tmp_path)
    layers, different, compared = disagreements(path, {"image": images[16:17]}, engine)
    assert layers >= 8
    assert compared > layers
    assert all(share <= STEP_SHARE for share in different.values()), different


@pytest.mark.models
@pytest.mark.parametrize("name", ["tiny_resnet8", "efficientnet_lite0", "mobilenet_v2", "resnet18"])
def test_real_networks(name, tmp_path):
    from benchmarks.models import calibration, load

    data = calibration(name, 4)
    path = quantize(load(name), data, QuantType.QUInt8, tmp_path)
    layers, different, compared = disagreements(path, {k: v[:1] for k, v in data.items()}, "fast")
    print(f"{name}: {layers} array layers equal, {compared} tensors compared, others that differ: {different}")
    assert layers >= 10
    assert all(share <= STEP_SHARE for share in different.values()), different
