"""A layout's strides find the same elements as numpy does on a real array."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.compiler.tile.ir import View
from mmac.compiler.tile.layout import Layout, elementwise_axes

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=5)


def filled(shape: list[int], order: list[int]) -> tuple[Layout, np.ndarray, np.ndarray]:
    """A layout, its buffer's bytes, and the logical array that they mean."""
    layout = Layout.dense("b", shape, order)
    memory = np.arange(layout.size + 1, dtype=np.uint16)
    return layout, memory, memory[:-1].reshape([shape[a] for a in order]).transpose(np.argsort(order))


@given(SHAPES, st.data())
def test_view_operations_follow_numpy(shape, data):
    order = data.draw(st.permutations(range(len(shape))))
    layout, memory, logical = filled(shape, order)
    assert layout.size == logical.size
    perm = data.draw(st.permutations(range(len(shape))))
    index = tuple(slice(data.draw(st.integers(0, n - 1)), None, data.draw(st.integers(1, 2))) for n in shape)
    for change in (
        lambda a: a.transpose(perm),
        lambda a: a[index],
        lambda a: np.expand_dims(a, 0),
        lambda a: np.broadcast_to(a, (2, *a.shape)),
    ):
        changed = layout.map(change)
        assert changed is not None
        strided = np.lib.stride_tricks.as_strided(
            memory[changed.offset :], changed.shape, [2 * s for s in changed.strides]
        )
        assert np.array_equal(strided, change(logical))


@given(SHAPES, st.data())
def test_four_dimensional_views_visit_every_element_in_the_same_order(shape, data):
    first, _, _ = filled(shape, data.draw(st.permutations(range(len(shape)))))
    second, _, _ = filled(shape, data.draw(st.permutations(range(len(shape)))))
    groups = elementwise_axes([first, second])
    if groups is None:
        assert len(shape) == 5
        return
    views = [layout.view(groups) for layout in (first, second)]
    assert views[0] is not None
    assert views[1] is not None
    assert views[0].shape == views[1].shape
    order = [[address_to_position(layout)[int(a)] for a in addresses(view).ravel()]
             for layout, view in zip((first, second), views, strict=True)]  # fmt: skip
    assert sorted(order[0]) == list(range(first.size))
    assert order[0] == order[1]


def addresses(place: Layout | View) -> np.ndarray:
    return place.offset + sum(i * s for i, s in zip(np.indices(place.shape), place.strides, strict=True))


def address_to_position(layout: Layout) -> dict[int, int]:
    return {int(address): position for position, address in enumerate(addresses(layout).ravel())}


def test_reshape_without_copy_or_not_at_all():
    nhwc = Layout.dense("b", (1, 64, 7, 5), (0, 2, 3, 1))
    assert nhwc.reshape((1, 8, 8, 7, 5)) is not None
    assert nhwc.reshape((1, 64 * 35)) is None
    assert Layout.dense("b", (1, 64, 1, 1), (0, 2, 3, 1)).reshape((1, 64)) == Layout("b", 0, (1, 64), (64, 1))


def test_backward_slices_have_no_layout():
    assert Layout.dense("b", (4,)).map(lambda a: a[::-1]) is None


def test_channels_go_last_among_equal_strides():
    assert Layout.dense("b", (1, 1, 28, 28), (0, 2, 3, 1)).memory_order() == (0, 2, 3, 1)


def test_repeated_dimensions_of_a_view_have_size_one():
    wide = Layout.dense("b", (1, 3, 1, 1)).broadcast((1, 3, 4, 5))
    view = wide.view(elementwise_axes([Layout.dense("y", (1, 3, 4, 5), (0, 2, 3, 1)), wide]))
    assert view.shape == (1, 1, 1, 3)
    with pytest.raises(ValueError, match="does not broadcast"):
        Layout.dense("b", (3,)).broadcast((2,))
