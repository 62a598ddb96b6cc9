"""Constants per level: what they are fitted to, what they leave alone, and that they help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.compiler.graph import Budget, Correct, Fold, Partition, Quantize, Terms, run
from mmac.compiler.graph.bodies import DOMAIN
from mmac.compiler.graph.call import Call
from mmac.compiler.graph.correct import corrected, fit
from mmac.compiler.graph.layer_sums import LayerKernel, Products
from mmac.compiler.graph.level_constants import BIAS, SCALE, from_metadata, to_metadata
from mmac.compiler.graph.stepwise import walk
from mmac.isa.errors import MalformedError
from mmac.isa.plan import FULL, Level, parse_levels
from mmac.isa.terms import MAX_DATA, truncate_groups
from tests.compiler import nets
from tests.compiler.graph.small import Array, feeds, imported, model, samples, stages

LEVELS = (Level(4, 1), Level(8, 2), FULL)
ONE = np.ones(1, np.float32)
DEEP = """(float[1,8,12,12] x) => (float[a,b] y) {
    c1 = Conv <pads=[1,1,1,1]> (x, w[32,8,3,3], w[32])
    r1 = Relu (c1)
    c2 = Conv <pads=[1,1,1,1], group=32> (r1, w[32,1,3,3], w[32])
    r2 = Clip (c2, low, high)
    c3 = Conv (r2, w[24,32,1,1], w[24])
    s = Sigmoid (c3)
    m = Mul (c3, s)
    c4 = Conv <pads=[1,1,1,1], strides=[2,2]> (m, w[40,24,3,3], w[40])
    r4 = Relu (c4)
    g = GlobalAveragePool (r4)
    f = Flatten (g)
    h = MatMul (f, w[40,24])
    y = Add (h, w[24])
}"""


@pytest.fixture(name="deep")
def _deep() -> onnx.ModelProto:
    return model(DEEP, low=np.float32(0), high=np.float32(6))


def layers(state: ir.Model) -> dict[str, ir.Node]:
    return {node.name or "": node for node in state.graph if node.domain == DOMAIN and node.op_type in REDUCING}


REDUCING = ("Conv", "MatMul")


def decibels(reference: Array, found: Array) -> float:
    noise = np.square(reference.astype(float) - found).sum()
    return float(10 * np.log10(np.square(reference.astype(float)).sum() / max(noise, 1e-30)))


# --------------------------------------------------------------------------------------------------------- the passes


def test_every_truncated_level_comes_closer(deep: onnx.ModelProto, tmp_path: Path) -> None:
    before = stages(deep, tmp_path, LEVELS)["partition"]
    after = Correct(samples(deep)).apply(before)
    fresh = samples(deep, 12, seed=99)

    def outputs(state: ir.Model, level: int) -> Array:
        exact = Terms(level).apply(state)
        return np.stack([run(exact, {"x": x[None]})["y"] for x in fresh["x"]])

    whole = outputs(before, 2)
    for level in (0, 1):
        gain = decibels(whole, outputs(after, level)) - decibels(whole, outputs(before, level))
        assert gain > 1, f"level {level}: {gain:.1f} dB"


def test_nothing_changes_where_nothing_is_dropped(deep: onnx.ModelProto, tmp_path: Path) -> None:
    before = stages(deep, tmp_path, LEVELS)["partition"]
    after = Correct(samples(deep)).apply(before)
    feed = feeds(deep)
    np.testing.assert_array_equal(run(Terms(2).apply(after), feed)["y"], run(Terms(2).apply(before), feed)["y"])
    changed = {name for name, node in layers(after).items() if BIAS in node.metadata_props}
    assert changed == {"conv2", "conv4", "conv7", "matmul11"} - {"conv0"}
    for name in changed:
        node, call = layers(after)[name], Call(layers(before)[name], before)
        base = Products.of(call, 2)
        for key, expected in ((BIAS, base.bias), (SCALE, base.scale)):
            constants = from_metadata(node, key, 3, len(base.bias))
            assert constants is not None
            np.testing.assert_array_equal(constants[2], expected)
            assert not np.array_equal(constants[0], expected)


def test_a_single_truncated_level(deep: onnx.ModelProto, tmp_path: Path) -> None:
    """Constants that are the same at all levels are written too if they are not those of the layer."""
    after = stages(deep, tmp_path, (Level(6, 2),))["correct"]
    assert SCALE in layers(after)["conv2"].metadata_props


def test_without_data_nothing_happens(deep: onnx.ModelProto, tmp_path: Path) -> None:
    before = stages(deep, tmp_path, LEVELS)["partition"]
    assert str(Correct().apply(before)) == str(before)


def test_constants_from_training_stay(deep: onnx.ModelProto, tmp_path: Path) -> None:
    before = stages(deep, tmp_path, LEVELS)["partition"]
    own = to_metadata(np.full((3, 32), 0.25), SCALE)
    layers(before)["conv2"].metadata_props[SCALE] = own
    assert str(Correct(samples(deep)).apply(before)) == str(before)


def test_the_same_data_give_the_same_constants(deep: onnx.ModelProto, tmp_path: Path) -> None:
    before = stages(deep, tmp_path, LEVELS)["partition"]
    kept = str(before)
    first, second = (Correct(samples(deep)).apply(before) for _ in range(2))
    assert {k: dict(n.metadata_props) for k, n in layers(first).items()} == {
        k: dict(n.metadata_props) for k, n in layers(second).items()
    }
    assert str(before) == kept


def test_fewer_samples_if_they_are_large(
    deep: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stages(deep, tmp_path, LEVELS)["partition"]
    seen = []

    def spy(model: ir.Model, feeds: list[object], variants: int, layer: object) -> dict[str, list[Array]]:
        seen.append((len(feeds), variants))
        return {"y": [np.zeros((len(feeds), 1, 24))] * variants}

    monkeypatch.setattr("mmac.compiler.graph.correct.walk", spy)
    Correct(samples(deep, 30)).apply(before)
    monkeypatch.setattr("mmac.compiler.graph.correct._MEMORY_BYTES", 4 * 4 * 32 * 144 * 3)
    Correct(samples(deep, 30)).apply(before)
    Correct(samples(deep, 30), fit=False).apply(before)
    assert seen == [(16, 4), (3, 4), (3, 4)]
    monkeypatch.undo()
    monkeypatch.setattr("mmac.compiler.graph.correct.walk", spy)
    Correct(samples(deep, 30), fit=False).apply(before)
    assert seen[3:] == [(4, 4)]


def test_samples_that_do_not_fit(deep: onnx.ModelProto, tmp_path: Path) -> None:
    before = stages(deep, tmp_path, LEVELS)["partition"]
    with pytest.raises(MalformedError, match=r"calibration data 'x': samples of shape \[8, 12\]"):
        Correct({"x": np.zeros((3, 8, 12), np.float32)}).apply(before)


# ------------------------------------------------------------------------------------------------------------ the fit


@given(seed=st.integers(0, 2**32 - 1), gain=st.floats(0.4, 2.5), offset=st.floats(-1e3, 1e3))
def test_an_exact_relation_is_found(seed: int, gain: float, offset: float) -> None:
    sums = np.random.default_rng(seed).normal(0, 1e3, (3, 5000)).astype(np.float32)
    wide = np.full(3, 1e9, np.float32)
    found_gain, found_offset = fit((gain * sums + offset).astype(np.float32), sums, -wide, wide)
    np.testing.assert_allclose(found_gain, gain, rtol=5e-3)
    np.testing.assert_allclose(found_offset, offset, rtol=5e-3, atol=0.02 * abs(offset) + 2)


def test_few_sums_change_little() -> None:
    sums = np.array([[1, 2, 3]], np.float32)
    wide = np.full(1, 1e9, np.float32)
    gain, _ = fit(2 * sums, sums, -wide, wide)
    assert 1 < gain.item() < 1.5
    for constant in (np.full((1, 50), 7, np.float32), np.zeros((1, 50), np.float32)):
        gain, offset = fit(constant + 5, constant, -wide, wide)
        assert gain.item() == 1
        assert 4 < offset.item() < 5


def test_hidden_sums_count_less() -> None:
    """Below the clamp the relation is another one; what the clamp lets through decides."""
    sums = np.concatenate([np.linspace(1, 100, 200), np.linspace(-100, -1, 200)]).astype(np.float32)[None]
    target = np.where(sums > 0, 1.5 * sums, 0.5 * sums)
    edge = np.ones(1, np.float32)
    gain = {low: fit(target, sums, low * edge, 1e9 * edge)[0].item() for low in (-1e9, 0)}
    assert abs(gain[0] - 1.5) < abs(gain[-1e9] - 1.5)


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=40), st.integers(1, 64), st.integers(1, 64))
def test_corrected_biases_leave_room_for_the_sums_of_all_levels(weights: list[int], low: int, high: int):
    """Fewer terms can make a sum larger: 127 = 128 - 1 becomes 128."""
    rows = np.array(weights, np.int8)
    whole = Products(np.zeros(256, np.float32), rows[:, None], np.array([2**29], np.int32), ONE)
    room = np.iinfo(np.int32).max - MAX_DATA * whole.largest_sums()
    own = replace(whole, weights=truncate_groups(rows, low)[:, None])
    bias = np.abs(corrected(own, np.array([0.25]), np.array([0.0]), room).bias.astype(np.int64))
    for alpha in (low, high):
        magnitude = np.abs(truncate_groups(rows, alpha).astype(np.int64)).sum()
        assert bias + MAX_DATA * magnitude <= np.iinfo(np.int32).max
    assert bias == room


# --------------------------------------------------------------------------- the layers, and the model run step by step


@pytest.mark.parametrize("name", nets.NAMES)
def test_steps_give_what_the_whole_model_gives(name: str, tmp_path: Path) -> None:
    proto = nets.build(name)
    states = stages(proto, tmp_path, parse_levels("8x2,full"))
    partitioned = states["partition"]
    exact = Terms(0).apply(partitioned)
    calls = {node.name: Call(node, partitioned) for node in partitioned.graph if node.domain == DOMAIN}

    def layer(node: ir.Node, data: list[Array]) -> list[Array]:
        kernel, products = LayerKernel(calls[node.name]), Products.of(calls[node.name], 0)
        return [kernel.requantize(kernel.sums(x, products), products) for x in data]

    data = samples(proto, 3)
    batch = {key: len(array) // 3 for key, array in data.items()}
    rows = [{key: array[i * batch[key] : (i + 1) * batch[key]] for key, array in data.items()} for i in range(3)]
    outputs = walk(exact, rows, 1, layer)
    for i, row in enumerate(rows):
        for key, expected in run(exact, row).items():
            np.testing.assert_array_equal(outputs[key][0][i], expected)


def test_values_that_subgraphs_read(tmp_path: Path) -> None:
    """Host nodes with subgraphs read values of the graph around them."""
    proto = model(
        """(float[1,16] x, bool flag) => (float[a,b] y) {
            m = MatMul (x, w[16,8])
            r = Relu (m)
            q = If (flag) <
                then_branch = yes () => (float[1,8] t) { t = Neg (r) },
                else_branch = no () => (float[1,8] e) { e = Exp (r) }
            >
            y = MatMul (q, w[8,4])
        }"""
    )
    data = {
        "x": np.random.default_rng(1).standard_normal((4, 16)).astype(np.float32),
        "flag": np.array([True, False] * 2),
    }
    state = Partition().apply(Budget().apply(Quantize(data).apply(Fold().apply(imported(proto, tmp_path)))))
    calls = {node.name: Call(node, state) for node in state.graph if node.domain == DOMAIN}
    exact = Terms().apply(state)

    def layer(node: ir.Node, data: list[Array]) -> list[Array]:
        kernel, products = LayerKernel(calls[node.name]), Products.of(calls[node.name], 0)
        return [kernel.requantize(kernel.sums(x, products), products) for x in data]

    x = np.random.default_rng(5).standard_normal((1, 16)).astype(np.float32)
    rows = [{"x": x, "flag": np.array(flag)} for flag in (True, False)]
    outputs = walk(exact, rows, 2, layer)
    for i, row in enumerate(rows):
        for variant in outputs["y"]:
            np.testing.assert_array_equal(variant[i], run(exact, row)["y"])
