"""The plan: who decides, what is clipped, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from mmac.compiler.graph import ALPHA, BETA, LEVELS, Budget, Fold, Partition, Quantize, Terms, run
from mmac.compiler.graph.budget import ORIGIN
from mmac.compiler.graph.group_budgets import GROUPS, limits_of
from mmac.compiler.graph.layers import weight_rows, weight_scale
from mmac.compiler.stages import plan_table
from mmac.isa.errors import MalformedError, MmacWarning, UsageError
from mmac.isa.plan import FULL, PAPER_LEVELS, Level
from mmac.isa.terms import term_count
from tests.compiler.graph.small import feeds, imported, model, samples
from tests.isa import naive

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
    assert [alpha for alpha, _ in found["conv0"]] == [9, 10], "training decides about the first layer too"
    assert found["conv0"][0][1] > 3, "of which it says nothing about beta"
    assert found["conv2"] == [(11, 2), (12, 3)]
    assert found["conv3"] == [(5, 1), (6, 1)]


def test_globs_and_keep(tmp_path: Path) -> None:
    found = budgeted(tmp_path, (Level(8, 2), Level(9, 2)), **{"conv*": {"alpha": 6}, "conv3": {"keep": "all"}})
    assert found["conv2"] == [(6, 2), (6, 2)]
    assert [alpha for alpha, _ in found["conv0"]] == [6, 6]
    assert found["conv3"][0][0] > 20


def test_values_above_full_are_clipped(tmp_path: Path) -> None:
    assert budgeted(tmp_path, (Level(8, 2),), conv2={"alpha": 64, "beta": 5})["conv2"][0] < (64, 5)


def test_later_words_replace_earlier_ones(tmp_path: Path) -> None:
    levels = (Level(8, 2), Level(9, 2))
    found = budgeted(tmp_path, levels, **{"conv3": {"keep": "all"}, "conv*": {"alpha": 6}})
    assert [alpha for alpha, _ in found["conv3"]] == [6, 6]
    assert found["conv3"][0][1] > 2, "what is said later is about alpha only"
    ragged: dict[str, dict[str, Any]] = {"conv2": {"alpha_of_channels": [5] * 15 + [6]}, "conv*": {"alpha": 7}}
    state = Budget(levels, ragged).apply(quantized(tmp_path))
    assert plan(state)["conv2"] == [(7, 2), (7, 2)]
    assert all(GROUPS not in node.metadata_props for node in state.graph)


def test_positions(tmp_path: Path) -> None:
    found = budgeted(tmp_path, (Level(8, 2),), **{"#1..2": {"alpha": 5}, "#-1": {"alpha": 6}, "#0": {"keep": "all"}})
    assert [found[name][0][0] for name in NAMES[1:]] == [5, 5, 6]
    assert found["conv0"][0][0] > 20


def test_where_budgets_come_from(tmp_path: Path) -> None:
    proto = model(CHAIN)
    proto.graph.node[2].metadata_props.add(key=ALPHA, value="9")
    state = Budget((Level(8, 2),), {"conv3": {"alpha": 5}}).apply(quantized(tmp_path, proto))
    found = {node.name: node.metadata_props[ORIGIN] for node in state.graph if ORIGIN in node.metadata_props}
    assert found == {
        "conv0": "first or last layer",
        "conv2": "alpha: model; beta: levels",
        "conv3": "alpha: budget 'conv3'; beta: levels",
        "gemm6": "first or last layer",
    }
    head, rows = plan_table(state)
    assert head == ("", "layer", "8x2", "from")
    assert rows[1] == ("#1", "conv2", "9x2", "alpha: model; beta: levels")


def test_budgets_of_channels_and_groups(tmp_path: Path) -> None:
    """Truncated by the definition of each group's own budget, at each level."""
    levels = (Level(8, 2), Level(20, 3))
    channels = [[1 + c % 7 for c in range(16)], [8 + c for c in range(16)]]
    groups = [[[3 + (c + g) % 5 for g in range(9)] for c in range(16)]]
    budgets = {"conv2": {"alpha_of_groups": groups[0]}, "conv3": {"alpha_of_channels": channels}}
    state = Budget(levels, budgets).apply(quantized(tmp_path))
    assert plan(state)["conv2"] == [(7, 2), (7, 3)]
    assert plan(state)["conv3"] == [(7, 2), (23, 3)]
    assert plan_table(state)[1][1][2:4] == ("≤ 7x2 (5.0)", "≤ 7x3 (5.0)")
    before = {node.name: weight_rows(node) for node in state.graph if node.name in budgets}
    for level in range(2):
        exact = Terms(level).apply(Partition().apply(state))
        for node in exact.graph:
            if node.name not in before:
                continue
            values = node.inputs[2].const_value.numpy()  # type: ignore[union-attr]
            rows = np.moveaxis(values, 1, -1).reshape(16, -1)
            for c, row in enumerate(before[node.name].tolist()):
                own = groups[0][c] if node.name == "conv2" else [channels[level][c]]
                expected = [naive.truncated(row[16 * g : 16 * g + 16], alpha) for g, alpha in enumerate(own)]
                assert rows[c].tolist() == [value for group in expected for value in group]


