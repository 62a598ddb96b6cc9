from __future__ import annotations

import json

import numpy as np
import pytest

from mmac.isa.errors import UsageError
from mmac.isa.plan import FULL, Level
from mmac.isa.program import Program
from mmac.runtime.report import estimate, summarize
from mmac.runtime.targets import load_target
from mmac.runtime.timing.analyse import analyse
from tests.runtime.timing.builders import LEVELS, Network

FIELDS = ["level", "alpha", "beta", "gamma", "cycles", "latency_ms", "energy_mj"]
FIELDS += ["dram_bytes", "buffer_bytes", "weight_bytes", "weights_from_dram_bytes"]
FIELDS += ["utilization", "array_utilization", "multiplier_utilization", "host_ms", "sqnr_db"]


def network() -> Program:
    layers = Network((*LEVELS, FULL))
    layers.conv((14, 14), (32, 64), 3, (7, 14, 32))
    layers.conv((14, 14), (64, 64), 1, (14, 14, 32))
    return layers.build()


def test_fields_of_a_level() -> None:
    document = json.loads(json.dumps(estimate(network()).to_json()))
    assert [list(level) for level in document["levels"]] == [FIELDS] * 4
    assert [level["level"] for level in document["levels"]] == ["4x1", "8x2", "14x3", "full"]
    assert (document["model"], document["target"], document["mac"]) == ("test", "vc707", "mmac")
    assert "layers" not in document


def test_numbers_hang_together() -> None:
    program = network()
    report = estimate(program)
    cycles = analyse(program, load_target("vc707")).cycles
    for number, level in enumerate(report.levels):
        assert level.cycles == cycles[number]
        assert level.latency_ms == pytest.approx(level.cycles / 170e6 * 1e3)
        assert level.energy_mj == pytest.approx(sum(mj[number] for mj in report.energy_split_mj.values()))
        assert 0 < level.utilization < 1
        assert level.weight_bytes < level.dram_bytes
        for name in ("cycles", "energy_mj", "dram_bytes", "buffer_bytes", "weight_bytes"):
            assert sum(getattr(layer, name)[number] for layer in report.layers) == getattr(level, name)
        for part, mj in report.energy_split_mj.items():
            assert sum(layer.energy_split_mj[part][number] for layer in report.layers) == mj[number]
    for name in ("cycles", "energy_mj", "dram_bytes", "weight_bytes"):
        values = [getattr(level, name) for level in report.levels]
        assert values == sorted(values)


def test_utilization_counts_real_groups_only() -> None:
    program = network()
    report = estimate(program)
    entries = program.image.view(np.dtype([("offset", "<u4"), ("groups", "<u4"), ("level", "<u4", (4, 2))]))
    alpha = entries["level"][:, :, 1].astype(int)
    beta = np.array([level.beta for level in program.plan.levels])
    # tiles of 32 channels: two of the first layer (18 groups an output), two of the second (4)
    groups = 14 * 14 * 32 * np.array([18, 18, 4, 4])
    busy = (groups[:, None] * alpha * beta).sum(axis=0)
    for number, level in enumerate(report.levels):
        assert level.utilization == pytest.approx(busy[number] / (4096 * level.cycles))


def test_layers() -> None:
    report = estimate(network())
    document = report.to_json(layers=True)
    layers = document["layers"]
    assert [(layer["name"], layer["op"]) for layer in layers] == [("conv0", "Conv"), ("conv1", "Conv"), ("", "")]
    assert [layer["unit"] for layer in layers] == [[unit] * len(report.levels) for unit in ("array", "array", "host")]
    assert layers[0]["macs"] == 32 * 64
    for layer in report.layers:
        split = np.sum(list(layer.energy_split_mj.values()), axis=0)
        assert split.tolist() == pytest.approx(layer.energy_mj)


def test_choice_of_levels_cells_and_constants() -> None:
    program = network()
    everything = estimate(program)
    some = estimate(program, levels=[2, 0])
    assert some.levels == [everything.levels[2], everything.levels[0]]
    assert some.layers[0].cycles == [everything.layers[0].cycles[2], everything.layers[0].cycles[0]]
    assert estimate(program, "vc707").levels == everything.levels
    assert estimate(program, mac="bmac").levels[0].cycles > everything.levels[0].cycles
    paper = estimate(program, mac="pmac", constants="paper")
    assert paper.levels[0].energy_mj > estimate(program, mac="pmac").levels[0].energy_mj
    analysis = analyse(program, load_target("vc707"), "pmac")
    assert summarize(analysis, "paper") == paper
    with pytest.raises(UsageError, match="level 9: not in this program; 0…3"):
        estimate(program, levels=[9])


def test_host_time_is_added_later() -> None:
    report = estimate(network()).with_host_ms([1.0, 2.0, 3.0, 4.0])
    assert [level.host_ms for level in report.levels] == [1.0, 2.0, 3.0, 4.0]
    assert report.levels[3].gamma == Level(64, 5).gamma
