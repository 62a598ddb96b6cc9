"""The paper's hardware section: what its sentences and ratios are made of."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from examples.paper import cells, designs, levels, quoted, variants
from examples.paper.networks import Costs, Network, all_terms, depthwise
from examples.paper.sections import Table, compared
from mmac.compiler.pipeline import Options, run_passes
from mmac.runtime.energy import Part
from mmac.runtime.targets import Target, load_target


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
    macs = [layer.macs for layer in report.layers if "multipliers" in layer.unit]
    assert 0 < len(macs) < len([layer for layer in costs().report.layers if "multipliers" in layer.unit])
    first, *middle, last = [
        layer
        for layer in Costs("net", bundled().program(target, all_terms), target).report.layers
        if layer.op == "arraylayer"
    ]
    assert {*first.unit, *last.unit} == {"multipliers"}
    assert {unit for layer in middle for unit in layer.unit} == {"array"}


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
    assert variants.longer_products(target).array.pipeline_cycles == target.array.pipeline_cycles + 500
    assert variants.resident_weights(target).overflow().keys() == {"bram36"}
    assert variants.no_multipliers(target).multipliers is None
    assert variants.half_multipliers(target).multipliers.units == 64
    assert len({variant.name for variant in variants.VARIANTS}) == len(variants.VARIANTS)


@pytest.mark.parametrize(("name", "shape"), [("vc707", (64, 64)), ("zedboard", (16, 32))])
def test_one_block_has_all_cells_of_its_target(name: str, shape: tuple[int, int]):
    target = load_target(name)
    changed = variants.one_block(target)
    assert (changed.array.blocks, changed.array.rows, changed.array.columns) == (1, *shape)
    assert changed.cell_count == target.cell_count


def test_resources_of_a_variant_follow_its_changes():
    """Half as many cells again, with their bus registers, encoders, decoders and accumulators, exceed the part."""
    target = load_target("vc707")
    used, larger = target.used(), variants.larger(target).used()
    assert larger.lut - used.lut == 2048 * 50 + 64 * (4 * 30 + 80 + 10)
    assert larger.ff - used.ff == 2048 * 22 + 1024 * 80 + 64 * (4 * 30 + 60 + 20)
    assert larger.dsp - used.dsp == 64
    assert variants.larger(target).overflow().keys() == {"lut"}
    assert variants.no_multipliers(target).used().dsp == 128 + 4 * 128
    assert variants.half_multipliers(target).used().lut == used.lut - 64 * (60 + 56)


def test_the_slope_of_a_cells_energy():
    """The line through the measured numbers, relative to the one that the model has for all γ."""
    assert variants.measured_slope(16) == pytest.approx(63.7 / 60)
    assert variants.measured_slope(60) == pytest.approx(54.3 / 60)
    assert variants.measured_slope(38) == pytest.approx(59 / 60)
    target = load_target("vc707")
    flat, sloped = (
        variants.outcome(bundled(), target, each) for each in (variants.ONE_ARRAY, variants.SLOPE_ONE_ARRAY)
    )
    changed = variants.no_multipliers(target)
    split = Costs("net", bundled().program(changed), changed).report.energy_split_mj
    for i, factor in ((0, 63.7 / 60), (-1, 54.3 / 60)):
        cells_mj = split[Part.TERM_PAIRS][i] + split[Part.MOVEMENT][i]
        assert cells_mj > 0
        assert sloped.energy_mj[i] - flat.energy_mj[i] == pytest.approx((factor - 1) * cells_mj)
    assert sloped.latency_ms == flat.latency_ms
    assert f"{flat.energy_ratio:.2f}× to {sloped.energy_ratio:.2f}×" in levels._slope("net", [(flat, sloped)])


def small(folder: Path, kind: str) -> Network:
    """A network of one array layer, or of none."""
    weights = numpy_helper.from_array(np.linspace(-1, 1, 64 * 32, dtype=np.float32).reshape(64, 32), "w")
    gemm = kind == "Gemm"
    node = helper.make_node(kind, ["x", "w" if gemm else "x"], ["y"])
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 64])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 32 if gemm else 64])
    graph = helper.make_graph([node], "net", [x], [y], [weights] if gemm else [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = Options(calibration={"x": np.linspace(-1, 1, 16 * 64, dtype=np.float32).reshape(16, 64)})
    path = folder / "small.onnx"
    onnx.save(model, path)
    return Network("small", run_passes(path, options, after="terms")[0], options)


@pytest.mark.parametrize(("kind", "layers"), [("Gemm", 1), ("Add", 0)])
def test_networks_of_fewer_than_two_array_layers(tmp_path: Path, kind: str, layers: int):
    network, target = small(tmp_path, kind), load_target("vc707")
    each = Costs(network.name, network.program(target), target)
    assert len([layer for layer in each.report.layers if layer.op == "arraylayer"]) == layers
    found = [cells.section(target, [each]), levels.section(target, [network], [each])]
    json.dumps([section.to_json() for section in found], allow_nan=False)
    kinds = [row["layers"] for row in found[1].to_json()["tables"][2]["rows"]]
    assert ("last layer" in kinds, "first layer" in kinds) == (layers > 0, False)
    left, energy = variants.without(each.report, (0, -1))
    counted = [layer for layer in each.report.layers if layer.op != "arraylayer"]
    assert left == pytest.approx(np.sum([layer.latency_ms for layer in counted], axis=0))
    assert energy == pytest.approx(np.sum([layer.energy_mj for layer in counted], axis=0))


def test_what_the_page_says_of_boundaries_goals_and_skipping(tmp_path: Path):
    said = cells.section(load_target("vc707"), []).verdicts[0]
    assert "2.72× is 12 % below" in said
    assert "share a data-bus register. Where each has its own it is 1.96×: outside." in said
    assert "leaves out data encoders and weight decoders" in said

    def outcome(*latency_ms: float) -> variants.Outcome:
        return variants.Outcome(variants.DEFAULT, latency_ms, latency_ms, ())

    (sentence,) = levels._goals("mobilenet_v2", outcome(1.05, 2.1), outcome(2, 5.2))
    assert "With the multipliers 1.05 and 2.10 ms meet it, and the ratio of 2.00× is outside 2.4…3;" in sentence
    assert "without them 2.00 and 5.20 ms miss it, and the ratio of 2.60× is inside 2.4…3." in sentence
    (sentence,) = levels._goals("mobilenet_v2", outcome(1.0, 3.01), outcome(1.11, 2.9))
    assert sentence.count("miss it") == 2
    network = levels.section(load_target("vc707"), [small(tmp_path, "Gemm")], [costs()])
    assert network.verdicts[-1].startswith("Remark: skipping empty data terms was considered and not built")


def test_cycles_of_the_baselines_are_the_targets():
    target = load_target("vc707")

    def slower(target: Target) -> Target:
        return replace(target, cells={**target.cells, "bmac": replace(target.cells["bmac"], group_cycles=256)})

    before, after = (rows_of(cells.section(each, []).tables[0])["bmac"] for each in (target, slower(target)))
    for column in ("first principles", "own bus register", "bare datapath", "area × time"):
        assert after[column] == pytest.approx(2 * before[column])


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


def test_the_plot_of_the_sensitivity_refers_to_its_table():
    target = load_target("vc707")
    outcomes = [variants.outcome(bundled(), target, each) for each in variants.VARIANTS[:3]]
    table, plot = levels._sensitivity_table("net", outcomes), levels._sensitivity_plot("net", outcomes)
    (series,) = plot.labels
    by_number = {row[0]: row for row in table.text()}
    xs, ys = plot.series[series]
    for number, name, x, y in zip(plot.labels[series], plot.names[series], xs, ys, strict=True):
        row = by_number[number]
        assert name == f"{number}: {row[1]}"
        assert f"{x:.2f}" == row[4]
        assert f"{y:.2f}" == row[8]
