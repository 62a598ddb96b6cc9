"""`mmac compile`: what it writes, what it prints, and what it says about bad input."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mmac.compiler.pipeline import PASS_NAMES
from mmac.isa.container import load
from tests.cli.conftest import images, net
from tests.commands import mmac


def compile_(folder: Path, *more: object) -> tuple[object, ...]:
    return "compile", folder / "net.onnx", "--calibration", folder / "samples.npz", *more


def test_text(folder: Path, tmp_path: Path) -> None:
    result = mmac(*compile_(folder, "-o", tmp_path / "a.mmac"))
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{tmp_path / 'a.mmac'}: net for vc707, 8 levels\n")
    assert "host segment 0: Softmax softmax6: " in result.stdout
    assert result.stderr == (
        "note: input 'image': dimension 'batch' of axis 0 is taken as 1 (change it with --dim batch=N)\n"
    )
    assert (tmp_path / "a.mmac").read_bytes() == (folder / "net.mmac").read_bytes()


def test_json_is_all_of_stdout(folder: Path, tmp_path: Path) -> None:
    result = mmac("compile", folder / "net.onnx", "-o", tmp_path / "a.mmac", "--json")
    assert result.exit_code == 0
    about = json.loads(result.stdout)
    program = load(tmp_path / "a.mmac")
    assert about["instructions"] == len(program.code)
    assert about["code_bytes"] == 16 * len(program.code)
    assert about["array_layers"] == 3
    assert about["macs"] == 8 * 27 * 64 + 12 * 72 * 36 + 60
    assert [len(nodes) for nodes in about["host_segments"]] == [len(segment.nodes) for segment in program.host]
    assert len(about["weight_bytes"]) == 8
    assert {"vector_ops", "seconds"} < about.keys()
    assert about["predictions"] == [dataclasses.asdict(prediction) for prediction in program.predictions]
    assert result.stderr.splitlines()[1].startswith("warning: no calibration data: ")


def test_levels_budgets_dims_and_method(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text('["conv2"]\nalpha = [9, 64]\nbeta = 4\n')
    more = ("--levels", "8x2,full", "--budgets", tmp_path / "b.toml", "--dim", "batch=2")
    result = mmac(*compile_(folder, "-o", tmp_path / "a.mmac", *more, "--calibration-method", "percentile"))
    assert result.exit_code == 0
    program = load(tmp_path / "a.mmac")
    assert [str(level) for level in program.plan.levels] == ["8x2", "full"]
    (plan,) = (layer.levels for layer in program.plan.layers if layer.name == "conv2")
    assert (plan[0].alpha, plan[0].beta) == (9, 4)
    assert program.inputs[0].shape == (2, 3, 8, 8)


@pytest.mark.parametrize("form", ["npz", "npy", "several"])
def test_calibration_from_a_folder(folder: Path, tmp_path: Path, form: str) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    if form == "npy":
        np.save(samples / "image.npy", images(4))
    elif form == "npz":
        np.savez(samples / "a.npz", image=images(4))
    else:
        np.savez(samples / "b.npz", image=images(4)[3:])
        np.savez(samples / "a.npz", image=images(4)[:3])
    result = mmac("compile", folder / "net.onnx", "--calibration", samples, "-o", tmp_path / "a.mmac")
    assert result.exit_code == 0
    assert (tmp_path / "a.mmac").read_bytes() == (folder / "net.mmac").read_bytes()


def test_dump_has_every_stage_and_onnxruntime_runs_the_graphs(folder: Path, tmp_path: Path) -> None:
    result = mmac(*compile_(folder, "-o", tmp_path / "a.mmac", "--dump", tmp_path / "stages"))
    assert result.exit_code == 0
    dumped = sorted((tmp_path / "stages").iterdir())
    assert [file.stem.partition("_")[2] for file in dumped] == list(PASS_NAMES)
    assert [file.suffix for file in dumped] == [".onnx"] * 8 + [".txt"] * 4 + [".s"]
    expected = onnxruntime.InferenceSession(net().SerializeToString()).run(None, {"image": images(1)})[0]
    for file in dumped[:6]:
        got = onnxruntime.InferenceSession(str(file)).run(None, {"image": images(1)})[0]
        np.testing.assert_allclose(got, expected, atol=0.2)


def test_a_device_is_written_to_and_not_replaced(folder: Path) -> None:
    result = mmac(*compile_(folder, "-o", "/dev/null"))
    assert result.exit_code == 0
    assert Path("/dev/null").is_char_device()


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def bad(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that are wrong in one way each."""
    path = tmp_path_factory.mktemp("bad")
    data = (folder / "net.onnx").read_bytes()
    (path / "truncated.onnx").write_bytes(data[: len(data) // 2])
    (path / "text.onnx").write_text("this is no model")
    weights = np.ones((12, 8, 3, 3), np.float32)
    weights[1, 2, 0, 1] = np.nan
    save(net(w2=weights), path / "nan.onnx")
    model = net()
    model.graph.node[1].domain = "com.example"
    model.opset_import.add(domain="com.example", version=1)
    save(model, path / "unknown.onnx")
    model = net()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    save(model, path / "unbound.onnx")
    np.savez(path / "name.npz", picture=images(4))
    np.savez(path / "shape.npz", image=images(4)[:, :2])
    np.savez(path / "type.npz", image=images(4).astype(np.float64))
    np.savez(path / "object.npz", image=np.array([{}], object))
    (path / "truncated.npz").write_bytes((folder / "samples.npz").read_bytes()[:200])
    (path / "empty.npz").write_bytes(b"")
    (path / "syntax.toml").write_text("[x")
    (path / "list.json").write_text("[1]")
    (path / "list.json.toml").write_text('{"conv2": {"alpha": 8}}')
    (path / "syntax.json").write_text("[conv2]\nalpha = 8")
    (path / "twice.json").write_text('{"conv2": {"alpha": 8, "beta": 2, "alpha": 9}}')
    (path / "comment.toml").write_text("# nothing")
    (path / "number.toml").write_text("conv0 = 3")
    (path / "layer.toml").write_text("[nothing]\nalpha = 8")
    (path / "alpha.toml").write_text("[conv2]\nalpha = 65")
    (path / "key.toml").write_text("[conv2]\ngamma = 6")
    (path / "falling.toml").write_text("[conv2]\nbeta = [3, 2]")
    (path / "length.toml").write_text("[conv2]\nalpha = [3, 4]")
    (path / "keep.toml").write_text('[conv2]\nkeep = "some"')
    np.savez(path / "large.npz", image=images(4) * np.float32(1e38))
    np.savez(path / "nan.npz", image=np.full_like(images(4), np.nan))
    (path / "target.toml").write_text("name = 'x'")
    (path / "nothing").mkdir()
    return path


@pytest.mark.parametrize(
    ("status", "arguments", "message"),
    [
        (2, ["{bad}/missing.onnx"], "missing.onnx: no such file"),
        (2, ["{bad}"], "not a file"),
        (4, ["{bad}/truncated.onnx"], "truncated.onnx: "),
        (4, ["{bad}/text.onnx"], "text.onnx: not an ONNX model"),
        (4, ["{bad}/nan.onnx"], "initializer 'w2': nan at index [1, 2, 0, 1]; finite weights"),
        (3, ["{bad}/unknown.onnx"], "node 'relu1': operator com.example::Relu"),
        (2, ["{bad}/unbound.onnx"], "--dim height=N"),
        (2, ["{folder}/net.onnx", "--dim", "size=3"], "--dim size: no input has such a dimension"),
        (2, ["{folder}/net.onnx", "--dim", "batch"], "--dim 'batch': not a name and a number; NAME=N"),
        (2, ["{folder}/net.onnx", "--levels", "8y2"], "--levels '8y2': not a level; ALPHAxBETA"),
        (2, ["{folder}/net.onnx", "--levels", "99x2"], "--levels '99x2': out of range"),
        (2, ["{folder}/net.onnx", "--levels", "10x2,8x2"], "--levels: 10x2 is followed by 8x2"),
        (2, ["{folder}/net.onnx", "--calibration", "{bad}/no.npz"], "no.npz: cannot be read"),
        (2, ["{folder}/net.onnx", "--calibration", "{bad}/nothing"], "nothing: no .npz or .npy file in it"),
        (4, ["{folder}/net.onnx", "--calibration", "{bad}/name.npz"], "calibration data: "),
        (4, ["{folder}/net.onnx", "--calibration", "{bad}/shape.npz"], "calibration data 'image': samples of shape"),
        (4, ["{folder}/net.onnx", "--calibration", "{bad}/type.npz"], "calibration data 'image': type float64"),
        (
            4,
            ["{folder}/net.onnx", "--calibration", "{bad}/object.npz"],
            "object.npz: does not hold arrays of numbers (Python objects)",
        ),
        (4, ["{folder}/net.onnx", "--calibration", "{bad}/truncated.npz"], "truncated.npz: does not hold arrays"),
        (4, ["{folder}/net.onnx", "--calibration", "{bad}/empty.npz"], "empty.npz: neither an .npz nor an .npy file"),
        (2, ["{folder}/net.onnx", "--budgets", "{bad}/no.toml"], "no.toml: cannot be read"),
        (4, ["{folder}/net.onnx", "--budgets", "{bad}/syntax.toml"], "syntax.toml: not TOML: "),
        (4, ["{folder}/net.onnx", "--budgets", "{bad}/list.json.toml"], "list.json.toml: not TOML: Invalid statement"),
        (
            4,
            ["{folder}/net.onnx", "--budgets", "{bad}/list.json.toml"],
            "(at line 1, column 1); one table per layer, in TOML; the name of a JSON file has to end in .json",
        ),
        (4, ["{folder}/net.onnx", "--budgets", "{bad}/syntax.json"], "syntax.json: not JSON: "),
        (
            4,
            ["{folder}/net.onnx", "--budgets", "{bad}/syntax.json"],
            "line 1 column 2 (char 1); one table per layer, in",
        ),
        (
            4,
            ["{folder}/net.onnx", "--budgets", "{bad}/twice.json"],
            "twice.json: 'alpha' is there twice; each key once",
        ),
        (4, ["{folder}/net.onnx", "--budgets", "{bad}/comment.toml"], "comment.toml: no budgets in it; one table per"),
        (4, ["{folder}/net.onnx", "--budgets", "{bad}/list.json"], "list.json: a list"),
        (4, ["{folder}/net.onnx", "--budgets", "{bad}/number.toml"], "number.toml: conv0: 3"),
        (4, ["{folder}/net.onnx", "--budgets", "{bad}/layer.toml"], "layer.toml: budget of 'nothing': no array layer"),
        (
            4,
            ["{folder}/net.onnx", "--budgets", "{bad}/alpha.toml"],
            "alpha.toml: conv2: alpha: 65; whole numbers in 1…64",
        ),
        (
            4,
            ["{folder}/net.onnx", "--budgets", "{bad}/key.toml"],
            "key.toml: conv2: the key 'gamma'; a table with alpha",
        ),
        (
            4,
            ["{folder}/net.onnx", "--budgets", "{bad}/falling.toml"],
            "falling.toml: conv2: beta at level 1: 2 after 3; a budget that does not fall",
        ),
        (4, ["{folder}/net.onnx", "--budgets", "{bad}/length.toml"], "alpha: 2 numbers; one for each of the 8 levels"),
        (4, ["{folder}/net.onnx", "--budgets", "{bad}/keep.toml"], "keep.toml: conv2: keep: 'some'; keep = \"all\""),
        (4, ["{folder}/net.onnx", "--calibration", "{bad}/large.npz"], "large.npz: 'image': "),
        (4, ["{folder}/net.onnx", "--calibration", "{bad}/nan.npz"], "nan.npz: 'image': nan among the samples"),
        (2, ["{folder}/net.onnx", "--dim", "batch=1", "--dim", "batch=2"], "--dim 'batch=2': batch is given twice"),
        (2, ["{folder}/net.onnx", "--target", "vc708"], "error: --target 'vc708': no such target; vc707"),
        (4, ["{folder}/net.onnx", "--target", "{bad}/target.toml"], "target.toml: 'part' is missing"),
    ],
)
def test_bad_input(folder: Path, bad: Path, empty: Path, status: int, arguments: list[str], message: str) -> None:
    places = {"folder": folder, "bad": bad}
    result = mmac("compile", *(text.format(**places) for text in arguments), "-o", empty / "out.mmac", "--json")
    assert (result.exit_code, result.stdout) == (status, "")
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in result.stderr


def test_calibration_samples_as_large_as_can_be(folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "large.npz", image=images(4) * np.float32(1e29))
    result = mmac("compile", folder / "net.onnx", "-o", tmp_path / "a", "--calibration", tmp_path / "large.npz")
    assert result.exit_code == 0, result.stderr


def test_an_output_folder_that_is_not_there(folder: Path, empty: Path) -> None:
    result = mmac(*compile_(folder, "-o", empty / "no" / "a.mmac"))
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: {empty / 'no' / 'a.mmac'}: cannot be written (No such file or directory); "
        f"a file in a folder that you may write to; make the folder {empty / 'no'} first\n"
    )
