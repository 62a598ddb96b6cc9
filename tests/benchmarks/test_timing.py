"""The closed form of the timing model against its unrolled form, over whole networks at all levels."""

from __future__ import annotations

import warnings

import pytest

from benchmarks.models import calibration, load
from benchmarks.networks import NETWORKS
from mmac.compiler import Options, compile_model
from mmac.isa.program import Program
from mmac.isa.spec import Queue
from mmac.runtime import load_target
from mmac.runtime.timing.analyse import analyse
from mmac.runtime.timing.events import events
from mmac.runtime.trace import trace
from tests.runtime.trace.documents import slices

TARGET = load_target("vc707")


def program(name: str) -> Program:
    data = {key: array[:1] for key, array in calibration(name, 1).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one sample is few
        return compile_model(load(name), Options(calibration=data, dims=NETWORKS[name])).program


@pytest.mark.models
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", NETWORKS)
def test_events_end_with_the_analysis(name: str) -> None:
    compiled = program(name)
    analysis = analyse(compiled, TARGET)
    for level, cycles in enumerate(analysis.cycles.tolist()):
        *_, last = events(compiled, TARGET, level)
        assert last.end == cycles
    shares = slices(trace(compiled, TARGET))["layers"]["share of the latency"]
    assert [share["args"]["cycles"] for share in shares] == [int(share.cycles[-1]) for share in analysis.shares]


@pytest.mark.models
@pytest.mark.parametrize("mac", ["pmac", "bmac", "bmac_serial"])
def test_other_cells(mac: str) -> None:
    compiled = program("tiny_resnet8")
    analysis = analyse(compiled, TARGET, mac)
    for level, cycles in enumerate(analysis.cycles.tolist()):
        everything = list(events(compiled, TARGET, level, mac))
        assert max(event.end for event in everything) == cycles
        assert {event.queue for event in everything} == set(Queue)
