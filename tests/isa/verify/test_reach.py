"""Closed forms of what walks touch, against enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmac.isa.structure import Step
from mmac.isa.verify.reach import Reach, Span, span

SIZES = st.integers(1, 12)


@st.composite
def walks(draw: st.DrawFn) -> tuple[Step, int, int]:
    """A walk of one dimension, the dimension's size, and the number of positions."""
    step = Step(draw(st.integers(-15, 15)), draw(st.integers(1, 6)), draw(st.integers(-7, 7)), 0)
    return step, draw(SIZES), draw(SIZES)


def enumerated(step: Step, size: int, count: int) -> set[int]:
    starts = (step.origin + step.step * i for i in range(count))
    return {i for start in starts for i in range(start, start + step.extent) if 0 <= i < size}


def indices(found: Span | None) -> list[int]:
    """Indices of all pieces, which must not repeat."""
    if found is None:
        return []
    return [
        first + block * period + i
        for first, (blocks, period), length in found.pieces()
        for block in range(blocks)
        for i in range(length)
    ]


@given(walks())
@settings(max_examples=500)
def test_span(walk: tuple[Step, int, int]) -> None:
    found = span(*walk)
    expected = enumerated(*walk)
    assert sorted(indices(found)) == sorted(expected)
    if found is not None:
        assert (found.low, found.high) == (min(expected), max(expected) + 1)


def test_span_of_huge_loops() -> None:
    found = span(Step(-(2**23), 2**24 - 1, 2**23 - 1, 0), 2**24 - 1, 2**24 - 1)
    assert found is not None
    assert (found.low, found.high) == (0, 2**24 - 1)
    assert span(Step(2**23 - 1, 1, 2**23 - 1, 0), 2**23 - 1, 2**24 - 1) is None


@st.composite
def reaches(draw: st.DrawFn) -> tuple[Reach, set[int]]:
    """Bytes in closed form and one by one, in a small memory."""
    base, elem = draw(st.integers(0, 20)), draw(st.integers(1, 3))
    spans, strides, sets = [], [], []
    for _ in range(4):
        step, size, count = draw(walks())
        found = span(step, min(size, 5), min(count, 4))
        if found is None:
            step, size, count = Step(0, 1), 1, 1
            found = Span(0, 1, 0, 0, 1)
        spans.append(found)
        strides.append(draw(st.sampled_from([0, 1, 2, 5, 9, 30])))
        sets.append(enumerated(step, min(size, 5), min(count, 4)))
    return Reach(base, elem, tuple(spans), tuple(strides)), _bytes(base, elem, sets, strides)


def _bytes(base: int, elem: int, sets: Sequence[set[int]], strides: Sequence[int]) -> set[int]:
    starts = (base + sum(i * s for i, s in zip(index, strides, strict=True)) for index in itertools.product(*sets))
    return {start + byte for start in starts for byte in range(elem)}


@given(reaches())
@settings(max_examples=200)
def test_windows_are_exactly_the_bytes(case: tuple[Reach, set[int]]) -> None:
    reach, expected = case
    assert (reach.low, reach.high) == (min(expected), max(expected) + 1)
    memory, by_element = np.zeros((2, reach.high), np.bool_)
    for window in reach.windows(memory):
        window[...] = True
    for window in reach.elements(by_element):
        assert (window.shape[-1], window.strides[-1]) == (reach.elem, 1)
        window[...] = True
    assert set(np.flatnonzero(memory)) == set(np.flatnonzero(by_element)) == expected


@given(reaches())
@settings(max_examples=200)
def test_no_overlap_is_missed(case: tuple[Reach, set[int]]) -> None:
    reach, expected = case
    elements = 1
    for found in reach.spans:
        elements *= len(indices(found))
    if not reach.overlaps_itself():
        assert len(expected) == elements * reach.elem


@given(reaches(), reaches())
@settings(max_examples=200)
def test_meets(a: tuple[Reach, set[int]], b: tuple[Reach, set[int]]) -> None:
    assert a[0].meets(b[0]) == bool(a[1] & b[1])
