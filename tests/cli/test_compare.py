"""`mmac compare`: figures, the first wrong layer, the page, the limit, and bad input."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mmac.cli.commands import compare as module
from mmac.compiler import comparison
from mmac.isa.container import load, save
from mmac.isa.plan import PAPER_LEVELS
from tests.cli.conftest import images, net
from tests.commands import mmac
from tests.compiler.comparison.damage import negated

NAMES = [str(level) for level in PAPER_LEVELS]


@pytest.fixture(scope="module")
def arguments(folder: Path) -> tuple[object, ...]:
    return folder / "net.onnx", folder / "net.mmac", "--data", folder / "samples.npz"


@pytest.fixture(scope="module")
def document(arguments: tuple[object, ...]) -> dict[str, Any]:
    result = mmac("compare", *arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


@pytest.fixture(scope="module")
def damaged(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damaged") / "damaged.mmac"
    save(negated(load(folder / "net.mmac"), "conv2"), path)
    return path


def test_defaults_are_those_of_the_library():
    assert module.SAMPLES == comparison.SAMPLES
    assert len(module.STAGES) == len(comparison.errors.VARIANTS)


def test_json(document, folder):
    expected = comparison.compare(folder / "net.onnx", load(folder / "net.mmac"), {"image": images(4)})
    assert document == expected.to_json()
    assert [level["level"] for level in document["levels"]] == NAMES
    assert document["samples"] == 4
    assert document["first_wrong"] is None
    layer = document["levels"][0]["layers"][2]
    assert (layer["layer"], layer["op"]) == ("conv2", "Conv")
    assert layer.keys() >= {"accumulated", "local", "wrong_values", "values", "tensor", "reference", "finding"}
    assert layer["local"].keys() == {"sqnr_db", "cosine", "max_abs_error", "stages_db", "noise"}


def test_text(arguments, document):
    result = mmac("compare", *arguments)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "net, 4 samples; SQNR in dB against onnxruntime"
    for name, row, level in zip(NAMES, lines[2:], document["levels"], strict=False):
        cells = row.split()
        assert cells[0] == name
        errors = level["outputs"][0]
        shown = [*errors["stages_db"].values(), errors["cosine"]]
        assert [float(cell) for cell in cells[1:6]] == pytest.approx(shown, abs=0.051)
    assert lines[10] == "the 5 of 7 layers that lose most at 8x2, each on its own:"
    assert re.match(r"conv2 +Conv( +\d+\.\d){5}$", lines[14])
    assert lines[-1] == "no layer goes wrong: all integers are those of the compiled model"
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(("option", "names"), [("14x2", ["14x2"]), ("0", ["8x2"]), ("all", NAMES)])
def test_levels(arguments, option, names):
    result = mmac("compare", *arguments, "--level", option, "--samples", 1, "--json")
    found = json.loads(result.stdout)
    assert [level["level"] for level in found["levels"]] == names
    assert found["samples"] == 1


def test_a_damaged_layer_is_named(arguments, damaged):
    model, _, *data = arguments
    result = mmac("compare", model, damaged, *data, "--level", "14x2", "--fail-below", 200)
    assert result.exit_code == 6
    assert re.fullmatch(
        rf"error: {damaged}: layer 'conv2' at 14x2: [\d,]+ of [\d,]+ integers are wrong; those of the compiled model; "
        "compile the model again, or give the model that the program is from\n",
        result.stderr,
    )
    assert re.match(
        r"first layer that goes wrong: conv2 \(Conv\) at 14x2: [\d,]+ of [\d,]+ integers are not what the compiled "
        r"model gives; the program is damaged, or was compiled from another model$",
        result.stdout.splitlines()[-1],
    )
    result = mmac("compare", model, damaged, *data, "--level", "14x2", "--json")
    assert result.exit_code == 6
    found = json.loads(result.stdout)
    assert found["first_wrong"]["layer"] == "conv2"


def test_fail_below(arguments, document):
    decibels = [level["outputs"][0]["sqnr_db"] for level in document["levels"]]
    assert mmac("compare", *arguments, "--fail-below", min(decibels) - 0.1).exit_code == 0
    low = int(np.argmin(decibels))
    result = mmac("compare", *arguments, "--fail-below", min(decibels) + 0.01, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == document  # what was found is shown all the same
    assert result.stderr == (
        f"error: output 'scores' at {NAMES[low]}: SQNR {decibels[low]:.2f} dB; at least {min(decibels) + 0.01:g} dB\n"
    )
    assert mmac("compare", *arguments, "--fail-below", min(decibels) + 0.01, "--level", NAMES[low]).exit_code == 1


def test_report(arguments, tmp_path):
    path = tmp_path / "report.html"
    result = mmac("compare", *arguments, "--level", "8x2", "--report", path)
    assert result.exit_code == 0
    assert result.stderr == f"note: {path} is the report; any browser opens it\n"
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_report_without_plotly(arguments, empty, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    result = mmac("compare", *arguments, "--report", "page.html")
    assert result.exit_code == 2
    assert "error: --report: drawn by plotly, which is not installed; pip install plotly" in result.stderr


def test_several_outputs_have_a_column(folder, tmp_path):
    model = net()
    model.graph.output.append(onnx.helper.make_tensor_value_info("f", onnx.TensorProto.FLOAT, ["batch", 5]))
    onnx.save(model, tmp_path / "two.onnx")
    command = ("compile", tmp_path / "two.onnx", "--calibration", folder / "samples.npz", "--levels", "full")
    assert mmac(*command, "-o", tmp_path / "two.mmac").exit_code == 0
    result = mmac("compare", tmp_path / "two.onnx", tmp_path / "two.mmac", "--data", folder / "samples.npz")
    lines = result.stdout.splitlines()
    assert lines[1].split()[:2] == ["level", "output"]
    assert [line.split()[:2] for line in lines[2:4]] == [["full", "scores"], ["full", "f"]]


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        (["--level", "9x9"], 2, "level '9x9': out of range"),
        (["--level", "9x2"], 2, "level '9x2': not in this program; 0 (8x2), 1 (10x2)"),
        (["--level", "8"], 2, "level '8': not in this program"),
        (["--fail-below", "nan"], 2, "--fail-below nan: not a number of decibels; such as 20"),
        (["--samples", "0"], 2, "mmac compare --samples: 0 is not in the range x>=1"),
        (["--report", "samples.npz"], 2, "samples.npz: --report would overwrite --data"),
    ],
)
def test_bad_options(arguments, folder, monkeypatch, options, status, text):
    monkeypatch.chdir(folder)
    result = mmac("compare", *arguments, *options)
    assert result.exit_code == status
    assert text in result.stderr
    assert result.stdout == ""


def test_a_file_is_named_once(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", image=np.full_like(images(2), np.nan))
    line = ("compare", folder / "net.onnx", folder / "net.mmac", "--data")
    assert "error: data.npz: 'image': nan among the samples" in mmac(*line, "data.npz").stderr
    missing = mmac(*line, "data")
    assert missing.exit_code == 2
    assert "error: data: cannot be read (No such file or directory)" in missing.stderr


def test_labels_beside_the_samples_do_not_count(arguments, document, tmp_path):
    model, program, *_ = arguments
    np.savez(tmp_path / "labelled.npz", image=images(4), labels=np.arange(4), seed=np.array(3))
    result = mmac("compare", model, program, "--data", tmp_path / "labelled.npz", "--json")
    assert json.loads(result.stdout) == document


def test_data_are_required(folder):
    result = mmac("compare", folder / "net.onnx", folder / "net.mmac")
    assert result.exit_code == 2
    assert "--data" in result.stderr


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"picture": images(1)}, "bad.npz: data: no array for input 'image' among 'picture'; an array"),
        ({"image": images(1)[..., :7]}, "bad.npz: data 'image': samples of shape [3, 8, 7]; [3, 8, 8]"),
        ({"image": images(1).astype(np.float64)}, "data 'image': type float64; float32"),
    ],
)
def test_bad_data(folder, empty, tmp_path_factory, arrays, text):
    path = tmp_path_factory.mktemp("data") / "bad.npz"
    np.savez(path, **arrays)
    result = mmac("compare", folder / "net.onnx", folder / "net.mmac", "--data", path, "--report", "page.html")
    assert result.exit_code == 4
    assert text in result.stderr


def test_another_model(folder, tmp_path):
    model = net()
    model.graph.node[2].name = "other"
    onnx.save(model, tmp_path / "other.onnx")
    result = mmac("compare", tmp_path / "other.onnx", folder / "net.mmac", "--data", folder / "samples.npz")
    assert result.exit_code == 4
    assert (
        "the program was not compiled from this model: budget of 'conv2': no array layer has such a name; "
        "a model and its own program; compile the model again\n" in result.stderr
    )


def test_files_that_are_not_what_they_are_said_to_be(folder):
    swapped = mmac("compare", folder / "net.mmac", folder / "net.onnx", "--data", folder / "samples.npz")
    assert swapped.exit_code == 4
    missing = mmac("compare", folder / "net.onnx", folder / "none.mmac", "--data", folder / "samples.npz")
    assert missing.exit_code == 2
    assert "none.mmac" in missing.stderr
