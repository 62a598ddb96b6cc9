"""Parts of layers, against cutting them one by one."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmac.compiler.tile.cuts import cut


@st.composite
def layers(draw):
    """Size, ways to cut it, terms of each channel."""
    size = tuple(draw(st.integers(1, 9)) for _ in range(4))
    ways = []
    for _ in range(draw(st.integers(1, 4))):
        pixels = [1 if draw(st.booleans()) else extent for extent in size[:3]]
        axis = draw(st.integers(0, 2))
        pixels[axis] = draw(st.integers(1, size[axis]))
        ways.append((*pixels, draw(st.integers(1, size[3])), 7))
    return size, np.array(ways), np.array(draw(st.lists(st.integers(1, 3), min_size=size[3], max_size=size[3])))


@given(layers())
def test_parts_are_those_of_cutting_one_by_one(layer):
    size, ways, terms = layer
    cuts = cut(size, ways, terms)
    assert (np.diff(cuts.way) >= 0).all()
    for number, way in enumerate(ways.tolist()):
        expected = Counter()
        for starts in itertools.product(*(range(0, extent, step) for extent, step in zip(size, way, strict=False))):
            extents = [min(step, extent - start) for start, step, extent in zip(starts, way, size, strict=False)]
            expected[*extents, way[4], terms[starts[3] : starts[3] + way[3]].max()] += 1
        found = Counter()
        for i in np.flatnonzero(cuts.way == number):
            found[*cuts.sizes[i].tolist(), cuts.terms[i]] += int(cuts.number[i])
        assert found == expected
