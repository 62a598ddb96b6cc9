"""What the machine computes is what the model after `terms` computes, tensor by tensor, however it is tiled."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import onnx_ir as ir
import pytest

from mmac.compiler.graph import Terms
from mmac.compiler.graph.level_constants import BIAS, SCALE, to_metadata
from mmac.compiler.tile.rings import Token
from mmac.isa.errors import MalformedError
from mmac.isa.spec import Queue
from mmac.isa.verify import verify
from mmac.runtime import Session
from mmac.runtime.targets import load_target
from tests.compiler import nets
from tests.compiler.exact import TARGETS, back_end, exact_tensors, front_end, wrong_tensors
from tests.compiler.graph.small import model

LEVELS = (0, 4, 7)


@cache
def partitioned(name: str, folder) -> ir.Model:
    return front_end(nets.build(name), folder)


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
    assert any(t.place is not None for t in program.tensors)
    assert not wrong_tensors(model, program, nets.inputs(nets.build(name)), LEVELS, [engine])


def test_tiny_targets_take_many_tiles(folder):
    program = back_end(partitioned("residual", folder), nets.tiny_target())
    loops = [i for i in program.code if i.mnemonic == "loop"]
    assert len(loops) >= 8


@pytest.mark.parametrize("target", TARGETS)
def test_weights_run_ahead_of_activations(target, folder):
    """The weights queue waits for free slots only, never for what an earlier operation has computed."""
    fetched, waited = set(), set()
    for name in nets.NAMES:
        code = back_end(partitioned(name, folder), TARGETS[target]()).code
        fetched |= {i.mnemonic for i in code if i.queue == Queue.WEIGHTS}
        waited |= {token for i in code if i.queue == Queue.WEIGHTS for token in i.waits}
    assert fetched == {"load.terms", "load.params", "sync.weights"}
    small = {Token.SMALL_WGT_FREE, Token.SMALL_PRM_FREE}
    assert {Token.WGT_FREE, Token.PRM_FREE} <= waited or small <= waited
    assert waited <= {Token.WGT_FREE, Token.PRM_FREE, Token.TABLE_FREE, *small}


def test_nothing_of_these_networks_is_left_to_the_host(folder):
    for name in nets.NAMES:
        assert not back_end(partitioned(name, folder), load_target("vc707")).host, name


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_constants_that_differ_by_level(engine, folder):
    """Each level has its own bias and scale, carried in the metadata of the array layers."""
    model = partitioned("residual", folder).clone()
    rng = np.random.default_rng(0)
    exact = {node.name: node for node in Terms().apply(model).graph if node.op_type in ("Conv", "MatMul")}
    for node in model.graph:
        if node.name in exact:
            bias, scale = (value.const_value.numpy() for value in exact[node.name].inputs[3:5])
            node.metadata_props[BIAS] = to_metadata(bias + rng.integers(-500, 500, (8, len(bias))), BIAS)
            node.metadata_props[SCALE] = to_metadata(scale * rng.uniform(0.5, 1, (8, len(scale))), SCALE)
    program = back_end(model, load_target("vc707"))
    verify(program)
    session = Session(program, engine=engine)
    feeds = nets.inputs(nets.build("residual"))
    names = [t.name for t in program.tensors if t.place is not None]
    for level in range(8):
        expected = exact_tensors(model, level, names, feeds)
        for tensor, ours, theirs in zip(names, session.run(names, feeds, level=level), expected, strict=True):
            assert np.array_equal(ours, theirs), f"{tensor} at level {level}"
    for level, (low, high) in enumerate(pairwise(range(8))):
        assert not np.array_equal(*(session.run(None, feeds, level=i)[0] for i in (low, high))), level


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        (BIAS, "!", "level_bias: not base64"),
        (BIAS, to_metadata(np.zeros((8, 3)), BIAS), "96 bytes; 768: 8 levels of 24 channels"),
        (SCALE, to_metadata(np.zeros((8, 24)), SCALE), "a scale that is not a positive number"),
    ],
)
def test_bad_constants_of_levels(key, text, message, folder):
    model = partitioned("residual", folder).clone()
    next(node for node in model.graph if node.op_type == "Conv").metadata_props[key] = text
    with pytest.raises(MalformedError, match=message):
        Terms().apply(model)


def test_more_outputs_than_an_instruction_can_count(tmp_path):
    """`conv` has 16 bits for channels."""
    proto = model("(float[1,16] x) => (float[1,70000] y) { y = MatMul (x, w[16,70000]) }")
    partitioned = front_end(proto, tmp_path)
    program = back_end(partitioned, load_target("vc707"))
    verify(program)
    assert not program.host
    assert not wrong_tensors(partitioned, program, nets.inputs(proto), [7])
