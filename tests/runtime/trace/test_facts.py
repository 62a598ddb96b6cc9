"""How parts of an `mmac` are dealt to blocks, against dealing them one by one."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from mmac.runtime.timing.formulas import ArrayWork
from mmac.runtime.trace import trace
from mmac.runtime.trace.facts import parts_per_block
from tests.runtime.trace.documents import TARGET, counters, layers, slices, value_at


def dealt(blocks: int, work: ArrayWork) -> list[int]:
    """The parts of each block, one by one, as docs/hardware.md says."""
    found = [0] * blocks
    s = min(work.split_n, work.conv_groups)
    q = work.split_n // s
    sizes = [-(-work.m // work.split_m), -(-work.conv_groups // s), -(-work.n // q), -(-work.g // work.split_k)]
    for pm, ps, pq, pk in product(range(work.split_m), range(s), range(q), range(work.split_k)):
        wholes = work.m, work.conv_groups, work.n, int(work.g)
        empty = any(part * size >= whole for part, size, whole in zip((pm, ps, pq, pk), sizes, wholes, strict=True))
        if not empty:
            output, at_once = pm * work.split_n + ps * q + pq, max(1, blocks // work.split_k)
            found[(output % at_once * work.split_k + pk) % blocks] += 1
    return found


@given(
    blocks=st.integers(1, 20),
    sizes=st.tuples(st.integers(1, 30), st.integers(1, 20), st.integers(1, 200), st.integers(1, 9)),
    split=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
)
def test_parts_per_block(blocks: int, sizes: tuple[int, ...], split: tuple[int, ...]) -> None:
    work = ArrayWork(*sizes, *split)
    assert parts_per_block(blocks, work).tolist() == dealt(blocks, work)


def test_nothing_to_do_is_no_part() -> None:
    assert not parts_per_block(8, ArrayWork(0, 4, 16)).any()
    assert not parts_per_block(8, ArrayWork(4, 0, 16)).any()


def test_tracks_of_blocks_are_all_blocks() -> None:
    document = trace(layers(), level=3)
    groups = slices(document)
    members: dict[str, list[int]] = {}
    for name in groups["blocks of the array"]:
        ranges = [part.split("-") for part in name.removeprefix("block").removeprefix("s").strip().split(", ")]
        members[name] = [block for ends in ranges for block in range(int(ends[0]), int(ends[-1]) + 1)]
    assert len(members) > 2
    assert len({block for own in members.values() for block in own}) == sum(map(len, members.values()))
    in_use = counters(document)[f"array blocks of {TARGET.array.blocks}"]
    for record in groups["units"]["array"]:
        at = [len(members[name]) for name, own in groups["blocks of the array"].items()
              if any(r["ts"] == record["ts"] for r in own)]  # fmt: skip
        assert sum(at) == record["args"]["blocks"] == value_at(in_use, record["ts"])
