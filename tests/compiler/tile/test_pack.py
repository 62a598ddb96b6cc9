"""Packed streams hold the layer's weights, at every level, however they are cut into tiles."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmac.compiler.tile.ir import ArrayLayer, ArrayMapping, Quantization, TileProgram, View, Window
from mmac.compiler.tile.pack import Pack
from mmac.isa import streams, terms
from mmac.isa.plan import PAPER_LEVELS, LayerPlan, Plan
from mmac.isa.table import TermFormat


def layer(ic: int, oc: int, kernel: int, channels: int, reduction: int) -> ArrayLayer:
    view = View("x", 0, (1, 8, 8, ic), (1, 1, 1, 1))
    mapping = ArrayMapping(1, 1, 1, channels, reduction, True, 1, 1, 1)
    y = View("y", 0, (1, 8, 8, oc), (1, 1, 1, 1))
    window = Window((kernel, kernel))
    return ArrayLayer("conv", view, y, window, 1, 0, "w", View("p", 0, (1, 1, 1, oc), (8, 8, 8, 8), 8),
                      Quantization(), mapping)  # fmt: skip


def pack(op: ArrayLayer, weights: np.ndarray) -> TileProgram:
    plan = Plan(PAPER_LEVELS, (LayerPlan("conv", PAPER_LEVELS),))
    return Pack().apply(TileProgram("net", "vc707", plan, (), (), (), (), (op,), data={"w": weights}))


@given(
    st.integers(1, 70),
    st.integers(1, 20),
    st.sampled_from([1, 3]),
    st.integers(1, 20),
    st.integers(0, 2**32),
    st.data(),
)
def test_tiles_decode_to_the_truncated_weights(ic, oc, kernel, channels, seed, data):
    reduction = data.draw(st.sampled_from([ic, *range(16, ic, 16)])) if kernel == 1 else ic
    rng = np.random.default_rng(seed)
    weights = rng.integers(-128, 129, (oc, ic * kernel**2)).astype(np.int16)
    weights[rng.random(weights.shape) < rng.random()] = 0
    channels = min(channels, oc)
    packed = pack(layer(ic, oc, kernel, channels, reduction), weights)
    (op,) = packed.operations
    s = op.streams
    directory = packed.data[s.directory].reshape(s.tiles_k, s.tiles_n)
    data_bytes = packed.data[s.streams]
    groups = -(-ic * kernel**2 // 16) if reduction == ic else reduction // 16
    for number, level in enumerate(PAPER_LEVELS):
        alphas = [lv.alpha for lv in PAPER_LEVELS[: number + 1]]
        tiles = np.zeros((s.tiles_k, s.tiles_n, groups, channels, 16), np.int16)
        for k in range(s.tiles_k):
            for n in range(s.tiles_n):
                entry = directory[k, n]
                size = entry["level"][number]["bytes"]
                stream = data_bytes[entry["offset"] : entry["offset"] + size]
                decoded = streams.decode(s.format, stream, (groups, channels), alphas).table
                tiles[k, n] = decoded.values()
                assert entry["level"][number]["alpha"] == decoded.count.max(initial=0)
        whole = tiles.transpose(1, 3, 0, 2, 4).reshape(s.tiles_n * channels, -1)
        expected = terms.truncate_groups(weights, level.alpha)
        assert np.array_equal(whole[:oc, : expected.shape[1]], expected)
        assert not whole[oc:].any()
        assert not whole[:, expected.shape[1] :].any()


def test_levels_read_more_and_more_bytes():
    weights = np.random.default_rng(0).integers(-127, 128, (8, 144)).astype(np.int16)
    packed = pack(layer(16, 8, 3, 8, 16), weights)
    sizes = packed.data["conv.directory"]["level"]["bytes"][0]
    assert np.all(np.diff(sizes.astype(int)) >= 0)
    assert sizes[0] < sizes[-1] or packed.operations[0].streams.format == TermFormat.RAW
