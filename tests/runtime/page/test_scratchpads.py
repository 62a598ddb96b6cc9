from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mmac.isa.plan import PAPER_LEVELS
from mmac.isa.program import Program
from mmac.isa.table import Pad
from mmac.runtime.dataflow import dataflow
from mmac.runtime.page.scratchpads import covered, scratchpad_bytes
from tests.runtime.programs import Builder


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)).map(lambda pair: (pair[0], pair[0] + pair[1]))))
def test_covered_counts_every_byte_once(intervals: list[tuple[int, int]]) -> None:
    assert covered(intervals) == len({byte for interval in intervals for byte in range(*interval)})


def test_both_slots_of_a_ring_count() -> None:
    build = Builder(PAPER_LEVELS[:1], image_bytes=64)
    x, y = build.tensor("x", (1, 4, 4, 4)), build.tensor("y", (1, 4, 4, 4))
    build.input("x", "uint8", "x")
    build.move(x, y, (1, 1, 4, 4))  # four iterations of 16 bytes: two slots
    build.move(y, x, (1, 4, 4, 4))  # one of 64: one slot
    program = build.build()
    used = scratchpad_bytes(program)
    rows = [number for number, part in enumerate(dataflow(program).parts) if part.entry]
    assert used["out"][rows].tolist() == [32, 64]
    assert all(not used[pad.name.lower()].any() for pad in Pad if pad != Pad.OUT)


def test_layers_use_what_they_need(program: Program) -> None:
    used = scratchpad_bytes(program)
    for name, size in program.scratchpads.items():
        assert 0 < used[name].max() <= size
    for number, part in enumerate(dataflow(program).parts):
        op = part.entry.op if part.entry else ""
        assert (used["acc"][number] > 0) == (used["wgt"][number] > 0) == (op == "arraylayer")
        assert (used["aux"][number] > 0) == (op == "vadd")
