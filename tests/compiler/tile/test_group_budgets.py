"""Budgets below the layer, through all passes: what every engine computes is what the truncated model means."""

import pytest

from mmac.compiler.graph.group_budgets import GROUPS
from mmac.compiler.tile.ir import ArrayLayer
from mmac.isa import table
from mmac.isa.verify import verify
from mmac.runtime.report import estimate
from mmac.runtime.targets import load_target
from tests.compiler import nets
from tests.compiler.exact import back_end, front_end, tile_program, wrong_tensors
from tests.compiler.graph.small import model

SPENT = {"*": {"alpha": [3, 4, 5, 6, 8, 9, 12, 14], "spend": "largest"}}


@pytest.mark.parametrize("name", ["residual", "branches", "sequence"])
@pytest.mark.parametrize("target", [load_target("vc707"), nets.tiny_target()], ids=lambda target: target.name)
def test_what_is_spent_on_the_largest_terms(name, target, tmp_path):
    proto = nets.build(name)
    partitioned = front_end(proto, tmp_path, SPENT)
    assert any(GROUPS in node.metadata_props for node in partitioned.graph)
    program = back_end(partitioned, target)
    verify(program)
    formats = {i.format for i in program.code if isinstance(i, table.LoadTerms)}
    assert table.TermFormat.CODED in formats
    assert not wrong_tensors(partitioned, program, nets.inputs(proto), [0, 3, 7])


def test_convolutions_in_large_groups_take_theirs_along(tmp_path):
    proto = model("""(float[1,3,5,4] x) => (float[1,5,5,4] y) {
        a = Conv <kernel_shape=[1,1]> (x, w[120,3,1,1])
        b = Relu (a)
        c = Conv <group=3, auto_pad="SAME_UPPER"> (b, w[72,40,3,3], w[72])
        y = Conv <kernel_shape=[1,1]> (c, w[5,72,1,1])
    }""")
    partitioned = front_end(proto, tmp_path, SPENT)
    target = nets.tiny_target(2)
    module = tile_program(partitioned, target)
    parts = [op for op in module.operations if isinstance(op, ArrayLayer) and op.layer == 1]
    assert len(parts) == 3
    assert all(op.limits is not None and module.data[op.limits].shape == (8, 24, 23) for op in parts)
    assert not wrong_tensors(partitioned, back_end(partitioned, target), nets.inputs(proto), [0, 7])


def test_a_layer_costs_what_its_largest_group_keeps(tmp_path):
    """One channel with a larger budget is what its tile waits for; the others save bytes."""
    proto = model("""(float[1,32,8,8] x) => (float[1,32,8,8] y) {
        a = Conv (x, w[32,32,1,1])
        b = Conv (a, w[32,32,1,1])
        y = Conv (b, w[32,32,1,1])
    }""")

    def cost(entry):
        report = estimate(back_end(front_end(proto, tmp_path, {"conv1": entry}), load_target("vc707")))
        layer = next(layer for layer in report.layers if layer.name == "conv1")
        return layer.cycles[-1], layer.weight_bytes[-1]

    all_small, one_large, all_large = (
        cost(entry) for entry in ({"alpha": 8}, {"alpha_of_channels": [20] + [8] * 31}, {"alpha": 20})
    )
    assert all_small[0] < one_large[0] == all_large[0]
    assert all_small[1] < one_large[1] < all_large[1]
