"""Counters of the memories against naive recounts."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mmac.runtime.timing.analyse import analyse
from mmac.runtime.timing.cost import Action
from mmac.runtime.trace import trace
from mmac.runtime.trace.timeline import Timeline
from tests.runtime.trace.documents import Case, Steps, counters, layers, slices


def integral(steps: Steps) -> float:
    assert steps[-1][1] == 0
    return sum(value * (after - time) for (time, value), (after, _) in pairwise(steps))


def test_traffic_is_that_of_the_analysis(case: Case) -> None:
    document = trace(case.program, case.target, level=6)
    actions = analyse(case.program, case.target).actions
    found = counters(document)
    names = {"DRAM read": Action.DRAM_READ, "DRAM write": Action.DRAM_WRITE,
             "buffer read": Action.BUFFER_READ, "buffer write": Action.BUFFER_WRITE}  # fmt: skip
    total = 0.0
    for name, action in names.items():
        steps = found.get(f"{name} GB/s", [(0, 0)])
        # GB/s × µs = KB; the times are rounded to ns, which matters for the shortest transfers
        assert integral(steps) * 1000 == pytest.approx(int(actions[action][6]), rel=1e-2)
        bytes_ = sum(r["args"].get(f"{action}_bytes", 0) for own in slices(document)["queues"].values() for r in own)
        assert bytes_ == actions[action][6]
        total += bytes_
    assert total > 0


def test_memories_do_not_overflow(case: Case) -> None:
    found = counters(trace(case.program, case.target))
    sizes = {name: int(name.rpartition(" ")[2].replace(",", "")) for name in found if " bytes of " in name}
    assert {name.split()[0] for name in sizes} == {"act", "aux", "out", "wgt", "prm", "acc", "buffer"}
    for name, size in sizes.items():
        values = [value for _, value in found[name]]
        assert min(values) >= 0
        assert max(values) <= size
    assert max(value for _, value in found[next(name for name in sizes if name.startswith("act"))]) > 0


def test_no_counters_of_a_buffer_that_there_is_not() -> None:
    assert not [name for name in counters(trace(layers())) if name.startswith("buffer")]


def test_a_timeline_begins_at_zero_and_keeps_no_rests() -> None:
    line = Timeline()
    assert line.steps() == [(0, 0)]
    for start in range(3, 3000, 7):
        line.add(start, start + 7, 0.1)
        line.add(start, start + 5, 1 / 3)
    steps = line.steps()
    assert steps[0] == (0, 0)
    assert steps[-1] == (3006, 0)
    assert [value for _, value in steps[1:-1]] == [0.433333, 0.1] * 429
