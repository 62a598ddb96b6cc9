"""What the machine computes is what the model after `terms` computes, tensor by tensor, however it is tiled."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from mmac.compiler.graph import Terms
from mmac.compiler.pipeline import Options, passes
from mmac.compiler.tile.check import check
from mmac.isa.program import Program
from mmac.isa.verify import verify
from mmac.runtime import Session
from mmac.runtime.targets import Target, load_target
from tests.compiler import nets

LEVELS = (0, 4, 7)
TARGETS = {"vc707": lambda: load_target("vc707"), "tiny": nets.tiny_target, "tiny3": lambda: nets.tiny_target(2, 6)}


@cache
def partitioned(name: str, folder) -> ir.Model:
    model = nets.build(name)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    state = path
    for step in passes(Options(calibration=nets.inputs(model, 7)))[:5]:
        state = step.apply(state)
    return state


def back_end(model: ir.Model, target: Target) -> Program:
    state = Terms().apply(model)
    for step in passes(Options(), target)[6:]:
        state = step.apply(state)
        if not isinstance(state, Program):
            check(state)
    return state


def exact_tensors(model: ir.Model, level: int, names: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The tensors as plain onnxruntime computes them with the model after `terms`."""
    proto = ir.to_proto(Terms(level=level).apply(model))
    present = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(proto.SerializeToString(), options).run(names, feeds)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("nets")


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", nets.NAMES)
def test_every_tensor_at_every_level(name, target, engine, folder):
    model = partitioned(name, folder)
    program = back_end(model, TARGETS[target]())
    verify(program)
    session = Session(program, engine=engine)
    feeds = nets.inputs(nets.build(name))
    names = [t.name for t in program.tensors if t.place is not None]
    assert names
    for level in LEVELS:
        expected = exact_tensors(model, level, names, feeds)
        for tensor, ours, theirs in zip(names, session.run(names, feeds, level=level), expected, strict=True):
            assert np.array_equal(ours, theirs), f"{tensor} at level {level}"


def test_tiny_targets_take_many_tiles(folder):
    program = back_end(partitioned("residual", folder), nets.tiny_target())
    loops = [i for i in program.code if i.mnemonic == "loop"]
    assert len(loops) >= 8


def test_nothing_of_these_networks_is_left_to_the_host(folder):
    for name in nets.NAMES:
        assert not back_end(partitioned(name, folder), load_target("vc707")).host, name
