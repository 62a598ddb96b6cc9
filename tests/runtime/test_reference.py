"""The reference engine against the plain definitions, on whole layers with any tiling."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmac.isa import structure, table
from mmac.isa.plan import FULL, PAPER_LEVELS, Level
from mmac.isa.program import Program
from mmac.isa.spec import BY_OPCODE, NONE_LOOP, Queue
from mmac.isa.table import Pad, TermFormat
from mmac.runtime import engines
from mmac.runtime.engines.reference import EXECUTES, ReferenceEngine
from mmac.runtime.engines.reference.array import data_terms
from mmac.runtime.engines.reference.machine import POISON, Machine
from mmac.runtime.memory import Memory
from tests.runtime import definition
from tests.runtime.definition import Array, Quantization, Window
from tests.runtime.programs import Builder, Loop, Tensor

LEVELS = (Level(1, 1), Level(8, 2), Level(14, 3), FULL)
EDGES = [-128, -127, -119, -96, 0, 1, 3, 112, 119, 126, 127]
"""Weights of which many truncate to ±128."""


def execute(program: Program, level: int, inputs: dict[str, Array], keep: Sequence[str]) -> dict[str, Array]:
    """Run without a session; the inputs in NHWC."""
    segments = engines.split(program, structure.parse(program.code))
    engine = engines.create("reference", program, segments)
    memory = Memory(program)
    for name, array in inputs.items():
        memory.write(name, array.transpose(0, 3, 1, 2))
    kept: dict[str, Array] = {}
    for number in range(len(segments)):
        kept |= engine.run(number, memory, level, set(keep))
    return {name: array.transpose(0, 2, 3, 1) for name, array in kept.items()}


def raw(rng: np.random.Generator, shape: Sequence[int], signed: int) -> Array:
    """Bytes of which a good part are extreme, so that data truncate to 252…256."""
    values = rng.choice([rng.integers(0, 256, shape), rng.choice([0, 1, 3, 127, 128, 251, 253, 255], shape)])
    result: Array = values.astype(np.uint8).view(np.int8 if signed else np.uint8)
    return result


@st.composite
def quantizations(draw: st.DrawFn) -> Quantization:
    signs = [draw(st.integers(0, 1)) for _ in "aby"]
    a, b, y = (draw(st.integers(-128, 127) if s else st.integers(0, 255)) for s in signs)
    a_signed, b_signed, y_signed = signs
    low, high = (-128, 127) if y_signed else (0, 255)
    y_min = draw(st.sampled_from([low, y]))
    y_max = draw(st.sampled_from([high, (y_min + high) // 2]))
    ties = st.sampled_from([0.5, 0.25])
    a_scale, b_scale = (draw(ties | st.floats(2**-12, 2.0, width=32)) for _ in "ab")
    return Quantization(a, b, y, a_signed, b_signed, y_signed, y_min, y_max, a_scale, b_scale)


@dataclass(frozen=True)
class Layer:
    """A random array layer and its tiling."""

    x: tuple[int, int, int, int]
    channels: int
    window: Window
    groups: int
    tile: tuple[int, int, int, int]
    shift: tuple[int, int, int, int]
    reduction: int
    q: Quantization
    kind: TermFormat
    per_level: bool
    seed: int

    @property
    def y(self) -> tuple[int, int, int, int]:
        return (self.x[0], *self.window.outputs(*self.x[1:3]), self.channels)


@st.composite
def windows(draw: st.DrawFn, limit: int = 3) -> Window:
    kernel, stride, dilation = (draw(st.tuples(st.integers(1, k), st.integers(1, k))) for k in (limit, 3, 2))
    pads = draw(st.tuples(*[st.integers(0, kernel[i % 2] - 1) for i in range(4)]))
    return Window(kernel, stride, dilation, pads)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    form = draw(st.sampled_from(["dense", "pointwise", "grouped"]))
    window = draw(windows(1 if form == "pointwise" else 3))
    h, w = ((window.kernel[i] - 1) * window.dilation[i] + 1 + draw(st.integers(0, 4)) for i in (0, 1))
    groups = draw(st.integers(2, 5)) if form == "grouped" else 1
    ic = draw(st.sampled_from([5, 16, 17, 32, 40]) if form == "pointwise" else st.integers(1, 20))
    oc = draw(st.integers(1, 7))
    n, oh, ow = (draw(st.integers(1, 2)), *window.outputs(h, w))
    tn = oc * draw(st.integers(1, groups)) if groups > 1 else draw(st.integers(1, oc))
    tile = *(draw(st.integers(1, size)) for size in (n, oh, ow)), tn
    shift = [draw(st.sampled_from([0, 0, size - 1])) for size in tile]
    return Layer(
        x=(n, h, w, groups * ic),
        channels=groups * oc,
        window=window,
        groups=groups,
        tile=(tile[0], tile[1], tile[2], tn),
        shift=(shift[0], shift[1], shift[2], shift[3] // oc * oc if groups > 1 else shift[3]),
        reduction=draw(st.sampled_from([16, ic])) if form == "pointwise" else ic,
        q=draw(quantizations()),
        kind=draw(st.sampled_from(list(TermFormat))),
        per_level=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


@given(layers(), st.sampled_from([LEVELS, PAPER_LEVELS]))
@settings(deadline=None, max_examples=50)
def test_array_layer(layer: Layer, levels: tuple[Level, ...]) -> None:
    check_array_layer(layer, levels, lambda program, level, inputs: execute(program, level, inputs, ["y"])["y"])


def check_array_layer(
    layer: Layer, levels: tuple[Level, ...], run: Callable[[Program, int, dict[str, Array]], Array]
) -> None:
    """Hold an engine to the definition at every level; `run` gives the tensor y in NHWC."""
    rng = np.random.default_rng(layer.seed)
    q, window = layer.q, layer.window
    x = raw(rng, layer.x, q.a_signed)
    shape = (layer.channels, *window.kernel, layer.x[3] // layer.groups)
    top = 127 if layer.kind == TermFormat.RAW else 128
    weights = np.clip(rng.choice([rng.integers(-128, 129, shape), rng.choice(EDGES, shape)]), -128, top)
    constants = (len(levels) if layer.per_level else 1, layer.channels)
    bias = rng.integers(-2000, 2000, constants)
    scale = rng.uniform(2**-14, 2**-6, constants).astype(np.float32)

    builder = Builder(levels)
    source = builder.tensor("x", layer.x, "int8" if q.a_signed else "uint8")
    result = builder.tensor("y", layer.y, q.y_dtype)
    builder.array_layer(
        source, result, weights, bias, scale, window=window, groups=layer.groups, q=q,
        tile=layer.tile, shift=layer.shift, reduction=layer.reduction, kind=layer.kind,
    )  # fmt: skip
    program = builder.build()
    for number, level in enumerate(levels):
        sums = definition.convolution(x, weights, window, layer.groups, q, level.alpha, level.beta)
        row = number if layer.per_level else 0
        expected = definition.requantize(sums, bias[row], scale[row], q)
        np.testing.assert_array_equal(run(program, number, {"x": x}), expected, str(level))


@pytest.mark.parametrize("kind", list(TermFormat))
def test_weights_that_are_all_zero_have_no_terms(kind: TermFormat) -> None:
    builder = Builder(LEVELS)
    x, y = builder.tensor("x", (1, 2, 2, 17)), builder.tensor("y", (1, 2, 2, 3))
    ones = np.ones((1, 3))
    builder.array_layer(x, y, np.zeros((3, 1, 1, 17), int), 7 * ones, ones, kind=kind)
    data = np.full((1, 2, 2, 17), 9, np.uint8)
    assert (execute(builder.build(), 1, {"x": data}, ["y"])["y"] == 7).all()


@st.composite
def broadcasts(draw: st.DrawFn) -> tuple[list[int], list[int], list[int], list[int]]:
    """Shapes of a, b, y, and a box of y."""
    y = [draw(st.integers(1, 4)) for _ in range(4)]
    a, b = ([draw(st.sampled_from([1, size, size])) for size in y] for _ in "ab")
    y = [max(sizes) for sizes in zip(a, b, strict=True)]
    return a, b, y, [draw(st.integers(1, size)) for size in y]


@given(broadcasts(), quantizations(), st.sampled_from(["vadd", "vmul"]), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_elementwise(shapes: tuple[list[int], ...], q: Quantization, op: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = raw(rng, shapes[0], q.a_signed), raw(rng, shapes[1], q.b_signed)
    builder = Builder(LEVELS)
    operands = [builder.tensor(name, array.shape, str(array.dtype)) for name, array in (("a", a), ("b", b))]
    builder.elementwise(op, operands, builder.tensor("y", shapes[2], q.y_dtype), q, shapes[3])
    expected = (definition.add if op == "vadd" else definition.multiply)(a, b, q)
    np.testing.assert_array_equal(execute(builder.build(), 0, {"a": a, "b": b}, ["y"])["y"], expected)


@given(st.lists(st.integers(1, 4), min_size=4, max_size=4), st.data(), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_table(shape: list[int], data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, 256).astype(np.uint8)
    x = raw(rng, shape, 0)
    builder = Builder(LEVELS)
    source, result = builder.tensor("x", shape), builder.tensor("y", shape)
    builder.lookup(source, result, values, [data.draw(st.integers(1, size)) for size in shape])
    np.testing.assert_array_equal(execute(builder.build(), 0, {"x": x}, ["y"])["y"], values[x])


@given(windows(), quantizations(), st.booleans(), st.sampled_from(["vmax", "vavg"]), st.data())
@settings(deadline=None, max_examples=50)
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
    np.testing.assert_array_equal(execute(builder.build(), 0, {"x": x}, ["y"])["y"], expected)


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
    np.testing.assert_array_equal(execute(builder.build(), 0, {"x": x}, ["y"])["y"], expected)


def test_move_transposes_by_strides() -> None:
    x = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(1, 2, 3, 4)
    builder = Builder(LEVELS)
    source, result = builder.tensor("x", x.shape), builder.tensor("y", (1, 4, 2, 3))
    _, sh, sw, sc = source.strides
    turned = Tensor("", source.base, (1, 4, 2, 3), (0, sc, sh, sw))
    builder.move(turned, result, (1, 2, 2, 2))
    np.testing.assert_array_equal(execute(builder.build(), 0, {"x": x}, ["y"])["y"], x.transpose(0, 3, 1, 2))


def test_reused_bytes_do_not_lose_a_kept_tensor() -> None:
    x = np.arange(16, dtype=np.uint8).reshape(1, 2, 2, 4)
    builder = Builder(LEVELS)
    a, b = builder.tensor("a", x.shape), builder.tensor("b", x.shape)
    c = builder.tensor("c", x.shape, base=a.base)
    double, square = (np.arange(256) * 2).astype(np.uint8), (np.arange(256) ** 2).astype(np.uint8)
    builder.lookup(a, b, double, (1, 1, 2, 4))
    builder.lookup(b, c, square, (1, 2, 1, 4))
    kept = execute(builder.build(), 0, {"a": x}, ["b", "c"])
    np.testing.assert_array_equal(kept["b"], double[x])
    np.testing.assert_array_equal(kept["c"], square[double[x]])


def test_every_queue_instruction_is_executed() -> None:
    assert set(EXECUTES) == {cls for cls in BY_OPCODE.values() if cls.queue != Queue.SEQUENCER}


def test_data_terms_are_the_signed_digits() -> None:
    terms = data_terms()
    for value in range(-255, 256):
        found = [
            (int(e), int(s))
            for e, s in zip(terms.exponent[:, value + 255], terms.sign[:, value + 255], strict=True)
            if s
        ]
        assert found == definition.naf(value)


def test_operands_come_from_scratchpad_bytes() -> None:
    """A pointer that is off by one byte gives results that are off."""
    x = np.arange(16, dtype=np.uint8).reshape(1, 2, 2, 4)
    builder = Builder(LEVELS)
    source, result = builder.tensor("x", x.shape), builder.tensor("y", x.shape)
    builder.lookup(source, result, np.arange(256).astype(np.uint8), x.shape)
    (pointer,) = (i for i in builder.code if isinstance(i, table.Pointer) and i.pad == Pad.PRM)
    off = dataclasses.replace(pointer, p=9, addr=pointer.addr + 1)
    code = [off, *(dataclasses.replace(i, table=9) if isinstance(i, table.Vtable) else i for i in builder.code)]
    debug = tuple(dataclasses.replace(entry, stop=entry.stop + 1) for entry in builder.debug)
    wrong = builder.build(code=(*code, table.Halt()), debug=debug)
    for program, expected in ((builder.build(), x), (wrong, x + 1)):
        np.testing.assert_array_equal(execute(program, 0, {"x": x}, ["y"])["y"], expected)


def test_slots_alternate_with_the_loop() -> None:
    """Two halves loaded into two slots, stored from the slots of the other phase: they swap."""
    builder = Builder(LEVELS)
    x, y = builder.tensor("x", (1, 2, 1, 8)), builder.tensor("y", (1, 2, 1, 8))
    walks = [(0, 1, 0, NONE_LOOP), (0, 1, 1, 0), (0, 1, 0, NONE_LOOP), (0, 8, 0, NONE_LOOP)]
    builder.view(0, x, walks)
    builder.view(1, y, walks)
    builder.code += [table.Pointer(p=p, pad=Pad.OUT, addr=32, toggle=8, mask=1, phase=p) for p in (0, 1)]
    builder.emit("swap", 0, [Loop(2, [table.Load(t=0, p=0)]), Loop(2, [table.Store(t=1, p=1)])], "y")
    data = np.arange(16, dtype=np.uint8).reshape(1, 2, 1, 8)
    np.testing.assert_array_equal(execute(builder.build(), 0, {"x": data}, ["y"])["y"], data[:, ::-1])


def test_a_level_reads_only_its_prefix() -> None:
    builder = Builder(LEVELS)
    x, y = builder.tensor("x", (1, 1, 1, 16)), builder.tensor("y", (1, 1, 1, 1))
    ones = np.ones((1, 1))
    builder.array_layer(x, y, np.full((1, 1, 1, 16), 85), ones, ones)
    program = builder.build()
    segments = engines.split(program, structure.parse(program.code))
    for number, level in enumerate(LEVELS):
        engine = ReferenceEngine(program, segments)
        engine.run(0, Memory(program), number, set())
        pad = engine.machine.pads[Pad.WGT]
        touched = np.flatnonzero(pad != POISON)
        assert touched.max() - touched.min() + 1 == 1 + min(level.alpha, 64)  # 85 has 4 terms


def test_scratchpads_start_out_poisoned() -> None:
    machine = Machine(Builder(LEVELS).build())
    assert all((pad == POISON).all() for pad in machine.pads.values())
