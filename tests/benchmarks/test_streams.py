"""What the term formats are held to, on real networks."""

import numpy as np
import pytest

from benchmarks.models import load
from benchmarks.streams import measure
from mmac.compiler import Options, compile_model
from mmac.runtime.report import estimate
from mmac.runtime.targets import load_target

pytestmark = pytest.mark.filterwarnings("ignore:no calibration data")


@pytest.mark.models
@pytest.mark.parametrize("name", ["tiny_resnet8", "tiny_mobilenetv1_vww", "efficientnet_lite0", "mobilenet_v2"])
def test_streams_are_shorter_than_bytes_per_term_and_than_integers(name):
    row = measure(name)
    stored, plain = np.array(row["stored_bytes"]), np.array(row["plain_bytes"])
    assert stored[-1] <= 0.62 * plain[-1]
    assert (stored <= row["int8_bytes"]).all()
    assert (np.diff(stored) >= 0).all()


@pytest.mark.models
def test_all_levels_of_mobilenet_stay_in_block_ram():
    """No inference after the first one fetches weights; on the default target, whose buffer is smaller, they do."""
    target = load_target("vc707_weights")
    assert target.part == load_target("vc707").part
    assert target.used().bram36 <= target.part.bram36
    programs = {
        name: compile_model(load("mobilenet_v2"), Options(target=name)).program for name in ("vc707", target.name)
    }
    streamed = {name: [level.weights_from_dram_bytes for level in estimate(p).levels] for name, p in programs.items()}
    assert streamed[target.name] == [0] * 8
    assert min(streamed["vc707"]) > 0
