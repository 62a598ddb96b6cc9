"""Which layer goes wrong first, and the JSON of a comparison."""

from __future__ import annotations

import json
from dataclasses import replace

from mmac.compiler.comparison import Comparison, Finding, LevelErrors, OutputErrors
from mmac.compiler.comparison.result import KINDS, judge
from mmac.isa.plan import parse_levels
from tests.compiler.comparison.test_page import LAYERS, errors

LOW, HIGH = parse_levels("8x2,14x3")


def level(*kinds: str | None, of=LOW) -> LevelErrors:
    found = (Finding(kind, kind) if kind else None for kind in kinds)
    layers = tuple(replace(layer, finding=finding) for layer, finding in zip(LAYERS, found, strict=True))
    return LevelErrors(of, (OutputErrors("y", errors(20, 10, 9, 12)),), layers)


def test_the_gravest_finding_comes_first_then_the_order_of_the_program():
    assert level(None, None, None).first_wrong is None
    assert level(None, "values", "values").first_wrong.layer == "b"
    assert level("range", "constants", "values").first_wrong.layer == "c"
    assert level("range", "constants", None).first_wrong.layer == "b"
    assert level("range", None, "range").first_wrong.layer == "a"


def test_of_several_levels_the_first_layer_counts_then_the_lowest_level():
    levels = level(None, "range", "values"), level(None, "values", "values", of=HIGH)
    at, layer = Comparison("net", 1, levels).first_wrong
    assert (layer.layer, at) == ("b", levels[1])
    same = level("values", None, None), level("values", None, None, of=HIGH)
    assert Comparison("net", 1, same).first_wrong[0] is same[0]


def test_worst_layers_are_those_with_most_local_noise():
    assert [layer.layer for layer in level(None, None, None).worst(5)] == ["c", "a"]
    assert [layer.layer for layer in level(None, None, None).worst(1)] == ["c"]


def test_outputs_below_a_limit():
    found = Comparison("net", 1, (level(None, None, None), level(None, None, None, of=HIGH)))
    assert [str(at.level) for at, _ in found.below(12.1)] == ["8x2", "14x3"]
    assert list(found.below(12)) == []
    exact = replace(found.levels[0], outputs=(OutputErrors("y", errors(None, None, None, None)),))
    assert list(Comparison("net", 1, (exact,)).below(1000)) == []


def test_json():
    document = Comparison("net", 1, (level(None, "values", None),)).to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    wrong = {"level": "8x2", "layer": "b", "tensor": "b_q", "kind": "values", "text": "values"}
    assert document["first_wrong"] == document["levels"][0]["first_wrong"] == wrong
    assert document["levels"][0]["layers"][1]["local"]["sqnr_db"] is None
    assert Comparison("net", 1, (level(None, None, None),)).to_json()["first_wrong"] is None


def test_findings():
    good, bad = errors(30, 25, 24, 24), errors(8, 7, 6, 5)
    assert judge(good, good, 10**-2.4, 0, 10) is None
    assert judge(good, good, 10**-2.4, 2, 1000) == Finding(
        "values", "2 of 1,000 integers are not what the compiled model gives"
    )
    harmed = judge(good, good, 10**-3.1, 0, 10)
    assert harmed == Finding("constants", "24.0 dB with its biases and scales, 31.0 dB with the model's own")
    assert judge(good, good, 0, 0, 10).text.endswith("exact with the model's own")
    assert judge(good, good, 10**-2.9, 0, 10) is None
    assert judge(good, good, None, 0, 10) is None
    alone = errors(30, 25, 24, 17)
    assert judge(good, alone, 10**-2.9, 0, 10) is not None
    assert judge(good, alone, 10**-2.45, 0, 10) is None  # what the layer loses makes good for others
    assert judge(errors(40, 40, 40, 31), good, 10**-4, 0, 10) is None  # too little noise to matter
    assert judge(good, bad, 1, 0, 10) == Finding("range", "in 8 bits, nothing dropped, 8.0 dB of the layer are left")
    assert judge(good, errors(None, None, None, None), 1, 0, 10) is None
    assert set(KINDS) == {"values", "constants", "range"}