def test_what_is_spent_on_the_largest_terms(tmp_path: Path) -> None:
    """As many terms as with a uniform budget, and none left out is larger than one that is kept."""
    state = quantized(tmp_path)
    levels = (Level(4, 2), Level(9, 2))
    found = Budget(levels, {"conv2": {"alpha": [4, 9], "spend": "largest"}}).apply(state)
    node = next(node for node in found.graph if node.name == "conv2")
    limits = limits_of(node, 2, 16, 9)
    assert limits is not None
    assert limits.sum(axis=(1, 2)).tolist() == [4 * 144, 9 * 144]
    scale = weight_scale(node, 16)
    for own in limits:
        kept, dropped = [], []
        for c, row in enumerate(weight_rows(node).tolist()):
            for g in range(9):
                sizes = [scale[c] * 2**exponent for exponent, *_ in naive.ranked(row[16 * g : 16 * g + 16])]
                kept += sizes[: own[c, g]]
                dropped += sizes[own[c, g] :]
        assert min(kept) >= max(dropped)
    assert node.metadata_props[ORIGIN] == "alpha: budget 'conv2' (spent); beta: levels"


def test_budgets_that_a_model_brings_along(tmp_path: Path) -> None:
    """They are about the model's own levels, which count unless others are asked for."""
    proto = model(CHAIN)
    proto.metadata_props.add(key=LEVELS, value="7x2,9x3")
    proto.graph.node[2].metadata_props.add(key=ALPHA, value="5,6")
    state = quantized(tmp_path, proto)
    own = Budget().apply(state)
    assert own.metadata_props[LEVELS] == "7x2,9x3"
    assert plan(own)["conv2"] == [(5, 2), (6, 3)]
    assert plan(Budget((Level(7, 2), Level(9, 3))).apply(state))["conv2"] == [(5, 2), (6, 3)]
    with pytest.warns(MmacWarning, match="for its levels 7x2,9x3; they do not count with --levels"):
        assert plan(Budget((Level(8, 2),)).apply(state))["conv2"] == [(8, 2)]


def test_levels_of_a_model_that_are_none(tmp_path: Path) -> None:
    proto = model(CHAIN)
    proto.metadata_props.add(key=LEVELS, value="7x2,6x3")
    with pytest.raises(MalformedError, match=r"mmac\.levels of the model: levels: 7x2 is followed by 6x3"):
        Budget().apply(quantized(tmp_path, proto))


