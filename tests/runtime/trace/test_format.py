"""The trace-event format: records, times, text."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.isa.errors import UsageError
from mmac.runtime.trace import trace, write_trace
from tests.runtime.timing.builders import Random
from tests.runtime.trace.documents import TARGET, Case, layers, slices


def check_format(document: Mapping[str, Any]) -> None:
    """The rules of the trace-event format."""
    assert document["displayTimeUnit"] == "ns"
    named: dict[str, set[int]] = {"process_name": set(), "thread_name": set()}
    ordered: dict[str, set[int]] = {"process_sort_index": set(), "thread_sort_index": set()}
    for record in document["traceEvents"]:
        assert record.keys() >= {"ph", "ts", "pid", "tid", "name", "args"}
        assert type(record["pid"]) is type(record["tid"]) is int
        assert isinstance(record["name"], str)
        assert math.isfinite(record["ts"])
        assert record["ts"] >= 0
        if record["ph"] == "M":
            number = record["pid"] if record["name"].startswith("process") else record["tid"]
            names = named | ordered
            assert number not in names[record["name"]]
            names[record["name"]].add(number)
        elif record["ph"] == "X":
            assert record["dur"] >= 0
            assert record["pid"] in named["process_name"]
            assert record["tid"] in named["thread_name"]
        else:
            assert record["ph"] == "C"
            assert record["pid"] in named["process_name"]
            assert all(type(value) in (int, float) and math.isfinite(value) for value in record["args"].values())
    assert list(named.values()) == list(ordered.values())


def check_times(document: Mapping[str, Any]) -> None:
    """No track has overlaps, neither in cycles nor in the ns that Perfetto rounds to; times are those of the cycles."""
    for tracks in slices(document).values():
        for own in tracks.values():
            for record in own:
                first, last = record["args"]["start_cycle"], record["args"]["end_cycle"]
                assert record["args"]["cycles"] == last - first >= 0
                assert abs(record["ts"] - first / TARGET.clock.mhz) <= 0.000_5001
                assert abs(record["ts"] + record["dur"] - last / TARGET.clock.mhz) <= 0.000_5001
            for before, after in pairwise(own):
                assert before["args"]["end_cycle"] <= after["args"]["start_cycle"]
                assert round(before["ts"] * 1000) + round(before["dur"] * 1000) <= round(after["ts"] * 1000)


@pytest.mark.parametrize("level", [0, 7])
def test_format_and_times(case: Case, level: int) -> None:
    document = trace(case.program, case.target, level=level)
    check_format(document)
    check_times(document)


@given(seed=st.integers(0, 1 << 30), level=st.integers(0, 2))
def test_format_and_times_of_random_code(seed: int, level: int) -> None:
    program = Random(random.Random(seed)).build()
    document = trace(program, TARGET, level)
    check_format(document)
    check_times(document)


def test_the_file_is_the_document(case: Case, tmp_path: Path) -> None:
    write_trace(case.program, tmp_path / "trace.json", case.target, 2)
    text = (tmp_path / "trace.json").read_text("ascii")
    assert json.loads(text, parse_constant=pytest.fail) == json.loads(
        json.dumps(trace(case.program, case.target, level=2))
    )
    assert all(len(line) < 1000 for line in text.splitlines())
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]


def test_a_file_that_cannot_be_written(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be written \(No such file or directory\)"):
        write_trace(case.program, tmp_path / "nowhere" / "trace.json", case.target)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", 'quo"te\n\x1b[2J', "ß…\udcff", "/very/long" * 1000])
def test_names_are_text(name: str, tmp_path: Path) -> None:
    program = layers()
    debug = (replace(program.debug[0], node=name), *program.debug[1:])
    write_trace(replace(program, debug=debug), tmp_path / "trace.json")
    document = json.loads((tmp_path / "trace.json").read_text("ascii"))
    check_format(document)
    first = slices(document)["layers"]["share of the latency"][0]
    assert first["args"]["layer"] == name
    labels = {record["name"] for record in document["traceEvents"] if record["ph"] == "X"}
    assert max(map(len, labels)) <= 100
    label = name if len(name) <= 80 else f"{name[:39]}…{name[-40:]}"
    assert {label, f"{label} mmac", f"dispatch {label}"} <= labels
