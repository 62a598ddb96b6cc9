"""Channels that move take everything along, and no result changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from mmac.compiler.emit import Emit
from mmac.compiler.graph import Reorder, Terms, run
from mmac.compiler.graph.level_constants import BIAS, SCALE, to_metadata
from mmac.compiler.graph.reorder import terms_of_channels
from mmac.compiler.tile import Allocate, Pack, Schedule, Tile
from mmac.isa.verify import verify
from mmac.runtime import Session
from mmac.runtime.report import estimate
from mmac.runtime.targets import load_target
from tests.compiler.exact import back_end, front_end
from tests.compiler.graph.small import feeds, model

NET = """(float[1,16,6,6] x) => (float[1,16,6,6] y) {
    a = Conv (x, w[48,16,1,1], w[48])
    b = Relu (a)
    c = Conv <group=48, pads=[1,1,1,1]> (b, w[48,1,3,3], w[48])
    d = Conv <pads=[1,1,1,1]> (c, w[32,48,3,3], w[32])
    e = Conv (d, w[32,32,1,1], w[32])
    f = Add (d, e)
    g = MaxPool <kernel_shape=[3,3], pads=[1,1,1,1]> (f)
    y = Conv (g, w[16,32,1,1])
}"""


def budgets(*channels: tuple[str, list[int]]) -> dict[str, dict[str, Any]]:
    """α of the blocks of 16 output channels of some layers."""
    return {name: {"alpha_of_channels": np.repeat(blocks, 16).tolist()} for name, blocks in channels}


RISING = budgets(("conv0", [4, 8, 12]), ("conv3", [5, 9]), ("conv4", [7, 9]))


def partitioned(folder: Path, said: dict[str, dict[str, Any]] | None = None, text: str = NET) -> ir.Model:
    return front_end(model(text), folder, said)


def layer(state: ir.Model, name: str) -> ir.Node:
    return next(node for node in state.graph if node.name == name)


def test_channels_are_sorted_and_no_result_changes(tmp_path: Path) -> None:
    exact = Terms().apply(partitioned(tmp_path, RISING))
    after = Reorder().apply(exact)
    for name, blocks in (("conv0", [12, 8, 4]), ("conv3", [9, 5]), ("conv4", [9, 7])):
        most = terms_of_channels(layer(after, name))[-1].reshape(-1, 16).max(axis=1)
        assert most.tolist() == blocks, name
    inputs = feeds(model(NET))
    np.testing.assert_array_equal(run(after, inputs)["y"], run(exact, inputs)["y"])
    moved = {value.name for node in after.graph for value in node.outputs if (value.name or "").endswith("_reordered")}
    assert len(moved) == 6, "all but the output"


def test_at_every_level_in_every_engine(tmp_path: Path) -> None:
    state = partitioned(tmp_path, RISING)
    for number, name in enumerate(("conv0", "conv3")):
        exact = Terms().apply(state)
        bias, scale = (value.const_value.numpy() for value in layer(exact, name).inputs[3:5])  # type: ignore[union-attr]
        rng = np.random.default_rng(number)
        node = layer(state, name)
        node.metadata_props[BIAS] = to_metadata(bias + rng.integers(-50, 50, (8, len(bias))), BIAS)
        node.metadata_props[SCALE] = to_metadata(scale * rng.uniform(0.5, 1, (8, len(scale))), SCALE)
    target = load_target("vc707")
    plain, inputs = back_end(state, target), feeds(model(NET))
    module = Tile(target).apply(Reorder().apply(Terms().apply(state)))
    program = Emit(target).apply(Allocate(target).apply(Schedule(target).apply(Pack().apply(module))))
    verify(program)
    for engine in ("fast", "reference"):
        ours, theirs = (Session(each, engine=engine) for each in (program, plain))
        for level in range(8):
            np.testing.assert_array_equal(ours.run(None, inputs, level), theirs.run(None, inputs, level))
    cycles = [[level.cycles for level in estimate(each).levels] for each in (program, plain)]
    assert all(low <= high for low, high in zip(*cycles, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "(float[1,16,6,6] x) => (float[1,32,6,6] y) { y = Conv (x, w[32,16,1,1]) }",
        """(float[1,16,6,6] x) => (float[1,16,6,6] y) {
            a = Conv (x, w[40,16,1,1])
            y = Conv (a, w[16,40,1,1])
        }""",
        """(float[1,16,2,2] x) => (float[a,b] y) {
            a = Conv (x, w[32,16,1,1])
            b = Flatten (a)
            y = Gemm (b, w[128,16])
        }""",
        """(float[1,16,6,6] x) => (float[1,16,6,6] y) {
            a = Conv (x, w[32,16,1,1])
            b = Conv <group=2> (a, w[32,16,1,1])
            y = Conv (b, w[16,32,1,1])
        }""",
        """(float[1,16,4,32] x, float[4,16] g) => (float[1,16,4,32] y) {
            a = Conv (x, w[32,16,1,1])
            b = Gemm (g, w[16,32])
            c = Add (a, b)
            y = Conv (c, w[16,32,1,1])
        }""",
    ],
    ids=["output", "part of a group", "flattened", "in groups", "broadcast along another axis"],
)
def test_what_cannot_move_stays(text: str, tmp_path: Path) -> None:
    channels = 40 if "w[40" in text else 32
    said = {"conv0": {"alpha_of_channels": list(range(1, channels + 1))}}
    exact = Terms().apply(partitioned(tmp_path, said, text))
    after = Reorder().apply(exact)
    np.testing.assert_array_equal(terms_of_channels(layer(after, "conv0")), terms_of_channels(layer(exact, "conv0")))


def test_nothing_moves_where_all_keep_the_same_or_nobody_asks(tmp_path: Path) -> None:
    even = Terms().apply(partitioned(tmp_path, {"*": {"alpha": 8}}))
    assert nodes(Reorder().apply(even)) == nodes(even)
    rising = Terms().apply(partitioned(tmp_path, RISING))
    assert nodes(Reorder(enabled=False).apply(rising)) == nodes(rising) != nodes(Reorder().apply(rising))


def nodes(state: ir.Model) -> list[list[str | None]]:
    return [[value.name for value in node.inputs if value is not None] for node in state.graph]


SQUEEZE = """(float[1,16,8,8] x) => (float[1,16,8,8] y) {
    a = Conv (x, w[32,16,1,1], w[32])
    b = HardSwish (a)
    m = GlobalAveragePool (b)
    r = Conv (m, w[16,32,1,1])
    s = Conv (r, w[32,16,1,1])
    t = Sigmoid (s)
    u = Mul (b, t)
    c = Conv <pads=[1,1,1,1]> (u, w[32,32,3,3])
    d = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1]> (c)
    f = Conv (d, w[32,32,1,1])
    g = Add (d, f)
    y = Conv (g, w[16,32,1,1])
}"""


def test_a_network_of_many_operators(tmp_path: Path) -> None:
    blocks = {
        f"#{position}": {"alpha_of_channels": [4 + position] * 16 + [9 + position] * 16} for position in (0, 2, 3, 4)
    }
    exact = Terms().apply(partitioned(tmp_path, blocks, SQUEEZE))
    moved = Reorder().apply(exact)
    inputs = feeds(model(SQUEEZE))
    np.testing.assert_array_equal(run(moved, inputs)["y"], run(exact, inputs)["y"])
    names = {value.name for node in moved.graph for value in node.outputs if (value.name or "").endswith("_reordered")}
    assert len(names) >= 6, names
