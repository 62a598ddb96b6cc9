"""Which kernel computes an array layer, and that each kind is exact where it is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmac.isa import structure, terms
from mmac.isa.plan import FULL, Level
from mmac.runtime import engines
from mmac.runtime.engines.fast import FastEngine, convolutions, kernels
from mmac.runtime.engines.fast.operands import WEIGHT_ZERO, fit_data, fit_weights
from mmac.runtime.memory import Memory
from tests.runtime import definition
from tests.runtime.definition import Array, Quantization, Window
from tests.runtime.programs import Builder

ROUNDED_UP = 100
"""A zero point with which, at β = 1, data range over -128…128, one more than eight bits hold."""
WINDOW = Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1))


def kinds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ops of the kernels of convolutions, as they are made from now on."""
    made: list[str] = []

    class Graph(kernels.Graph):
        def add(self, op: str, *operands: str | Array | np.generic, domain: str = "", **attributes: Any) -> str:
            if op in {"QLinearConv", "ConvInteger", "Gemm", "Conv"}:
                kernel = attributes.get("kernel_shape")
                made.append(op if kernel is None else f"{op} {tuple(map(int, kernel))}")
            return super().add(op, *operands, domain=domain, **attributes)

    monkeypatch.setattr(convolutions, "Graph", Graph)
    return made


def run(
    weights: Array, zero: int = 0, groups: int = 1, window: Window = WINDOW, level: Level = FULL, size: int = 5
) -> None:
    """Compare with the definition, after a table operation; weights [O, kernel h, kernel w, I]."""
    rng = np.random.default_rng(7)
    channels = len(weights)
    q = Quantization(a_zero=zero, y_zero=11)
    x = rng.choice([0, 1, 99, 100, 101, 127, 128, 251, 254, 255], (1, size, size, weights.shape[3] * groups))
    scale = rng.choice([2.0**-12, 0.001, 0.01, 0.5, 3e38, 1e-38, 0.0], (1, channels)).astype(np.float32)
    bias = rng.integers(-3000, 3000, (1, channels))
    builder = Builder((level,), image_bytes=1 << 19)
    before, source = builder.tensor("before", x.shape), builder.tensor("x", x.shape)
    builder.lookup(before, source, np.arange(256).astype(np.uint8) ^ np.uint8(0x5A), x.shape)
    result = builder.tensor("y", (1, *window.outputs(size, size), channels))
    builder.array_layer(source, result, weights, bias, scale, window=window, groups=groups, q=q)
    program = builder.build()
    memory = Memory(program)
    memory.write("before", x.astype(np.uint8).transpose(0, 3, 1, 2) ^ np.uint8(0x5A))
    engine = FastEngine(program, engines.split(program, structure.parse(program.code)))
    found = engine.run(0, memory, 0, {"y"})["y"].transpose(0, 2, 3, 1)
    sums = definition.convolution(x.astype(np.uint8), weights, window, groups, q, level.alpha, level.beta)
    with np.errstate(over="ignore"):
        expected = definition.requantize(sums, bias[0], scale[0], q)
    np.testing.assert_array_equal(found, expected)


def weights(outputs: int, inputs: int, both: int = 0, kernel: int = 3) -> Array:
    """Small weights; the first `both` output channels also have both ends of the range, at places of their own."""
    rng = np.random.default_rng(outputs)
    values = rng.integers(-9, 10, (outputs, kernel, kernel, inputs))
    flat = values.reshape(outputs, -1)
    for channel in range(both):
        first, second = rng.choice(flat.shape[1], 2, replace=False)
        flat[channel, [first, second]] = 128, -128
    return values


def test_what_fits_is_computed_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made = kinds(monkeypatch)
    run(weights(4, 20))
    run(weights(6, 1), groups=6)
    assert made == ["QLinearConv (3, 3)"] * 2


@pytest.mark.parametrize("edge", [128, -128])
def test_one_end_of_the_range_of_weights_fits_with_one_of_the_signs(monkeypatch: pytest.MonkeyPatch, edge: int) -> None:
    made = kinds(monkeypatch)
    values = weights(4, 20)
    values[1, 0, 0, :5] = edge
    run(values)
    assert made == ["QLinearConv (3, 3)"]


def test_few_channels_are_unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = kinds(monkeypatch)
    run(weights(4, 3), zero=5)
    assert made == ["QLinearConv (1, 1)"]


