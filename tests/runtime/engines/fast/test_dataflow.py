"""Chains of operations on overlapping, strided and reused DRAM bytes: every read sees what the reference sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmac.isa import structure
from mmac.isa.plan import Level
from mmac.isa.program import Place, Port, Program, TensorInfo
from mmac.runtime import engines
from mmac.runtime.engines.fast import FastEngine
from mmac.runtime.engines.fast.layers import Opaque
from mmac.runtime.engines.fast.regions import Region, locate, locate_slices, same_order
from mmac.runtime.memory import Memory
from tests.runtime.definition import Array, Quantization
from tests.runtime.programs import Builder, Tensor

DRAM = 160
"""Bytes of activations: few, so that operations overwrite each other's results."""

Q = Quantization(a_zero=100, b_zero=-3, b_signed=1, y_zero=90, y_max=200, a_scale=0.7, b_scale=1.3)


@st.composite
def regions(draw: st.DrawFn, shape: Sequence[int] | None = None) -> Region:
    """Nested strides in any order of dimensions, with or without gaps, as for slices and transposed tensors."""
    sizes = [draw(st.integers(1, 4)) for _ in range(4)] if shape is None else list(shape)
    strides = [0] * 4
    step = 1
    for dim in draw(st.sampled_from([(3, 2, 1, 0), (3, 2, 1, 0), (1, 3, 2, 0), (0, 1, 2, 3)])):
        strides[dim] = step * draw(st.sampled_from([1, 1, 1, 2]))
        step = strides[dim] * sizes[dim]
    region = Region(0, tuple(sizes), tuple(strides))
    if region.span[1] > DRAM:
        return draw(regions([1, 1, sizes[2], sizes[3]]))
    return Region(draw(st.integers(0, DRAM - region.span[1])), region.shape, region.strides)


class Chain:
    """A program of random operations; all results are kept under their names, the last ones are outputs."""

    def __init__(self) -> None:
        self.builder = Builder((Level(14, 2),))
        self.start = self.builder.dram
        self.builder.dram += DRAM
        self.count = 0

    def tensor(self, region: Region, kept: bool = False) -> Tensor:
        name = f"t{self.count}" if kept else ""
        n, h, w, c = region.shape
        sn, sh, sw, sc = region.strides
        tensor = Tensor(name, self.start + region.base, (n, h, w, c), (sn, sh, sw, sc))
        if kept:
            place = Place(tensor.base, tensor.strides)
            self.builder.tensors[name] = TensorInfo(name, "uint8", tensor.shape, place)
            self.count += 1
        return tensor

    def build(self, outputs: Sequence[str]) -> Program:
        ports = tuple(Port(name, "uint8", self.builder.tensors[name].shape, (name,)) for name in outputs)
        return self.builder.build(outputs=ports)


def overlap(y: Region, *operands: Region) -> bool:
    return any(y.overlaps(operand) for operand in operands)


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    chain = Chain()
    written: list[Region] = []
    for _ in range(draw(st.integers(2, 7))):
        x = draw(st.sampled_from(written) if written else regions())
        x = draw(st.sampled_from([x, x, draw(regions())]))
        op = draw(st.sampled_from(["move", "lookup", "lookup", "vadd"]))
        y = draw(regions() if op == "move" else regions(x.shape))
        b = draw(regions(x.shape)) if op == "vadd" else x
        if (op != "move" and y.shape != x.shape) or b.shape != x.shape or overlap(y, x, b):
            continue
        source, result = chain.tensor(x), chain.tensor(y, kept=True)
        box = [draw(st.integers(1, size)) for size in y.shape]
        if op == "move":
            origin = [draw(st.integers(-1, size - 1)) for size in x.shape]
            chain.builder.move(source, result, box, origin, fill=draw(st.integers(0, 255)))
        elif op == "lookup":
            values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, 256)
            chain.builder.lookup(source, result, values.astype(np.uint8), box)
        else:
            chain.builder.elementwise("vadd", [source, chain.tensor(b)], result, Q, box)
        written.append(y)
    return chain


def execute(program: Program, name: str, dram: Array, keep: set[str]) -> tuple[dict[str, Array], Array]:
    """What was kept, and the outputs as they lie in DRAM afterwards."""
    engine = engines.create(name, program, engines.split(program, structure.parse(program.code)))
    if isinstance(engine, FastEngine):
        assert [layer.reason for layer in engine.lifted[0] if isinstance(layer, Opaque)] == []
    memory = Memory(program)
    memory.dram[-DRAM:] = dram
    kept = engine.run(0, memory, 0, keep)
    outputs = [memory.read(port.name).ravel() for port in program.outputs]
    return kept, np.concatenate([np.empty(0, np.uint8), *outputs])


@given(chains(), st.data())
@settings(deadline=None, max_examples=150)
def test_chain(chain: Chain, data: st.DataObject) -> None:
    names = [f"t{i}" for i in range(chain.count)]
    outputs = [name for name in names if data.draw(st.booleans())]
    keep = {name for name in names if data.draw(st.booleans())}
    program = chain.build(outputs)
    dram = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 256, DRAM).astype(np.uint8)
    expected, left = execute(program, "reference", dram, keep)
    kept, found = execute(program, "fast", dram, keep)
    assert kept.keys() == expected.keys() == keep
    for name in keep:
        np.testing.assert_array_equal(kept[name], expected[name], name)
    np.testing.assert_array_equal(found, left)


@given(regions(), regions())
@settings(deadline=None, max_examples=200)
def test_locate(outer: Region, inner: Region) -> None:
    """Wherever `locate` finds a region within another one, it finds the right elements."""
    address = np.arange(DRAM)
    array = outer.window(address).copy()
    dram = set(outer.window(address).ravel().tolist())
    wanted = inner.window(address)
    assert outer.overlaps(inner) == bool(dram & set(wanted.ravel().tolist()))
    for find in (locate, locate_slices):
        access = find(outer, inner)
        if access is not None:
            np.testing.assert_array_equal(access(array), wanted)
            assert np.shares_memory(access(array), array)
    if same_order(outer, inner):
        np.testing.assert_array_equal(array.ravel(), wanted.ravel())


@given(regions(), st.data())
@settings(deadline=None, max_examples=100)
def test_boxes_of_a_region_are_located_in_it(outer: Region, data: st.DataObject) -> None:
    start = [data.draw(st.integers(0, size - 1)) for size in outer.shape]
    inner = outer.box(start, [data.draw(st.integers(1, size - s)) for s, size in zip(start, outer.shape, strict=True)])
    access = locate_slices(outer, inner)
    assert access is not None
    array = outer.window(np.arange(DRAM)).copy()
    np.testing.assert_array_equal(access(array), inner.window(np.arange(DRAM)))