WRONG: list[tuple[Any, str]] = [
    ({"conv2": {"alpha": 0}}, "budget of: conv2: alpha: 0; whole numbers in 1…64"),
    ({"conv2": {"beta": 9}}, "conv2: beta: 9; whole numbers in 1…5"),
    ({"conv2": {"alpha": [8, 65]}}, "conv2: alpha at level 9x2: 65; whole numbers in 1…64"),
    ({"conv2": {"alpha": [8, 9, 10]}}, "conv2: alpha: 3 numbers; one for each of the 2 levels"),
    ({"conv2": {"alpha": [9, 8]}}, "conv2: alpha at level 9x2: 8 after 9; a budget that does not fall"),
    ({"conv2": {"alpha": "many"}}, "conv2: alpha: 'many'; whole numbers in 1…64"),
    ({"conv2": {"alpha": 8.5}}, "conv2: alpha: 8.5; whole numbers in 1…64"),
    ({"conv2": {"alpha": True}}, "conv2: alpha: True; whole numbers in 1…64"),
    ({"conv2": {"gamma": 8}}, "conv2: the key 'gamma'; a table with alpha, "),
    ({"conv2": {}}, "conv2: {}; a table with alpha, "),
    ({"conv2": 8}, "conv2: 8; a table with alpha, "),
    ({"conv2": {"keep": "some"}}, "conv2: keep: 'some'; keep = \"all\""),
    ({"conv2": {"spend": "largest"}}, "conv2: spend: no alpha beside it"),
    ({"conv2": {"spend": "some", "alpha": 3}}, "conv2: spend: 'some'; spend = \"largest\""),
    ({"conv2": {"alpha": 3, "alpha_of_channels": [3]}}, "conv2: alpha and alpha_of_channels; one of them"),
    ({"conv2": {"keep": "all", "alpha": 3, "beta": 2}}, "conv2: keep: given beside alpha and beta; keep alone, or"),
    ({"conv2": {"alpha_of_channels": 3}},
     "budget of 'conv2': alpha_of_channels for layer 'conv2': 3; 16 numbers, one for each output channel; or that for"),
    ({"conv2": {"alpha_of_channels": [[3], [4], [5]]}}, "3 lists; one for each of the 2 levels"),
    ({"conv2": {"alpha_of_channels": [[3, 4], [5]]}}, "[[3, 4], [5]]; 16 numbers, one for each output channel"),
    ({"conv2": {"alpha_of_channels": [3.5]}}, "[3.5]; 16 numbers, one for each output channel"),
    ({"conv2": {"alpha_of_channels": [True, 2]}}, "[True, 2]; 16 numbers, one for each output channel"),
    ({"conv2": {"alpha_of_channels": np.array([[9] * 16, [8] * 16], np.uint8)}}, "at level 9x2: 8 after 9; a budget"),
    ({"conv2": {"alpha_of_channels": [10**30]}}, "16 numbers, one for each output channel"),
    ({"conv2": {"alpha_of_channels": [0] * 16}}, "alpha_of_channels at level 8x2: 0; whole numbers in 1…64"),
    ({"conv2": {"alpha_of_channels": [[4, 4], [4, 3]]}}, "at level 9x2: 3 after 4; a budget that does not fall"),
    ({"conv2": {"alpha_of_groups": [3]}}, "1 numbers; 16 × 9 numbers, one for each group of 16 weights of"),
    ({"conv2": {"alpha_of_channels": [3] * 15}},
     "budget of 'conv2': alpha_of_channels for layer 'conv2': 15 numbers; 16 numbers, one for each output channel"),
    ({"conv*": {"alpha_of_groups": [[3] * 9] * 16}},
     "alpha_of_groups for layer 'conv0': 16 × 9 numbers; 16 × 2 numbers, one for each group"),
]  # fmt: skip


@pytest.mark.parametrize(("budgets", "message"), WRONG)
def test_wrong_budgets(tmp_path: Path, budgets: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedError) as info:
        Budget((Level(8, 2), Level(9, 2)), budgets).apply(quantized(tmp_path))
    assert message in str(info.value)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("conv1", "budget of 'conv1': no array layer has such a name; such as conv3"),
        ("#4", "budget of '#4': no such layers; there are 4; #0…#3, first to last"),
        ("#-5", "no such layers"),
        ("#2..1", "budget of '#2..1': the first position comes after the last; such as #2..5, both ends included"),
        ("#x", "budget of '#x': not a position; #0…#3, #2..5 with both ends, #-1 for the last"),
        ("#1..4", "no such layers"),
    ],
)
def test_layers_that_are_not_there(tmp_path: Path, pattern: str, message: str) -> None:
    with pytest.raises(UsageError) as info:
        Budget((Level(8, 2),), {pattern: {"alpha": 8}}).apply(quantized(tmp_path))
    assert message in str(info.value)


def test_wrong_metadata(tmp_path: Path) -> None:
    proto = model(CHAIN)
    proto.graph.node[2].metadata_props.add(key=BETA, value="2,9")
    with pytest.raises(MalformedError, match=r"layer 'conv2': mmac\.beta at level 9x2: 9; whole numbers in 1…5"):
        Budget((Level(8, 2), Level(9, 2))).apply(quantized(tmp_path, proto))
