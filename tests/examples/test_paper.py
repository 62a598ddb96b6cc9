"""The paper's hardware section: what its sentences and ratios are made of."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from examples.paper import cells, designs, levels, quoted, variants
from examples.paper.networks import Costs, Network, all_terms, depthwise
from examples.paper.sections import Table, compared
from mmac.runtime.targets import load_target


@cache
def bundled() -> Network:
    return Network.bundled()


@cache
def costs() -> Costs:
    target = load_target("vc707")
    return Costs("fashion_mnist_cnn", bundled().program(target), target)


def test_tables_show_numbers_in_their_format():
    table = Table("t", {"name": "", "ratio": ".1f", "count": ",d"}, [["a", 1.25, 1000], ["b", None, None]])
    assert table.text() == [["a", "1.2", "1,000"], ["b", "–", "–"]]
    assert table.to_json()["rows"][0] == {"name": "a", "ratio": 1.25, "count": 1000}


@pytest.mark.parametrize(
    ("value", "text"), [(2.72, "2.72× is 12 % below the quoted 3.1× (S)"), (3.1, "equals"), (6.2, "is 100 % above")]
)
def test_comparisons_follow_from_the_numbers(value: float, text: str):
    assert text in compared(value, 3.1, "S")


def rows_of(table: Table) -> dict[str, dict[str, float]]:
    return {row[next(iter(table.columns))]: row for row in table.to_json()["rows"]}


def test_ratios_between_cells_are_those_of_the_synthesis():
    """Mean ratios as measured: shared bus 2.72 and 1.33, own register 1.97 and 0.96, bare datapath 6.06 and 2.96."""
    rows = rows_of(cells.section(load_target("vc707"), []).tables[0])
    found = [rows[c][k] for c in ("bmac", "pmac") for k in ("first principles", "own bus register", "bare datapath")]
    assert found == pytest.approx([2.72, 1.97, 6.06, 1.33, 0.96, 2.96], rel=0.01)
    assert [rows[c]["paper constants"] for c in ("bmac", "pmac")] == pytest.approx([3.1, 5.6], rel=0.01)
    assert rows["pmac on a DSP48E1"]["first principles"] < 1


def test_verdicts_on_cells_turn_with_the_constants():
    target = load_target("vc707")
    said = " ".join(cells.section(target, []).verdicts)
    assert "within ±20 %" in said
    assert "does not follow from first principles" in said
    paper = replace(target, constants=dict.fromkeys(target.constants, target.constants["paper"]))
    assert "does not follow" not in " ".join(cells.section(paper, []).verdicts)


def test_rules_keep_layers_off_the_multipliers():
    target = load_target("vc707")
    report = Costs("net", bundled().program(target, depthwise), target).report
    macs = [layer.macs for layer in report.layers if layer.unit == "multipliers"]
    assert 0 < len(macs) < len([layer for layer in costs().report.layers if layer.unit == "multipliers"])
    first, *middle, last = [
        layer
        for layer in Costs("net", bundled().program(target, all_terms), target).report.layers
        if layer.op == "arraylayer"
    ]
    assert {first.unit, last.unit} == {"multipliers"}
    assert {layer.unit for layer in middle} == {"array"}


def test_what_a_variant_leaves_out():
    report = costs().report
    first, *_, last = [layer for layer in report.layers if layer.op == "arraylayer"]
    latency, energy = variants.without(report, (0, -1))
    assert latency[-1] == pytest.approx(report.levels[-1].latency_ms - first.latency_ms[-1] - last.latency_ms[-1])
    assert energy[0] == pytest.approx(report.levels[0].energy_mj - first.energy_mj[0] - last.energy_mj[0])


def test_variants_change_what_they_say():
    target = load_target("vc707")
    assert variants.blocks(64, 64)(target).array.blocks == 1
    assert variants.larger(target).cell_count == 6144
    assert variants.resident_weights(target).overflow().keys() == {"bram36"}
    assert variants.no_multipliers(target).multipliers is None
    assert variants.half_multipliers(target).multipliers.units == 64
    assert len({variant.name for variant in variants.VARIANTS}) == len(variants.VARIANTS)


def test_the_agreement_with_the_paper_is_judged_by_both_ratios():
    def outcome(latency: float, energy: float) -> str:
        return levels._agreement(variants.Outcome(variants.DEFAULT, [1.0, latency], [1.0, energy], ()))

    assert outcome(2.7, 2.5) == "latency and energy"
    assert outcome(2.3, 2.5) == "energy"
    assert outcome(3.0, 2.9) == "latency"
    assert outcome(2.0, 2.0) == "neither"


def test_designs_are_compared_by_the_reported_numbers():
    section = designs.section(costs())
    rows = rows_of(section.tables[0])
    report = costs().report
    assert len(rows) == len(quoted.DESIGNS) + len(report.levels)
    top = rows[f"mmac, fashion_mnist_cnn at {report.levels[-1].level} (γ = 60)"]
    assert top["frames/J"] == pytest.approx(1e3 / report.levels[-1].energy_mj)
    against = rows_of(section.tables[1])["other 2"]
    assert against["latency at 20x3"] == pytest.approx(11.7 / report.levels[-1].latency_ms)
    assert "is faster than 4 and needs less energy than 4 of the 4 other designs" in section.verdicts[0]
