"""`mmac compare` on a large network: a damaged layer is found, in bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mmac.compiler import Options, compile_model
from mmac.isa.container import save
from mmac.isa.plan import parse_levels
from tests.commands import environment
from tests.compiler.comparison.damage import negated, scaled

SAMPLES = 4
LIMIT_BYTES = 2e9
LEVELS = "8x2,20x3"


@pytest.mark.models
@pytest.mark.timeout(900)
def test_a_damaged_layer_of_resnet50_is_found_within_two_gigabytes(tmp_path):
    from benchmarks.models import calibration, load

    model, data = load("resnet50"), calibration("resnet50", 2 + SAMPLES)
    np.savez(tmp_path / "fresh.npz", **{name: array[2:] for name, array in data.items()})
    options = Options(parse_levels(LEVELS), calibration={name: array[:2] for name, array in data.items()})
    program = compile_model(model, options).program
    damaged = {
        "layer2.1.conv2": ("values", negated(program, "layer2.1.conv2")),
        "layer1.1.conv3": ("constants", scaled(program, "layer1.1.conv3", 3.0)),
    }
    for layer, (kind, damage) in damaged.items():
        save(damage, tmp_path / "damaged.mmac")
        command = [sys.executable, "-m", "mmac.cli", "compare", model, "damaged.mmac", "--data", "fresh.npz", "--json"]
        with open(tmp_path / "found.json", "wb") as out:
            child = subprocess.Popen(command, stdout=out, cwd=tmp_path, env=environment())
            _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == (6 if kind == "values" else 0)  # wrong integers, or a layer that is only far off
        assert usage.ru_maxrss * 1024 < LIMIT_BYTES
        found = json.loads((tmp_path / "found.json").read_text("utf-8"))
        assert found["samples"] == SAMPLES
        assert (found["first_wrong"]["layer"], found["first_wrong"]["kind"]) == (layer, kind)
        assert [level["level"] for level in found["levels"]] == LEVELS.split(",")
        print(f"{layer}: peak {usage.ru_maxrss / 1e6:.2f} GB, {usage.ru_utime:.0f} s of CPU")
