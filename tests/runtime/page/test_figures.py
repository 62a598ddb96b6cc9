"""What the figures say, against numbers that follow from the program and the target by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from mmac.isa.program import Program
from mmac.runtime.page import graph, occupancy, roofline, tradeoff
from mmac.runtime.page.graph import MAX_NODES
from mmac.runtime.page.roofline import array_peak, intensity, multiplier_peak, speed
from mmac.runtime.page.subject import Subject
from mmac.runtime.report import BETWEEN
from mmac.runtime.targets import CONSTANT_SETS, load_target

MHZ = 170e6


def test_peaks_are_those_of_the_target(subject: Subject, program: Program) -> None:
    cells = 128 * 2 * 16
    for number, level in enumerate(subject.report.levels):
        assert array_peak(subject, number) == pytest.approx(cells * 16 / level.gamma * MHZ)
    assert multiplier_peak(subject) == pytest.approx(128 * 9 * MHZ)
    bit_parallel = Subject.of(program, None, "pmac", CONSTANT_SETS[0], None)
    assert array_peak(bit_parallel, 0) == array_peak(bit_parallel, 7) == pytest.approx(cells * MHZ)
    without = dataclasses.replace(subject, target=dataclasses.replace(load_target("vc707"), multipliers=None))
    assert multiplier_peak(without) == 0
    names = [trace.get("name") for trace in roofline.figure(without).data]
    assert len(names) == len(roofline.figure(subject).data) - 1


def test_points_of_the_roofline(subject: Subject) -> None:
    found = roofline.figure(subject)
    right = 10 ** found.layout["xaxis"]["range"][1]
    for unit in ("array", "multipliers"):
        assert any(unit in layer.unit for layer in subject.layers)
        for level in (0, 7):
            mine = [layer for layer in subject.layers if layer.unit[level] == unit]
            x, y = (found.tables[f"points/{unit}/{name}/{level}"] for name in "xy")
            for layer, across, up in zip(mine, x, y, strict=True):
                assert up == pytest.approx(layer.macs / (layer.cycles[level] / MHZ), rel=1e-4)
                moved = layer.dram_bytes[level]
                assert across == pytest.approx(layer.macs / moved if moved else right / 1.3, rel=1e-4)
                assert up <= max(array_peak(subject, level), multiplier_peak(subject))


def test_layers_that_nothing_limits_stay_on_the_page(subject: Subject) -> None:
    layer = dataclasses.replace(subject.layers[0], dram_bytes=[0] * 8, latency_ms=[0.0] * 8)
    assert intensity(layer, 0) == speed(layer, 0) == math.inf
    report = dataclasses.replace(subject.report, layers=[layer])
    alone = dataclasses.replace(subject, reports={"paper": report}, shown=[0])
    found = roofline.figure(alone)
    (x,), (y,) = (found.tables[f"points/{layer.unit[0]}/{name}/0"] for name in "xy")
    for value, side in ((x, "xaxis"), (y, "yaxis")):
        low, high = found.layout[side]["range"]
        assert low < math.log10(value) < high


def test_levels_are_drawn_by_gamma(subject: Subject) -> None:
    latency, first, second, weights = tradeoff.figure(subject).data
    levels = subject.report.levels
    assert all(curve["x"] == [level.gamma for level in levels] for curve in (latency, first, second, weights))
    assert latency["y"] == pytest.approx([level.latency_ms for level in levels], rel=1e-5)
    assert weights["y"] == [level.weight_bytes for level in levels]
    for curve, report in zip((first, second), subject.reports.values(), strict=True):
        assert curve["y"] == pytest.approx([level.energy_mj for level in report.levels], rel=1e-5)


def with_gammas(subject: Subject, *gammas: int) -> Subject:
    """The same with levels of other term-pair budgets."""
    pairs = zip(subject.report.levels, gammas, strict=False)
    levels = [dataclasses.replace(level, gamma=gamma) for level, gamma in pairs]
    reports = {name: dataclasses.replace(report, levels=levels) for name, report in subject.reports.items()}
    return dataclasses.replace(subject, reports=reports)


def test_levels_are_named_on_the_axis(subject: Subject) -> None:
    axis = tradeoff.figure(subject).layout["xaxis"]
    assert axis["tickvals"] == [level.gamma for level in subject.report.levels]
    assert axis["ticktext"][0] == "γ 16: 8x2"
    axis = tradeoff.figure(with_gammas(subject, 60, 16, 16, 18, 19)).layout["xaxis"]
    assert axis["ticktext"] == ["γ 16: 10x2, 12x2", "γ 19: 14x3", "γ 60: 8x2"]  # 18 is too near to 16


def test_memory_adds_up(subject: Subject) -> None:
    image, buffer, dram, heat = occupancy.figure(subject).data
    size = subject.program.buffer[1]
    assert image["x"] == [subject.program.image.size] * 16
    assert all(a + b <= size for a, b in zip(image["x"], buffer["x"], strict=True))
    (mark,) = occupancy.figure(subject).layout["shapes"]
    assert mark["x0"] == mark["x1"] == 1_835_008  # what vc707 has, not what the program takes of it
    assert mark["name"] == "size of the buffer: 1,835,008 bytes"
    assert (image["xaxis"], buffer["xaxis"], dram["xaxis"]) == ("x", "x", "x2")
    # the image's input lies in DRAM until the first layer has read it; the output is there for the host
    assert [bool(value) for value in dram["x"]] == [True, *[False] * 14, True]
    sizes = np.array([subject.program.scratchpads[name] for name in subject.pads])
    np.testing.assert_allclose(np.array(heat["z"]) * sizes / 100, np.array(heat["customdata"]), atol=sizes.max() / 1e4)


def test_without_a_buffer_there_is_none(subject: Subject) -> None:
    program = dataclasses.replace(subject.program, buffer=(0, 0))
    target = dataclasses.replace(subject.target, buffer=dataclasses.replace(subject.target.buffer, size_bytes=0))
    bare = dataclasses.replace(subject, program=program, target=target)
    found = occupancy.figure(bare)
    assert [trace["visible"] for trace in found.data[:3]] == [False, False, True]
    assert found.layout["shapes"] == []


def test_the_graph_has_a_node_per_layer_and_a_line_per_edge(subject: Subject) -> None:
    lines, nodes, ends = graph.figure(subject).data
    assert len(nodes["x"]) == len(subject.layers) == 16
    assert ends["text"] == ["input", "output"]
    assert lines["x"].count(None) == lines["y"].count(None) == len(subject.flow.edges)
    rows = dict(zip(subject.names, nodes["y"], strict=True))
    assert rows["/block1/Add"] > rows["/block1/second/conv/Conv"] > rows["/block1/first/conv/Conv"]


def test_too_large_a_graph_is_not_drawn(subject: Subject) -> None:
    crowd = dataclasses.replace(subject, shown=list(range(MAX_NODES + 1)))
    found = graph.figure(crowd)
    assert list(found.data) == []
    assert "too many to be drawn" in found.note


def test_code_without_a_debug_map_is_one_nameless_part(program: Program) -> None:
    bare = Subject.of(dataclasses.replace(program, debug=()), None, None, CONSTANT_SETS[0], None)
    assert bare.names == [BETWEEN]
    assert bare.layers[0].cycles == [level.cycles for level in bare.report.levels]
    assert dict(bare.flow.edges).keys() == {(-1, 0), (0, 1)}
