"""Valid programs pass, whatever is combined; errors say where."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from mmac.isa.errors import ResourceError
from mmac.isa.plan import FULL, Level
from mmac.isa.spec import BY_OPCODE, Queue
from mmac.isa.table import TermFormat
from mmac.isa.verify import verify
from mmac.isa.verify.uses import USES
from tests.isa import examples
from tests.isa.build import Builder
from tests.isa.source import Source
from tests.isa.verify.rejection import rejected

BOTH_ORDERS = [True, False]


@pytest.mark.parametrize("weights_outer", BOTH_ORDERS)
@pytest.mark.parametrize("kind", list(TermFormat))
@pytest.mark.parametrize("per_level", [True, False])
def test_convolution(weights_outer: bool, kind: TermFormat, per_level: bool) -> None:
    verify(examples.convolution(weights_outer=weights_outer, kind=kind, per_level=per_level).program())


@pytest.mark.parametrize("weights_outer", BOTH_ORDERS)
def test_reduction_tiles(weights_outer: bool) -> None:
    verify(examples.matrix_product(weights_outer=weights_outer).program())


def test_depthwise() -> None:
    verify(examples.depthwise().program())


def test_addition() -> None:
    verify(examples.addition().program())


def test_network() -> None:
    verify(examples.network().program())


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("tile", [(1, 6, 6, 20), (1, 1, 1, 1), (1, 5, 6, 7), (2, 2, 3, 20)])
@pytest.mark.parametrize("weights_outer", BOTH_ORDERS)
def test_any_tiling(batch: int, tile: tuple[int, int, int, int], weights_outer: bool) -> None:
    builder = Builder(levels=(Level(3, 1), FULL))
    x, y = builder.input("x", (batch, 6, 6, 32)), builder.tensor("y", (batch, 6, 6, 20))
    builder.array(x, y, tile=(min(tile[0], batch), *tile[1:]), reduction=16, weights_outer=weights_outer)
    z = builder.tensor("z", (batch, 6, 6, 20))
    builder.array(y, z, kernel=3, tile=(min(tile[0], batch), *tile[1:]), weights_outer=weights_outer)
    builder.output(z)
    verify(builder.source().program())


def test_loops_cost_nothing() -> None:
    """A long loop takes no more work than a short one."""
    builder = Builder()
    x, y = builder.input("x", (1, 1000, 1000, 4)), builder.tensor("y", (1, 1000, 1000, 4))
    builder.lookup(x, y, (1, 1, 1, 3))
    builder.output(y)
    program = builder.source().program()
    start = time.process_time()
    verify(program)
    assert time.process_time() - start < 0.5


def test_every_instruction_with_a_pointer_has_uses() -> None:
    queued = {cls for cls in BY_OPCODE.values() if cls.queue != Queue.SEQUENCER}
    assert set(USES) == {cls for cls in queued if any(bits.kind == "pointer" for bits in cls.layout.values())}
    for cls, uses in USES.items():
        assert [use.ring for use in uses] == [n for n, bits in cls.layout.items() if bits.kind == "pointer"]


def test_an_error_names_the_instruction_and_its_node() -> None:
    error = rejected(examples.addition().edit("b=t2", "b=t0"), "instruction 38 (vadd) of node 'add0'")
    assert error.exit_code == 6


def test_code_that_belongs_to_no_node() -> None:
    source = examples.addition().edit("halt", "sync.load wait=20\nhalt")
    assert "of node" not in str(rejected(source, "instruction 52 (sync.load): it waits for semaphore 20"))


def test_work_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmac.isa.verify.context.MAX_WORK", 1000)
    rejected(examples.network(), "the proofs up to here take too much work", ResourceError)


def test_steps_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmac.isa.verify.races.MAX_STEPS", 50)
    rejected(examples.network(), "loops up to here take too many steps", ResourceError)


def test_many_different_slots_do_not_take_forever() -> None:
    """Straight-line code that keeps the state growing is stopped, or done, in bounded time."""
    lines = [f"pointer p=p1 pad=act addr={8 * i}\nload t=t0 p=p1\n" for i in range(1500)]
    source = _straight("".join(lines))
    start = time.process_time()
    rejected(source, "pieces of the ACT scratchpad in use", ResourceError)
    assert time.process_time() - start < 10


def test_a_view_that_touches_the_same_bytes_again_and_again() -> None:
    shape = "shape t=t0 n=4096 h=4096 w=4096 c=4096\nstride t=t0 n=1 h=1 w=1 c=1\n"
    walks = "".join(f"walk t=t0 dim={d} origin=0 extent=8 step=8 loop=d{i}\n" for i, d in enumerate("nhwc"))
    load = f"{shape}{walks}loop 512\nloop 512\nloop 64\nloop 4\nload t=t0 p=p0\nend\nend\nend\nend\n"
    source = _straight(load).change(dram_bytes=1 << 20, image=np.zeros(1 << 10, np.uint8))
    rejected(source, "the proofs up to here take too much work", ResourceError)


def test_a_loop_nest_that_never_ends() -> None:
    loops = "loop 16777215\n" * 8, "end\n" * 8
    rejected(_straight(f"{loops[0]}load t=t0 p=p0\n{loops[1]}"), "instructions are executed up to here", ResourceError)


def _straight(text: str) -> Source:
    """Some code after the registers of a load are set."""
    builder = Builder()
    x = builder.input("x", (1, 1, 1, 8))
    builder.output(x)
    source = builder.source()
    registers = (
        f"tensor t=t0 base={x.base} elem=1 fill=0\nshape t=t0 n=1 h=1 w=1 c=8\n"
        "stride t=t0 n=8 h=8 w=8 c=1\npointer p=p0 pad=act addr=0\n"
    )
    return dataclasses.replace(source, text=f"{registers}{text}halt\n")
