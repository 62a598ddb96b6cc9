from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmac.isa.errors import VerificationError
from mmac.isa.spec import Queue
from mmac.runtime.timing.maxplus import NEG, Queues, identity, power, product

entries = st.one_of(st.integers(0, 1 << 30), st.just(NEG))
matrices = arrays(np.int64, (2, 4, 4), elements=entries)


def by_definition(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    result = np.full((a.shape[0], a.shape[1], b.shape[2]), NEG, np.int64)
    for level, i, k, j in np.ndindex(*a.shape, b.shape[2]):
        if a[level, i, k] > NEG and b[level, k, j] > NEG:
            result[level, i, j] = max(result[level, i, j], a[level, i, k] + b[level, k, j])
    return result


@given(matrices, matrices)
def test_product(a: np.ndarray, b: np.ndarray) -> None:
    found = product(a, b)
    expected = by_definition(a, b)
    finite = expected > NEG
    assert (found[finite] == expected[finite]).all()
    assert (found[~finite] < NEG // 2).all()


@settings(max_examples=20)
@given(matrices, st.integers(1, 9))
def test_power(a: np.ndarray, exponent: int) -> None:
    expected = identity(4, 2)
    for _ in range(exponent):
        expected = by_definition(a, expected)
    found = power(a, exponent)
    assert (np.where(found < NEG // 2, NEG, found) == expected).all()


def test_infinity_stays_infinite_for_the_longest_programs() -> None:
    a = np.full((1, 2, 2), NEG, np.int64)
    a[0, 0, 0] = a[0, 1, 1] = 1 << 10
    huge = power(a, 1 << 31)
    assert huge[0, 0, 0] == 1 << 41
    assert huge[0, 0, 1] < NEG // 2


def test_a_symbolic_step_equals_the_steps_themselves() -> None:
    def step(clock: Queues) -> None:
        clock.dispatch(1)
        clock.issue(0, Queue.LOAD, [1], [2], np.array([[5], [7]]))
        clock.dispatch(1)
        clock.issue(1, Queue.COMPUTE, [2], [1], np.array([[9], [3]]))

    def start() -> Queues:
        clock = Queues.idle(2)
        clock.issue(2, Queue.COMPUTE, [], [1], np.array([[4], [4]]))
        return clock

    direct, jumped = start(), start()
    for _ in range(5):
        step(direct)
    queues, semaphores = (Queue.SEQUENCER, Queue.LOAD, Queue.COMPUTE), (1, 2)
    form = Queues.symbolic(queues, jumped.pending(semaphores), 2)
    step(form)
    jumped.apply(power(form.stacked(queues, semaphores), 5), queues, semaphores)
    assert (direct.stacked(tuple(Queue), semaphores) == jumped.stacked(tuple(Queue), semaphores)).all()


def test_waiting_for_nothing() -> None:
    with pytest.raises(VerificationError, match="instruction 7: waits for semaphore 3"):
        Queues.idle(1).issue(7, Queue.LOAD, [3], [], np.array([[1]]))
