"""The plan: who decides, what is clipped, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from mmac.compiler.graph import ALPHA, BETA, LEVELS, Budget, Fold, Quantize, run
from mmac.isa.errors import UsageError
from mmac.isa.plan import FULL, PAPER_LEVELS, Level
from mmac.isa.terms import term_count
from tests.compiler.graph.small import feeds, imported, model, samples

CHAIN = """(float[1,3,8,8] x) => (float[a,b] y) {
    a = Conv <pads=[1,1,1,1]> (x, w[16,3,3,3], w[16])
    b = Relu (a)
    c = Conv <pads=[1,1,1,1]> (b, w[16,16,3,3], w[16])
    d = Conv (c, w[16,16,1,1], w[16])
    e = GlobalAveragePool (d)
    f = Flatten (e)
    y = Gemm <transB=1> (f, w[10,16], w[10])
}"""
NAMES = ["conv0", "conv2", "conv3", "gemm6"]


def quantized(folder: Path, proto: onnx.ModelProto | None = None) -> ir.Model:
    proto = proto or model(CHAIN)
    return Quantize(samples(proto)).apply(Fold().apply(imported(proto, folder)))


def plan(state: ir.Model) -> dict[str, list[tuple[int, int]]]:
    """(α, β) of each layer at each level."""
    result = {}
    for node in state.graph:
        if ALPHA in node.metadata_props:
            alphas, betas = (map(int, node.metadata_props[key].split(",")) for key in (ALPHA, BETA))
            result[node.name or ""] = list(zip(alphas, betas, strict=True))
    return result


def budgeted(
    folder: Path, levels: tuple[Level, ...] = PAPER_LEVELS, **budgets: Any
) -> dict[str, list[tuple[int, int]]]:
    return plan(Budget(levels, budgets).apply(quantized(folder)))


def test_paper_levels_for_the_inner_layers(tmp_path: Path) -> None:
    found = budgeted(tmp_path)
    assert list(found) == NAMES
    for name in ("conv2", "conv3"):
        assert found[name] == [(level.alpha, level.beta) for level in PAPER_LEVELS]


def test_first_and_last_keep_everything(tmp_path: Path) -> None:
    found = budgeted(tmp_path)
    for name in ("conv0", "gemm6"):
        assert len(set(found[name])) == 1
        assert found[name][0][0] > 20


def test_full_budget_is_what_the_weights_have(tmp_path: Path) -> None:
    """Counted the slow way: groups of 16 along (row, column, channel)."""
    state = quantized(tmp_path)
    found = plan(Budget((FULL,)).apply(state))
    node = next(node for node in state.graph if node.name == "conv2")
    weights = node.inputs[1].producer().inputs[0].const_value.numpy()  # type: ignore[union-attr]
    counts = [
        sum(int(term_count(int(v))) for v in row[start : start + 16])
        for row in weights.transpose(0, 2, 3, 1).reshape(16, -1)
        for start in range(0, 144, 16)
    ]
    assert found["conv2"][0][0] == max(counts)
    assert found["conv2"][0][1] <= 5


def test_edges_follow_paths_not_order(tmp_path: Path) -> None:
    text = """(float[1,16,4,4] x) => (float[a,b,c,d] y) {
        a = Conv (x, w[16,16,1,1])
        b = Conv (x, w[16,16,1,1])
        c = Conv (b, w[16,16,1,1])
        d = Conv (c, w[16,16,1,1])
        s = Add (a, d)
        y = Conv (s, w[16,16,1,1])
    }"""
    proto = model(text)
    found = plan(Budget((Level(8, 2),)).apply(quantized(tmp_path, proto)))
    assert [name for name, levels in found.items() if levels == [(8, 2)]] == ["conv2", "conv3"]


def test_results_do_not_change(tmp_path: Path) -> None:
    state = quantized(tmp_path)
    after = Budget().apply(state)
    assert not plan(state)
    assert after.metadata_props[LEVELS] == "8x2,10x2,12x2,14x2,14x3,16x3,18x3,20x3"
    inputs = feeds(model(CHAIN))
    np.testing.assert_array_equal(run(after, inputs)["y"], run(state, inputs)["y"])


def test_full_level_among_others(tmp_path: Path) -> None:
    found = budgeted(tmp_path, (Level(8, 2), FULL))
    assert found["conv2"][0] == (8, 2)
    assert found["conv2"][1] > (20, 3)


def test_file_beats_metadata_beats_levels(tmp_path: Path) -> None:
    proto = model(CHAIN)
    for node, alpha in zip((proto.graph.node[0], proto.graph.node[2], proto.graph.node[3]), (9, 11, 13), strict=True):
        node.metadata_props.add(key=ALPHA, value=f"{alpha},{alpha + 1}")
    levels = (Level(8, 2), Level(20, 3))
    state = quantized(tmp_path, proto)
    found = plan(Budget(levels, {"conv3": {"alpha": [5, 6], "beta": 1}}).apply(state))
    assert found["conv0"] == [(9, 2), (10, 3)], "training decides about the first layer too"
    assert found["conv2"] == [(11, 2), (12, 3)]
    assert found["conv3"] == [(5, 1), (6, 1)]


def test_globs_and_keep(tmp_path: Path) -> None:
    found = budgeted(tmp_path, (Level(8, 2), Level(9, 2)), **{"conv*": {"alpha": 6}, "conv3": {"keep": "all"}})
    assert found["conv2"] == [(6, 2), (6, 2)]
    assert found["conv0"] == [(6, 2), (6, 2)]
    assert found["conv3"][0][0] > 20


def test_values_above_full_are_clipped(tmp_path: Path) -> None:
    assert budgeted(tmp_path, (Level(8, 2),), conv2={"alpha": 64, "beta": 5})["conv2"][0] < (64, 5)


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ({"conv1": {"alpha": 8}}, "budget of 'conv1': no array layer has such a name; such as conv3"),
        ({"conv2": {"alpha": 0}}, "layer 'conv2': alpha = 0; 1…64"),
        ({"conv2": {"beta": 6}}, "layer 'conv2': beta = 6; 1…5"),
        ({"conv2": {"alpha": [8, 9, 10]}}, "layer 'conv2': 3 values of alpha; one for each of the 2 levels"),
        ({"conv2": {"alpha": [9, 8]}}, "layer 'conv2': alpha = [9, 8]; alpha that does not fall"),
        ({"conv2": {"alpha": "many"}}, "layer 'conv2': alpha = 'many'; whole numbers"),
        ({"conv2": {"alpha": 8.5}}, "layer 'conv2': alpha = 8.5; whole numbers"),
        ({"conv2": {"gamma": 8}}, "a table with alpha, beta or keep"),
        ({"conv2": {}}, "a table with alpha, beta or keep"),
        ({"conv2": 8}, "a table with alpha, beta or keep"),
        ({"conv2": {"keep": "some"}}, "keep = 'some'; keep = \"all\""),
    ],
)
def test_wrong_budgets(tmp_path: Path, budgets: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as info:
        Budget((Level(8, 2), Level(9, 2)), budgets).apply(quantized(tmp_path))
    assert message in str(info.value)


def test_wrong_metadata(tmp_path: Path) -> None:
    proto = model(CHAIN)
    proto.graph.node[2].metadata_props.add(key=BETA, value="2,9")
    with pytest.raises(UsageError, match="layer 'conv2': beta = 9; 1…5"):
        Budget((Level(8, 2), Level(9, 2))).apply(quantized(tmp_path, proto))
