"""The comparison with SCALE-Sim: what it is asked, and what its answers are held to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from benchmarks import hardware
from mmac.runtime.targets import load_target
from mmac.runtime.timing import formulas


def saved(folder: Path, **attributes: Any) -> Path:
    """One convolution, 3 to 8 channels, 3 x 5, on 20 x 30 pixels."""
    group = attributes.get("group", 1)
    weights = numpy_helper.from_array(np.ones((8 if group == 1 else 3, 3 if group == 1 else 1, 3, 5), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 20, 30])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph([node], "net", [x], [y], [weights]))
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def test_convolutions_as_scale_sim_wants_them(tmp_path: Path) -> None:
    found = hardware.convolutions(saved(tmp_path, strides=[2, 2], pads=[1, 2, 3, 4]))
    assert found == [("conv0", [23, 35, 3, 5, 3, 8, 2])]
    with pytest.raises(ValueError, match="dense convolutions only"):
        hardware.convolutions(saved(tmp_path, group=3))


def test_expected_cycles_are_ours_for_a_plain_array() -> None:
    """A pass of a plain array: weights shifted in a row a cycle, a pixel a cycle."""
    target = load_target("vc707")
    size = hardware.ARRAY
    plain = replace(target, array=replace(target.array, blocks=1, rows=size, columns=size, pipeline_cycles=0))
    work = formulas.ArrayWork(m=196, n=size, depth=16 * size)
    assert hardware.expected_cycles([16, 16, 3, 3, 14, 128, 1]) == formulas.mmac_cycles(plain, work, 1, 1) - 1


def test_without_scale_sim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "not installed" in hardware.against_scale_sim("resnet18", None)["scale_sim"]
