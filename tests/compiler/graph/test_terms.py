"""The exact bodies: onnxruntime with its default optimizations computes the machine's integers, for any layer."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmac.compiler.graph import Budget, Fold, Partition, Quantize, Terms, run
from mmac.compiler.graph.rewrites import split_data, window_counts
from mmac.compiler.graph.weights import worst_magnitudes
from mmac.isa.errors import UnsupportedError, UsageError
from mmac.isa.plan import FULL, PAPER_LEVELS, Level
from mmac.isa.terms import data_table, truncate_groups, truncate_values
from tests.compiler.graph import machine
from tests.compiler.graph.small import Array, imported, model, original

F = np.float32


def qdq_layer(
    text: str,
    x_type: type,
    y_type: type,
    w: Array,
    rng: np.random.Generator,
    zero: int = 0,
    rows_last: bool = False,
    **more: Any,
) -> onnx.ModelProto:
    """A QDQ layer on integers ``q`` with random scales; `text` makes ``r`` from ``x``, ``k`` and ``b``."""
    scales = np.asarray(rng.uniform(0.001, 0.01, w.shape[0]), F)
    x_scale = F(rng.uniform(0.01, 0.1))
    low = -128 if y_type is np.int8 else 0
    reach = (
        np.abs(w.astype(np.int64)).reshape(len(w), -1).sum(1).max(initial=1)
        * 255
        * float(x_scale)
        * float(scales.max())
    )
    return model(
        text,
        s=x_scale,
        z=x_type(zero),
        w8=np.ascontiguousarray(w.T) if rows_last else w,
        ws=scales,
        b32=rng.integers(-5000, 5000, w.shape[0]).astype(np.int32),
        bs=scales * x_scale,
        t=F(reach / 400),
        u=y_type(rng.integers(low, low + 256)),
        **more,
    )


CONV = """({kind}[{shape}] q) => ({result}[{dims}] o) {{
    x = DequantizeLinear (q, s, z)
    k = DequantizeLinear <axis=0> (w8, ws)
    b = DequantizeLinear <axis=0> (b32, bs)
    r = Conv <{window}> (x, k, b)
    c = Clip (r, lo, hi)
    o = QuantizeLinear (c, t, u)
}}"""


@st.composite
def conv_layers(draw: st.DrawFn) -> tuple[onnx.ModelProto, Array, Level]:
    """A random quantized convolution, integers for it, and a level."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rank = draw(st.sampled_from([1, 2]))
    kernel = [draw(st.integers(1, 4)) for _ in range(rank)]
    dilations = [draw(st.integers(1, 2)) for _ in range(rank)]
    group = draw(st.sampled_from([1, 1, 2, 6]))
    per_group, outputs = draw(st.integers(1, 5)), group * draw(st.integers(1, 3))
    size = [(k - 1) * d + 1 + draw(st.integers(0, 4)) for k, d in zip(kernel, dilations, strict=True)]
    x_type, y_type = draw(st.sampled_from([np.uint8, np.int8])), draw(st.sampled_from([np.uint8, np.int8]))
    info = np.iinfo(x_type)
    limit = draw(st.sampled_from([3, 127]))
    w = rng.integers(-limit, limit + 1, (outputs, per_group, *kernel)).astype(np.int8)
    shape = [draw(st.integers(1, 2)), per_group * group, *size]
    pads = [draw(st.integers(0, 2)) for _ in range(2 * rank)]
    strides = [draw(st.integers(1, 3)) for _ in range(rank)]
    window = f"kernel_shape={kernel}, dilations={dilations}, group={group}, pads={pads}, strides={strides}"
    names = {np.uint8: "uint8", np.int8: "int8"}
    text = CONV.format(
        kind=names[x_type],
        result=names[y_type],
        shape=",".join(map(str, shape)),
        dims=",".join("abcd"[: rank + 2]),
        window=window,
    )
    zero = draw(st.sampled_from([info.min, info.max, (info.min + info.max) // 2]))
    bounds: dict[str, Any] = {"lo": F(draw(st.sampled_from([-1e9, 0, 1]))), "hi": F(draw(st.sampled_from([6, 1e9])))}
    proto = qdq_layer(text, x_type, y_type, w, rng, zero, **bounds)
    q = rng.integers(info.min, info.max + 1, shape).astype(x_type)
    level = draw(st.sampled_from([*PAPER_LEVELS, FULL, Level(1, 1)]))
    return proto, q, level


def exact(proto: onnx.ModelProto, folder: Path, level: Level = FULL) -> ir.Model:
    """The model after `terms`; every layer has the level's budget, first and last ones too."""
    state = Fold().apply(imported(proto, folder))
    budgets = {} if level == FULL else {"*": {"alpha": level.alpha, "beta": level.beta}}
    for step in (Quantize(), Budget((level,), budgets), Partition(), Terms()):
        state = step.apply(state)
    return state


@settings(max_examples=50, deadline=None)
@given(layer=conv_layers())
def test_conv_is_the_machines(layer: tuple[onnx.ModelProto, Array, Level], tmp_path_factory: Any) -> None:
    proto, q, level = layer
    state = exact(proto, tmp_path_factory.mktemp("conv"), level)
    assert [node.op_type for node in state.graph] == ["Conv"]
    np.testing.assert_array_equal(run(state, {"q": q})["o"], machine.evaluate(state, {"q": q})["o"])
    terms = state.graph[0].inputs[2].const_value.numpy()  # type: ignore[union-attr]
    weights = next(onnx.numpy_helper.to_array(t) for t in proto.graph.initializer if t.name == "w8")
    rows = np.moveaxis(weights, 1, -1).reshape(len(weights), -1)
    np.testing.assert_array_equal(np.moveaxis(terms, 1, -1).reshape(rows.shape), truncate_groups(rows, level.alpha))


@settings(max_examples=40, deadline=None)
@given(layer=conv_layers())
def test_conv_at_full_budget_is_onnxruntimes(
    layer: tuple[onnx.ModelProto, Array, Level], tmp_path_factory: Any
) -> None:
    """QLinearConv, with all integers moved to uint8: its u8u8 kernels are exact, the others saturate at 16 bits."""
    proto, q, _ = layer
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    state = exact(proto, tmp_path_factory.mktemp("conv"))
    conv = next(node for node in proto.graph.node if node.op_type == "Conv")
    shifted = {name: unsigned(arrays[name]) for name in ("z", "w8", "u")}
    constants = {**arrays, **shifted, "wz": np.full(len(arrays["ws"]), 128, np.uint8)}
    names = ["s", "z", "w8", "ws", "wz", "t", "u", "b32"]
    node = onnx.helper.make_node("QLinearConv", ["q", *names], ["o"])
    node.attribute.extend(conv.attribute)
    byte = onnx.TensorProto.UINT8
    graph = onnx.helper.make_graph(
        [node],
        "oracle",
        [onnx.helper.make_tensor_value_info("q", byte, q.shape)],
        [onnx.helper.make_tensor_value_info("o", byte, None)],
        [onnx.numpy_helper.from_array(constants[name], name) for name in names],
    )
    oracle = onnx.helper.make_model(graph, opset_imports=proto.opset_import, ir_version=8)
    expected = original(oracle, {"q": unsigned(q)})[0]
    bounds = [np.rint(arrays[name] / arrays["t"]) + int(shifted["u"]) for name in ("lo", "hi")]
    expected = np.clip(expected, *np.clip(bounds, 0, 255).astype(np.uint8))
    np.testing.assert_array_equal(unsigned(run(state, {"q": q})["o"]), expected)


def unsigned(array: Array) -> Array:
    """int8 as uint8, 128 higher; uint8 as it is."""
    return array if array.dtype == np.uint8 else (array.astype(np.int16) + 128).astype(np.uint8)


MATMUL = """(uint8[2,3,{k}] q) => (uint8[a,b,c] o) {{
    x = DequantizeLinear (q, s, z)
    kt = DequantizeLinear <axis=1> (w8, ws)
    b = DequantizeLinear <axis=0> (b32, bs)
    m = MatMul (x, kt)
    r = Add (m, b)
    o = QuantizeLinear (r, t, u)
}}"""


@pytest.mark.parametrize("k", [1, 16, 17, 1000, 20000, 60000])
def test_matmul_of_any_length_is_exact(k: int, tmp_path: Path) -> None:
    """Long rows need data in several digits: their sums pass 2^24."""
    rng = np.random.default_rng(k)
    w = rng.integers(100, 128, (5, k)).astype(np.int8)
    proto = qdq_layer(MATMUL.format(k=k), np.uint8, np.uint8, w, rng, rows_last=True)
    q = rng.integers(200, 256, (2, 3, k)).astype(np.uint8)
    for level in (Level(8, 2), FULL):
        state = exact(proto, tmp_path, level)
        digits = state.graph[0].attributes["digit_weights"].as_ints()
        assert len(digits) == 1 if k <= 17 else len(digits) > 1 or k == 1000
        np.testing.assert_array_equal(run(state, {"q": q})["o"], machine.evaluate(state, {"q": q})["o"])


@pytest.mark.parametrize("largest_sum", [1, 2**16 - 1, 2**16, 2**20, 2**21, 2**22, 2**23 - 1])
@pytest.mark.parametrize(("zero", "signed", "beta"), [(0, False, 5), (255, False, 1), (0, True, 2), (-128, True, 5)])
def test_digits_add_up_and_stay_exact(largest_sum: int, zero: int, signed: bool, beta: int) -> None:
    table = data_table(zero, signed, beta)
    rows = split_data(table, largest_sum)
    radix = {1: 512, 2: 16, 3: 8, 4: 4, 9: 2}[len(rows)]
    np.testing.assert_array_equal(sum(radix**p * row for p, row in enumerate(rows)), table)
    assert largest_sum * np.abs(rows).max() < 2**24


def test_weights_that_round_up_to_128(tmp_path: Path) -> None:
    w = np.full((1, 4, 1, 1), 127, np.int8)
    proto = qdq_layer(
        CONV.format(kind="uint8", result="uint8", shape="1,4,2,2", dims="a,b,c,d", window="kernel_shape=[1,1]"),
        np.uint8,
        np.uint8,
        w,
        np.random.default_rng(0),
        lo=F(-1e9),
        hi=F(1e9),
    )
    state = exact(proto, tmp_path, Level(4, 2))
    terms = state.graph[0].inputs[2].const_value.numpy()  # type: ignore[union-attr]
    assert terms.dtype == np.int16
    assert terms.max() == 128


def test_worst_magnitudes_bound_every_truncation() -> None:
    for weight in range(-128, 128):
        reached = max(abs(int(truncate_values([weight], beta)[0])) for beta in range(1, 6))
        assert worst_magnitudes()[weight % 256] == reached >= abs(weight)


@pytest.mark.parametrize("zero_point_of_weights", [0, 128, 100])
def test_unsigned_weights_with_a_zero_point(tmp_path: Path, zero_point_of_weights: int) -> None:
    rng = np.random.default_rng(1)
    w = rng.integers(0, 228, (6, 4, 1, 1)).astype(np.uint8)
    text = CONV.format(kind="uint8", result="uint8", shape="1,4,3,3", dims="a,b,c,d", window="kernel_shape=[1,1]")
    zeros = np.full(6, zero_point_of_weights, np.uint8)
    proto = qdq_layer(
        text.replace("(w8, ws)", "(w8, ws, wz)"), np.uint8, np.uint8, w, rng, 3, wz=zeros, lo=F(-1e9), hi=F(1e9)
    )
    state = exact(proto, tmp_path)
    q = rng.integers(0, 256, (1, 4, 3, 3)).astype(np.uint8)
    if zero_point_of_weights == 0:
        reason = next(n.metadata_props["mmac.reason"] for n in state.graph if n.op_type == "Conv")
        assert "weights minus their zero point reach" in reason
        return
    assert [node.op_type for node in state.graph] == ["Conv"]
    np.testing.assert_array_equal(run(state, {"q": q})["o"], machine.evaluate(state, {"q": q})["o"])
    terms = state.graph[0].inputs[2].const_value.numpy()  # type: ignore[union-attr]
    np.testing.assert_array_equal(terms, w.astype(np.int16) - zero_point_of_weights)


def test_levels_are_prefixes(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    proto = qdq_layer(
        CONV.format(kind="uint8", result="uint8", shape="1,40,5,5", dims="a,b,c,d", window="kernel_shape=[3,3]"),
        np.uint8,
        np.uint8,
        rng.integers(-127, 128, (8, 40, 3, 3)).astype(np.int8),
        rng,
        lo=F(-1e9),
        hi=F(1e9),
    )
    state = Fold().apply(imported(proto, tmp_path))
    budgets = {"*": {"alpha": [level.alpha for level in PAPER_LEVELS]}}
    for step in (Quantize(), Budget(PAPER_LEVELS, budgets), Partition()):
        state = step.apply(state)
    highest = None
    for index in reversed(range(8)):
        terms = Terms(index).apply(state).graph[0].inputs[2].const_value.numpy()  # type: ignore[union-attr]
        rows = np.moveaxis(terms, 1, -1).reshape(8, -1)
        highest = rows if highest is None else highest
        np.testing.assert_array_equal(rows, truncate_groups(highest, PAPER_LEVELS[index].alpha))


def test_no_such_level(tmp_path: Path) -> None:
    state = Partition().apply(
        Budget().apply(imported(model("(float[2] x) => (float[2] y) { y = Relu (x) }"), tmp_path))
    )
    for level in (8, -1):
        with pytest.raises(UsageError, match=r"0…7 \(8x2, 10x2"):
            Terms(level).apply(state)


def test_scales_whose_ratio_is_not_finite(tmp_path: Path) -> None:
    text = """(uint8[4] q) => (uint8[a] o) {
        x = DequantizeLinear (q, s, z)
        y = DequantizeLinear (q, t, z)
        r = Add (x, y)
        o = QuantizeLinear (r, t, z)
    }"""
    proto = model(text, s=F(1e30), t=F(1e-30), z=np.uint8(0))
    with pytest.raises(UnsupportedError, match="the ratio of its input and output scales is not finite"):
        exact(proto, tmp_path)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 9), k=st.integers(1, 4), s=st.integers(1, 3), before=st.integers(0, 3), after=st.integers(0, 3))
def test_window_counts(n: int, k: int, s: int, before: int, after: int) -> None:
    assume(n + before + after >= k and max(before, after) < k)
    expected = [sum(0 <= i < n for i in range(start, start + k)) for start in range(-before, n + after - k + 1, s)]
    counts = window_counts((n,), [k], [s], [before, after], include_pad=False)
    np.testing.assert_array_equal(np.broadcast_to(counts, len(expected)), expected)
    assert window_counts((n,), [k], [s], [before, after], include_pad=True) == k
