"""What more budget means, from one weight group to a whole program."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmac.compiler.emit import Emit
from mmac.compiler.graph import Partition, Terms
from mmac.compiler.graph.budget import Budget
from mmac.compiler.pipeline import Options, run_passes
from mmac.compiler.tile import Allocate, Pack, Schedule, Tile
from mmac.isa.plan import Level
from mmac.isa.terms import truncate_groups, truncate_values
from mmac.isa.verify import verify
from mmac.runtime.report import estimate
from mmac.runtime.targets import load_target
from tests.compiler import nets

budgets = st.lists(st.integers(1, 64), min_size=2, max_size=5).map(sorted)


@given(hnp.arrays(np.int16, (4, 37), elements=st.integers(-128, 128)), budgets)
def test_each_weight_comes_closer_with_each_level(weights, alphas):
    errors = [np.abs(weights - truncate_groups(weights, alpha)) for alpha in alphas]
    assert all((high <= low).all() for low, high in pairwise(errors))


def test_each_data_value_comes_closer_with_each_level():
    values = np.arange(-255, 256)
    errors = [np.abs(values - truncate_values(values, beta)) for beta in range(1, 6)]
    assert all((high <= low).all() for low, high in pairwise(errors))
    assert not errors[-1].any()


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    path = nets.save("residual", tmp_path_factory.mktemp("nets"))
    options = Options(calibration=nets.inputs(nets.build("residual"), 3))
    return run_passes(path, options, after="quantize")[0]


@st.composite
def plans(draw):
    """Levels, and a budget file of the same number of levels."""
    count = draw(st.integers(2, 4))

    def rising(low, high):
        return sorted(draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))

    alphas = sorted(draw(st.sets(st.integers(1, 40), min_size=count, max_size=count)))
    levels = tuple(map(Level, alphas, rising(1, 5)))
    entry = {"alpha": rising(1, 64), "beta": rising(1, 5)} | draw(st.sampled_from([{}, {"spend": "largest"}]))
    return levels, {draw(st.sampled_from(["*", "#1", "#-1", "conv*"])): entry}


@settings(max_examples=15)
@given(plans())
def test_plans_nest_and_bytes_and_cycles_rise(quantized, plan):
    levels, said = plan
    partitioned = Partition().apply(Budget(levels, said).apply(quantized))
    exact = [Terms(level).apply(partitioned) for level in range(len(levels))]
    for name in [node.name for node in partitioned.graph if "mmac.alpha" in node.metadata_props]:
        *lower, whole = (_weights(model, name) for model in exact)
        errors = [np.abs(whole - own) for own in lower]
        assert all((high <= low).all() for low, high in pairwise(errors)), name
    target = load_target("vc707")
    module = Pack().apply(Tile(target).apply(Terms().apply(partitioned)))
    program = Emit(target).apply(Allocate(target).apply(Schedule(target).apply(module)))
    verify(program)
    for low, high in pairwise(estimate(program).levels):
        assert low.weight_bytes <= high.weight_bytes
        assert low.cycles <= high.cycles


def _weights(exact, name):
    node = next(node for node in exact.graph if node.name == name)
    return node.inputs[2].const_value.numpy().astype(np.int16)
