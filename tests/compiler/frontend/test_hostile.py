"""Hostile models are refused with a reason, at once, in little memory, and without a look outside their folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from mmac.compiler import Options, check_model, compile_model
from mmac.compiler.frontend import ImportModel
from mmac.isa.errors import MalformedError, ResourceError
from mmac.isa.plan import FULL
from mmac.runtime import Session
from tests.compiler.frontend.hostile import MODELS, F, bomb, convolution, graph, node, weight


@pytest.mark.parametrize("name", MODELS)
def test_hostile_models_are_refused(name: str, tmp_path: Path) -> None:
    content, kind, text = MODELS[name]
    path = tmp_path / "hostile.onnx"
    path.write_bytes(content)
    with pytest.raises(kind) as caught:
        check_model(path)
    assert str(path) in str(caught.value)
    assert text in str(caught.value)


def test_hostile_models_take_little_memory(tmp_path: Path) -> None:
    for number, (content, _, _) in enumerate(MODELS.values()):
        (tmp_path / f"{number}.onnx").write_bytes(content)
    script = """
import json, pathlib, resource, sys
from mmac.compiler import check_model
from mmac.isa.errors import MmacError
refused = 0
for path in pathlib.Path(sys.argv[1]).glob("*.onnx"):
    try:
        check_model(path)
    except MmacError:
        refused += 1
print(json.dumps({"refused": refused, "kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""
    run = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    assert found["refused"] == len(MODELS)
    assert found["kib"] < 2**20


def test_large_constants_are_left_to_the_run(tmp_path: Path) -> None:
    """A constant of 256 MiB out of a few bytes would be a program of that size."""
    path = tmp_path / "large.onnx"
    path.write_bytes(bomb("ConstantOfShape", "s", weight("s", [2**26], np.int64)))
    program = compile_model(path, Options(levels=(FULL,))).program
    assert program.dram_bytes < 2**20
    assert sum(len(segment.onnx) for segment in program.host) < 2**20


def test_ranges_of_some_length_are_folded(tmp_path: Path) -> None:
    path = tmp_path / "range.onnx"
    numbers = (weight("a", 0, np.int64), weight("b", 70_000, np.int64), weight("c", 1, np.int64))
    path.write_bytes(bomb("Range", "a b c", *numbers))
    x = np.ones((1, 3, 8, 8), np.float32)
    (found,) = Session(compile_model(path, Options(levels=(FULL,), calibration={"x": x})).program).run(None, {"x": x})
    np.testing.assert_allclose(found, 70_000, rtol=0.01)


def test_constants_that_cannot_be_computed(tmp_path: Path) -> None:
    path = tmp_path / "gather.onnx"
    nodes = [node("Gather", "one far", "g"), node("Add", "x g")]
    path.write_bytes(graph(nodes, weight("one", [1, 2]), weight("far", [7], np.int64)))
    with pytest.raises(MalformedError, match=r"constants of 'the_Gather': onnxruntime cannot compute them: .*out of"):
        check_model(path)


def test_a_limit_on_memory(tmp_path: Path) -> None:
    path = tmp_path / "conv.onnx"
    path.write_bytes(convolution())
    with pytest.raises(ResourceError, match=r"at most 0.0 GiB, the memory of this machine or what --max-memory gives"):
        ImportModel(max_memory=500).apply(path)
    with pytest.raises(ResourceError, match="--max-memory"):
        compile_model(path, Options(max_memory=500))
    assert check_model(path, max_memory=10_000)


# ------------------------------------------------------------------------------------------------------ external data


def external(folder: Path, location: str, **entries: object) -> Path:
    """A convolution whose weights are in another file."""
    proto = onnx.ModelProto.FromString(convolution())
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    return folder / "model.onnx"


SECRET = "secret.bin"
PLACES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "above": (f"../{SECRET}", lambda _: None, "files inside the model's folder"),
    "absolute": ("/dev/zero", lambda _: None, "files inside the model's folder"),
    "symbolic link out": ("w.bin", lambda f: (f / "w.bin").symlink_to(f.parent / SECRET), "files inside the model's"),
    "symbolic link inside": ("w.bin", lambda f: _linked(f), "'w.bin' is a link; files of their own"),
    "hard link": ("w.bin", lambda f: os.link(f.parent / SECRET, f / "w.bin"), "'w.bin' is a link; files of their own"),
    "folder behind a link": ("sub/secret.bin", lambda f: (f / "sub").symlink_to(f.parent), "files inside the model's"),
    "pipe": ("w.bin", lambda f: os.mkfifo(f / "w.bin"), "'w.bin' is no file"),
    "folder": (".", lambda _: None, "'.' is no file"),
    "nothing": ("", lambda _: None, "external data at ''; the name of a file"),
    "zero byte": ("w\0.bin", lambda _: None, r"external data at 'w\x00.bin'"),
}


def _linked(folder: Path) -> None:
    (folder / "other.bin").write_bytes(bytes(4096))
    (folder / "w.bin").symlink_to(folder / "other.bin")


@pytest.mark.parametrize("name", PLACES)
def test_places_that_external_data_cannot_have(name: str, tmp_path: Path) -> None:
    location, prepare, text = PLACES[name]
    (tmp_path / SECRET).write_bytes(bytes(4096))
    path = external(tmp_path / "model", location)
    prepare(path.parent)
    with pytest.raises(MalformedError) as caught:
        ImportModel().apply(path)
    assert "initializer 'w'" in str(caught.value)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({"offset": -4}, "external data with offset '-4'; a number of bytes"),
        ({"length": -5}, "external data with length '-5'; a number of bytes"),
        ({"offset": "abc"}, "external data with offset 'abc'; a number of bytes"),
        ({"offset": 2**63}, f"ends before byte {2**63 + 432}"),
        ({"length": 2**62}, f"ends before byte {2**62}"),
        ({"offset": 4000}, "ends before byte 4432"),
        ({"length": 8}, "ends before byte 8"),
    ],
)
def test_parts_that_external_data_cannot_be(entries: dict[str, object], text: str, tmp_path: Path) -> None:
    path = external(tmp_path / "model", "w.bin", **entries)
    (path.parent / "w.bin").write_bytes(bytes(4096))
    with pytest.raises(MalformedError) as caught:
        ImportModel().apply(path)
    assert text in str(caught.value)


def test_attributes_have_no_external_data(tmp_path: Path) -> None:
    tensor = onnx.TensorProto(name="w", data_type=F, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    path = tmp_path / "model.onnx"
    path.write_bytes(graph([node("Constant", "", "c", value=tensor), node("Add", "x c")]))
    with pytest.raises(MalformedError, match="node 'the_Constant', attribute 'value': external data; external data of"):
        ImportModel().apply(path)
