"""Single layers of every kind on the fast engine, against the plain definitions; nothing may fall back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmac.isa import structure
from mmac.isa.plan import FULL, PAPER_LEVELS, Level
from mmac.isa.program import Program
from mmac.runtime import engines
from mmac.runtime.engines.fast import FastEngine, convolutions
from mmac.runtime.engines.fast.layers import Opaque
from mmac.runtime.memory import Memory
from tests.runtime import definition
from tests.runtime.definition import Array, Quantization, Window
from tests.runtime.programs import Builder
from tests.runtime.test_reference import (
    LEVELS,
    Layer,
    broadcasts,
    check_array_layer,
    layers,
    quantizations,
    raw,
    windows,
)


def fast(program: Program) -> FastEngine:
    return FastEngine(program, engines.split(program, structure.parse(program.code)))


def execute(program: Program, level: int, inputs: dict[str, Array], name: str) -> Array:
    """Run on the fast engine, none of it on the reference engine; inputs and result in NHWC."""
    engine = fast(program)
    assert [layer.reason for layer in engine.lifted[0] if isinstance(layer, Opaque)] == []
    memory = Memory(program)
    for key, array in inputs.items():
        memory.write(key, array.transpose(0, 3, 1, 2))
    kept = engine.run(0, memory, level, {name})
    return kept[name].transpose(0, 2, 3, 1)


def run_layer(program: Program, level: int, inputs: dict[str, Array]) -> Array:
    return execute(program, level, inputs, "y")


@given(layers(), st.sampled_from([LEVELS, PAPER_LEVELS]))
@settings(deadline=None, max_examples=70)
def test_array_layer(layer: Layer, levels: tuple[Level, ...]) -> None:
    check_array_layer(layer, levels, run_layer)


CHOICES: dict[str, dict[str, Any]] = {
    "nothing is unfolded": {"_UNFOLDED": 0},
    "sums need int32": {"_fits_binary32": lambda *_: False},
    "no general kernel for few channels": {"_FEW": 0},
    "a general kernel for all channels with an extra part": {"_FEW": 1 << 16},
    "only layers that need it are unfolded": {"_NARROW": 0},
}


@pytest.mark.parametrize("choice", CHOICES)
def test_array_layer_by_kernels_that_small_layers_do_without(choice: str) -> None:
    """As above, with other limits on what is chosen when."""

    @given(layers())
    @settings(deadline=None, max_examples=12)
    def check(layer: Layer) -> None:
        check_array_layer(layer, LEVELS[:3], run_layer)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in CHOICES[choice].items():
            patch.setattr(convolutions, name, value)
        check()


@given(st.integers(0, 1), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_requantization_at_its_extremes(y_signed: int, seed: int) -> None:
    """Ties, products beyond int32 and binary32, denormal and zero scales, biases that leave hardly room for a sum."""
    rng = np.random.default_rng(seed)
    scale = np.array([[0.5, 0.25, 0.125, 2.0**-16, 1.5, 1e6, 3e38, 1e-38, 1e-45, 0.0, 2.0**-23, 2.0**-24] * 4])
    channels = scale.shape[1]
    bias = rng.choice([-(2**31) + 2**17, -12345, -1, 0, 1, 54321, 2**24 + 1, 2**31 - 2**17], (1, channels))
    q = Quantization(a_zero=7, y_zero=3, y_signed=y_signed, y_min=-128 * y_signed, y_max=255 - 128 * y_signed)
    x = rng.integers(0, 256, (1, 3, 5, 2)).astype(np.uint8)
    weights = rng.choice([-128, -31, 1, 77, 128], (channels, 1, 1, 2))
    builder = Builder((FULL,))
    source, result = builder.tensor("x", x.shape), builder.tensor("y", (1, 3, 5, channels), q.y_dtype)
    builder.array_layer(source, result, weights, bias, scale.astype(np.float32), q=q)
    sums = definition.convolution(x, weights, Window(), 1, q, FULL.alpha, FULL.beta)
    with np.errstate(over="ignore"):
        expected = definition.requantize(sums, bias[0], scale[0].astype(np.float32), q)
    np.testing.assert_array_equal(execute(builder.build(), 0, {"x": x}, "y"), expected)


@given(broadcasts(), quantizations(), st.sampled_from(["vadd", "vmul"]), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_elementwise(shapes: tuple[list[int], ...], q: Quantization, op: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = raw(rng, shapes[0], q.a_signed), raw(rng, shapes[1], q.b_signed)
    builder = Builder(LEVELS)
    operands = [builder.tensor(name, array.shape, str(array.dtype)) for name, array in (("a", a), ("b", b))]
    builder.elementwise(op, operands, builder.tensor("y", shapes[2], q.y_dtype), q, shapes[3])
    expected = (definition.add if op == "vadd" else definition.multiply)(a, b, q)
    np.testing.assert_array_equal(execute(builder.build(), 0, {"a": a, "b": b}, "y"), expected)


@pytest.mark.parametrize("op", ["vadd", "vmul"])
def test_elementwise_on_all_pairs_of_bytes(op: str) -> None:
    q = Quantization(113, -7, 31, 0, 1, 0, 5, 250, 0.61803, 0.31415)
    if op == "vmul":
        q = Quantization(113, -7, 31, 0, 1, 0, 5, 250, 0.01247)
    a, b = (v.astype(np.uint8).reshape(1, 256, 256, 1) for v in np.indices((256, 256)))
    builder = Builder(LEVELS)
    operands = [builder.tensor("a", a.shape, "uint8"), builder.tensor("b", b.shape, "int8")]
    builder.elementwise(op, operands, builder.tensor("y", a.shape), q, (1, 64, 256, 1))
    expected = (definition.add if op == "vadd" else definition.multiply)(a, b.view(np.int8), q)
    np.testing.assert_array_equal(execute(builder.build(), 0, {"a": a, "b": b.view(np.int8)}, "y"), expected)


@given(st.lists(st.integers(1, 4), min_size=4, max_size=4), st.data(), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=20)
def test_table(shape: list[int], data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, 256).astype(np.uint8)
    x = raw(rng, shape, 0)
    builder = Builder(LEVELS)
    source, result = builder.tensor("x", shape), builder.tensor("y", shape)
    builder.lookup(source, result, values, [data.draw(st.integers(1, size)) for size in shape])
    np.testing.assert_array_equal(execute(builder.build(), 0, {"x": x}, "y"), values[x])


@given(windows(), quantizations(), st.booleans(), st.sampled_from(["vmax", "vavg"]), st.data())
@settings(deadline=None, max_examples=100)
def test_pooling(window: Window, q: Quantization, count_pad: bool, op: str, data: st.DataObject) -> None:
    low = [(window.kernel[i] - 1) * window.dilation[i] + 1 for i in (0, 1)]
    h, w = (data.draw(st.integers(size, size + 4)) for size in low)
    n, c = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 5))
    x = raw(np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))), (n, h, w, c), q.a_signed)
    shape = (n, *window.outputs(h, w), c)
    lowest = int(np.iinfo(x.dtype).min)
    builder = Builder(LEVELS)
    dtype = q.y_dtype if op == "vavg" else str(x.dtype)
    source, result = builder.tensor("x", x.shape, str(x.dtype)), builder.tensor("y", shape, dtype)
    box = [data.draw(st.integers(1, size)) for size in shape]
    builder.pool(op, source, result, window, q, box, q.a_zero if op == "vavg" else lowest, count_pad)
    expected = definition.max_pool(x, window) if op == "vmax" else definition.average_pool(x, window, q, count_pad)
    np.testing.assert_array_equal(execute(builder.build(), 0, {"x": x}, "y"), expected)


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_move_pads_and_slices(data: st.DataObject) -> None:
    shape, size = ([data.draw(st.integers(1, 5)) for _ in range(4)] for _ in "xy")
    origin = [data.draw(st.integers(-2, s - 1)) for s in shape]
    x = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    builder = Builder(LEVELS)
    source, result = builder.tensor("x", shape), builder.tensor("y", size)
    builder.move(source, result, [data.draw(st.integers(1, s)) for s in size], origin, fill=77)
    outer = np.pad(x, [(2, 7)] * 4, constant_values=77)
    expected = outer[tuple(slice(o + 2, o + 2 + s) for o, s in zip(origin, size, strict=True))]
    np.testing.assert_array_equal(execute(builder.build(), 0, {"x": x}, "y"), expected)
