"""Programs to trace, and what a trace document says, by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser

from mmac.compiler import Options
from mmac.compiler.pipeline import passes
from mmac.isa.program import Program
from mmac.runtime.targets import Target, load_target
from tests.compiler import nets
from tests.runtime.timing.builders import Network

TARGET = load_target("vc707")
Records = list[dict[str, Any]]
Steps = list[tuple[float, float]]
"""µs and values of a counter."""


@dataclass(frozen=True)
class Case:
    """A program and the target that it was compiled for."""

    program: Program
    target: Target


def hosted() -> onnx.ModelProto:
    """A Softmax, which the host computes, between two convolutions."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        hosted (float[1,3,8,8] x) => (float[1,5,6,6] y)
        {
            a = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w)
            b = Softmax <axis=1> (a)
            y = Conv <kernel_shape=[3,3]> (b, v)
        }""")
    rng = np.random.default_rng(5)
    weights = {"w": (24, 3, 3, 3), "v": (5, 24, 3, 3)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in weights.items()}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def compiled(name: str, target: Target, folder: Path) -> Program:
    if name == "hosted":
        onnx.save(hosted(), folder / "hosted.onnx")
        options = Options(calibration=nets.inputs(hosted()))
    else:
        nets.save(name, folder)
        options = Options(calibration=nets.inputs(nets.build(name)))
    state: Any = folder / f"{name}.onnx"
    for step in passes(options, target):
        state = step.apply(state)
    assert isinstance(state, Program)
    return state


def layers() -> Program:
    """Layers whose parts do not fill all blocks evenly."""
    made = Network()
    made.conv((28, 28), (32, 64), 3, (8, 28, 16))
    made.conv((14, 14), (64, 40), 1, (5, 14, 40), weights_outer=False)
    made.conv((9, 9), (16, 16), 3, (9, 9, 16), depthwise=True)
    return made.build()


def slices(document: Mapping[str, Any]) -> dict[str, dict[str, Records]]:
    """Slices by group and track, in order of time."""
    names: dict[tuple[str, int], str] = {}
    found: dict[str, dict[str, Records]] = defaultdict(lambda: defaultdict(list))
    for record in document["traceEvents"]:
        if record["ph"] == "M" and "name" in record["args"]:
            names[record["name"], record["tid"]] = record["args"]["name"]
    for record in document["traceEvents"]:
        if record["ph"] == "X":
            found[names["process_name", record["pid"]]][names["thread_name", record["tid"]]].append(record)
    for tracks in found.values():
        for own in tracks.values():
            own.sort(key=lambda record: record["args"]["start_cycle"])
    return found


def counters(document: Mapping[str, Any]) -> dict[str, Steps]:
    """Counters by name and unit: µs and value."""
    found: dict[str, Steps] = defaultdict(list)
    for record in document["traceEvents"]:
        if record["ph"] == "C":
            ((unit, value),) = record["args"].items()
            found[f"{record['name']} {unit}"].append((record["ts"], value))
    return found


def value_at(steps: Steps, time: float) -> float:
    """Value of a counter at a time in µs."""
    return next(value for when, value in reversed(steps) if when <= time)
