"""Biases and scales read back from programs."""

from __future__ import annotations

import numpy as np

from mmac.compiler.graph import Terms
from mmac.isa.program import PARAM_DTYPE
from mmac.runtime.engines.fast.constants import channel_constants
from tests.compiler import exact, nets


def test_they_are_those_of_the_exact_model(tmp_path):
    """Also of convolutions that are cut into groups."""
    for name in ("residual", "branches", "sequence"):
        model = exact.front_end(nets.build(name), tmp_path)
        found = channel_constants(exact.back_end(model, nets.tiny_target()))
        nodes = [node for node in Terms().apply(model).graph if node.op_type in ("Conv", "MatMul") and node.domain]
        assert list(found) == [node.name for node in nodes]
        for node in nodes:
            bias, scale = (node.inputs[index].const_value.numpy() for index in (3, 4))
            constants = found[node.name]
            assert constants.dtype == PARAM_DTYPE
            assert constants.shape == (8, len(bias))
            assert np.array_equal(constants[-1]["bias"], bias)
            assert np.array_equal(constants[-1]["scale"], scale)