@pytest.mark.parametrize("window", [WINDOW, Window((3, 3), (2, 1), (1, 2), (0, 1, 2, 1))])
def test_both_ends_of_the_range_of_weights(monkeypatch: pytest.MonkeyPatch, window: Window) -> None:
    made = kinds(monkeypatch)
    run(weights(8, 20, both=5), zero=3, window=window)
    assert made == ["QLinearConv (1, 1)"]
    made.clear()
    monkeypatch.setattr(convolutions, "_UNFOLDED", 0)
    run(weights(8, 20, both=5), zero=3, window=window)
    assert made == ["QLinearConv (3, 3)"]


@pytest.mark.parametrize(
    ("channels", "both", "expected"),
    [
        (32, 3, ["QLinearConv (3, 3)", "ConvInteger (3, 3)", "ConvInteger (3, 3)"]),
        (32, 6, ["QLinearConv (3, 3)", "QLinearConv (6, 3)"]),
        (32, 20, ["QLinearConv (6, 3)"]),
    ],
)
def test_both_ends_in_some_groups(
    monkeypatch: pytest.MonkeyPatch, channels: int, both: int, expected: list[str]
) -> None:
    made = kinds(monkeypatch)
    run(weights(channels, 1, both), groups=channels)
    assert made == expected


@pytest.mark.parametrize(("kernel", "expected"), [(1, "Gemm"), (3, "Conv (3, 3)")])
def test_data_of_more_than_eight_bits(monkeypatch: pytest.MonkeyPatch, kernel: int, expected: str) -> None:
    made = kinds(monkeypatch)
    window = Window((kernel, kernel))
    run(weights(8, 20, kernel == 3, kernel), ROUNDED_UP, window=window, level=Level(64, 1))
    run(weights(8, 1, kernel == 3, kernel), ROUNDED_UP, groups=8, window=window, level=Level(64, 1))
    assert made == [expected, f"Conv ({kernel}, {kernel})"]


def test_data_of_more_than_eight_bits_whose_sums_exceed_binary32(monkeypatch: pytest.MonkeyPatch) -> None:
    made = kinds(monkeypatch)
    large = weights(4, 1200, kernel=1)
    large[:] = np.where(large < 0, -127, 128)
    run(large, ROUNDED_UP, window=Window(), level=Level(64, 1))
    monkeypatch.setattr(convolutions, "_fits_binary32", lambda *_: False)
    run(weights(8, 1, both=2), ROUNDED_UP, groups=8, level=Level(64, 1))
    assert made == ["QLinearConv (1, 1)", "QLinearConv (12, 3)"]


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(deadline=None, max_examples=50)
def test_weights_as_codes(seed: int, extreme_bias: bool) -> None:
    rng = np.random.default_rng(seed)
    values = rng.choice([-128, -127, 0, 3, 127, 128], (*rng.integers(1, 7, 2), 1, *rng.integers(1, 3, 1)))
    bias = rng.choice([-(2**31), 5], len(values)) if extreme_bias else np.zeros(len(values), np.int64)
    fitted = fit_weights(values.astype(np.int16), bias)
    assert not fitted.negative[bias == -(2**31)].any()
    sums = fitted.main.astype(int) - WEIGHT_ZERO + (0 if fitted.extra is None else fitted.extra)
    np.testing.assert_array_equal(np.where(fitted.negative[:, None, None, None], -sums, sums), values)
    assert fitted.extra is None or fitted.extra.max() == 1


@pytest.mark.parametrize("edge", [128, -128])
def test_signs_leave_few_inputs_with_an_extra_part(edge: int) -> None:
    values = np.zeros((6, 8, 1, 1), np.int16)
    values[:, 7] = edge
    values[np.arange(6), np.arange(6)] = -edge
    extra = fit_weights(values, np.zeros(6, np.int64)).extra
    assert extra is not None
    assert np.flatnonzero(np.any(extra, axis=(0, 2, 3))).tolist() == [7]


@pytest.mark.parametrize("beta", [1, 2, 3, 5])
def test_data_as_codes_for_every_zero_point(beta: int) -> None:
    for zero in range(256):
        values = terms.data_table(zero, False, beta)
        data = fit_data(values, np.ones(256, np.bool_), zero)
        assert 0 <= data.zero <= 255
        total = sum(table.astype(int) - data.zero for table in data.tables)
        np.testing.assert_array_equal(total, values)
        np.testing.assert_array_equal(data.values, values)
        assert (len(data.tables) == 1) == (int(values.max(initial=0)) - int(values.min(initial=0)) <= 255)
