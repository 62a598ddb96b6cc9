"""Grouped convolutions: together where groups are small, one by one where they are large, and one layer to the user."""

from dataclasses import replace

import numpy as np
import pytest

from mmac.compiler.tile.groups import data_of_parts, map_layer
from mmac.compiler.tile.ir import ArrayLayer, ArrayMapping, Quantization, View, Window
from mmac.isa.errors import ResourceError
from mmac.isa.verify import verify
from mmac.runtime import Session
from mmac.runtime.targets import load_target
from tests.compiler import nets
from tests.compiler.exact import back_end, front_end, tile_program, wrong_tensors
from tests.compiler.graph.small import model


def layer(groups, ic=8, oc=20):
    x = View("x", 4, (1, 5, 5, groups * ic), (25 * groups * ic, 5 * groups * ic, groups * ic, 1))
    y = View("y", 0, (1, 5, 5, groups * oc), (25 * groups * oc, 5 * groups * oc, groups * oc, 1))
    params = View("conv.params", 0, (8, 1, 1, groups * oc), (8 * groups * oc,) * 3 + (8,), 8)
    return ArrayLayer("conv", x, y, Window((3, 3)), groups, 3, "conv.weights", params, Quantization())


def mapped(op, together, alone):
    """With a search that finds these costs."""
    mapping = ArrayMapping(1, 1, 1, 1, 1, True, 1, 1, 1)

    def search(part):
        cycles = alone if part.groups == 1 else together
        if cycles is None:
            raise ResourceError("layer conv", "it does not fit", "", "")
        return replace(mapping, cycles=cycles)

    return map_layer(op, search, columns=16)


@pytest.mark.parametrize(
    ("op", "together", "alone", "parts"),
    [
        (layer(1), None, 100, 1),
        (layer(2), 200, 100, 1),
        (layer(2), 201, 100, 2),
        (layer(2), None, 100, 2),
        (layer(8, oc=1), 900, 100, 1),  # narrower than a block
        (layer(8, oc=15), 900, 100, 1),
        (layer(8, oc=15), None, 100, 8),
    ],
)
def test_the_cost_decides_between_wide_groups(op, together, alone, parts):
    result = mapped(op, together, alone)
    assert len(result) == parts
    assert all(part.layer == op.layer and part.mapping is not None for part in result)
    assert sum(part.macs for part in result) == op.macs


def test_what_does_not_fit_either_way_says_so():
    with pytest.raises(ResourceError, match="layer conv"):
        mapped(layer(2), None, None)


def test_a_group_is_a_layer_on_some_of_the_channels():
    op = layer(3)
    first, second, _ = parts = mapped(op, None, 1)
    assert (first.x.offset, second.x.offset, second.y.offset, second.params.offset) == (4, 12, 20, 160)
    assert (second.x.shape, second.y.shape, second.params.shape) == ((1, 5, 5, 8), (1, 5, 5, 20), (8, 1, 1, 20))
    assert second.x.strides == op.x.strides
    weights = np.arange(60 * 72).reshape(60, 72)
    data = data_of_parts(op, parts, {"conv.weights": weights})
    np.testing.assert_array_equal(data[second.weights], weights[20:40])
    assert not data_of_parts(op, (op,), {"conv.weights": weights})


def test_budgets_of_groups_go_with_their_channels():
    op = replace(layer(3), limits="conv.limits")
    limits = np.arange(2 * 60 * 5, dtype=np.uint8).reshape(2, 60, 5)
    parts = mapped(op, None, 1)
    data = data_of_parts(op, parts, {"conv.weights": np.zeros((60, 72)), "conv.limits": limits})
    np.testing.assert_array_equal(data[parts[1].limits], limits[:, 20:40])


def grouped(ic, oc, groups, kernel):
    """A convolution between two others, on an image of 5 x 4."""
    channels = ic * groups
    return model(f"""(float[1,3,5,4] x) => (float[1,5,5,4] y) {{
        a = Conv <kernel_shape=[1,1]> (x, w[{channels},3,1,1])
        b = Relu (a)
        c = Conv <group={groups}, auto_pad="SAME_UPPER"> (b, w[{oc * groups},{ic},{kernel},{kernel}], w[{oc * groups}])
        y = Conv <kernel_shape=[1,1]> (c, w[5,{oc * groups},1,1])
    }}""")


@pytest.mark.parametrize(
    ("ic", "oc", "groups", "kernel", "operations"),
    [(40, 24, 3, 3, 3), (40, 12, 2, 1, 1), (1, 1, 24, 3, 1), (4, 2, 6, 3, 1)],
)
def test_every_tensor(ic, oc, groups, kernel, operations, tmp_path):
    proto = grouped(ic, oc, groups, kernel)
    partitioned = front_end(proto, tmp_path)
    module = tile_program(partitioned, nets.tiny_target(2))
    assert [op.name.split(".")[0] for op in module.operations] == ["conv0", *["conv2"] * operations, "conv3"]
    program = back_end(partitioned, nets.tiny_target(2))
    verify(program)
    assert not wrong_tensors(partitioned, program, nets.inputs(proto), [0, 7])


def test_one_layer_to_the_user(tmp_path):
    """AlexNet's fourth convolution, whose weights do not fit a tile of whole groups."""
    proto = grouped(192, 192, 2, 3)
    program = back_end(front_end(proto, tmp_path), load_target("vc707"))
    assert [plan.name for plan in program.plan.layers] == ["conv0", "conv2", "conv3"]
    assert [(entry.node, entry.macs) for entry in program.debug] == [
        ("conv0", 20 * 3 * 384),
        ("conv2", 20 * 384 * 192 * 9),
        ("conv3", 20 * 384 * 5),
    ]
    assert [entry.start for entry in program.debug[1:]] == [entry.stop for entry in program.debug[:-1]]
    (tensor,) = program.debug[1].outputs
    assert Session(program).run([tensor], nets.inputs(proto))[0].shape == (1, 384, 5, 4)
