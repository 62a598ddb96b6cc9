from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.compiler import compile_model
from mmac.isa.errors import ResourceError
from mmac.isa.plan import PAPER_LEVELS
from mmac.isa.program import Program
from mmac.isa.table import Pad
from mmac.runtime.dataflow import dataflow
from mmac.runtime.scratchpads import covered, needed_bytes, scratchpad_bytes
from mmac.runtime.targets import Target, load_target
from mmac.runtime.timing.analyse import analyse
from mmac.runtime.trace import trace
from tests.commands import DATA
from tests.runtime.programs import Builder


@cache
def classifier() -> Program:
    """The bundled residual network."""
    with pytest.warns(UserWarning, match="calibration"):
        return compile_model(DATA / "fashion_mnist_cnn.onnx").program


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


def test_layers_use_what_they_need() -> None:
    program = classifier()
    used = scratchpad_bytes(program)
    for name, size in program.scratchpads.items():
        assert 0 < used[name].max() <= size
    for number, part in enumerate(dataflow(program).parts):
        op = part.entry.op if part.entry else ""
        assert (used["acc"][number] > 0) == (used["wgt"][number] > 0) == (op == "arraylayer")
        assert (used["aux"][number] > 0) == (op == "vadd")


def with_pad(pad: str, size: int) -> Target:
    target = load_target("vc707")
    return replace(target, scratchpads={**target.scratchpads, pad: size})


@pytest.mark.parametrize("pad", [pad.name.lower() for pad in Pad])
def test_a_program_needs_its_scratchpads_up_to_the_last_byte_that_it_uses(pad: str) -> None:
    program = classifier()
    needed = needed_bytes(program)[pad]
    assert scratchpad_bytes(program)[pad].max() <= needed <= program.scratchpads[pad]
    expected = analyse(program, load_target("vc707")).cycles
    assert (analyse(program, with_pad(pad, needed)).cycles == expected).all()
    for run in (analyse, trace):
        text = (
            f"needs {needed} bytes of the {pad.upper()} scratchpad; vc707 has {needed - 1}; compile it for this target"
        )
        with pytest.raises(ResourceError, match=text):
            run(program, with_pad(pad, needed - 1))


def test_a_program_needs_its_memory() -> None:
    program, target = classifier(), load_target("vc707")

    def with_dram(size: int) -> Target:
        return replace(target, dram=replace(target.dram, capacity_bytes=size))

    analyse(program, with_dram(program.dram_bytes))
    text = (
        f"{program.name}: it needs {program.dram_bytes} bytes of DRAM; vc707 has {program.dram_bytes - 1}; compile it"
    )
    with pytest.raises(ResourceError, match=text):
        analyse(program, with_dram(program.dram_bytes - 1))


def test_a_network_for_a_large_board_does_not_fit_a_small_one() -> None:
    with pytest.raises(ResourceError, match=r"needs \d+ bytes .*; zedboard has \d+; compile it for this target"):
        analyse(classifier(), load_target("zedboard"))
