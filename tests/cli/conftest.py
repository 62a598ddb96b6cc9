"""Models, programs and inputs that the tests of several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from mmac.compiler import Options, compile_model
from mmac.isa.asm import disassemble
from mmac.isa.container import save

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[batch,3,8,8] image) => (float[batch,5] scores)
{
    a = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (image, w1, b1)
    b = Relu (a)
    c = Conv <kernel_shape=[3,3]> (b, w2, b2)
    d = GlobalAveragePool (c)
    e = Flatten (d)
    f = Gemm <transB=1> (e, w3, b3)
    scores = Softmax <axis=1> (f)
}
"""
SHAPES = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (12, 8, 3, 3), "b2": (12,), "w3": (5, 12), "b3": (5,)}


def net(**replaced: np.ndarray) -> onnx.ModelProto:
    """Three array layers and a Softmax, which goes to the host; some weights replaced."""
    rng = np.random.default_rng(7)
    model = onnx.parser.parse_model(NET)
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type.lower()}{index}"
    arrays = {name: rng.standard_normal(shape).astype(np.float32) / 3 for name, shape in SHAPES.items()} | replaced
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def images(count: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((count, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that no test changes: net.onnx, samples.npz, image.npy; net.mmac (of the first two) and its text, net.s."""
    path = tmp_path_factory.mktemp("shared")
    onnx.save(net(), path / "net.onnx")
    np.savez(path / "samples.npz", image=images(4))
    np.save(path / "image.npy", images(1))
    compiled = compile_model(path / "net.onnx", Options(calibration={"image": images(4)}))
    save(compiled.program, path / "net.mmac")
    (path / "net.s").write_text(disassemble(compiled.program), "utf-8")
    return path


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that is the current one; whatever a failing command does, it must stay empty."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []
