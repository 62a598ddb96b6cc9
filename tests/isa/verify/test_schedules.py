"""What the verifier accepts gives the same result in whatever order the queues go on."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from mmac.isa.errors import MmacError
from mmac.isa.plan import Level
from mmac.isa.verify import verify
from tests.isa.build import Builder
from tests.isa.source import Source
from tests.isa.verify.execution import COMPUTE_FIRST, EAGER, LAZY, WEIGHTS_FIRST, WEIGHTS_LAST, at_random, run

SCHEDULES = [EAGER, COMPUTE_FIRST, WEIGHTS_FIRST, WEIGHTS_LAST, *map(at_random, range(4))]


def small(weights_outer: bool, reduction: int | None) -> Source:
    """A convolution and a table, with few but several tiles in each direction."""
    builder = Builder(levels=(Level(4, 1), Level(12, 2)), image_bytes=1 << 14)
    x = builder.input("x", (1, 3, 4, 32))
    y, z = (builder.tensor(name, (1, 3, 4, 6)) for name in "yz")
    builder.array(x, y, tile=(1, 1, 2, 4), reduction=reduction, weights_outer=weights_outer)
    builder.lookup(y, z, (1, 1, 4, 6))
    builder.output(z)
    return builder.source()


def vector() -> Source:
    """A sum, a pooling and a padding move."""
    builder = Builder(levels=(Level(4, 1),), image_bytes=1 << 10)
    a, b = builder.input("a", (1, 6, 4, 4)), builder.input("b", (1, 6, 4, 4))
    y, z = builder.tensor("y", a.shape), builder.tensor("z", (1, 3, 2, 4))
    builder.add(a, b, y, (1, 2, 2, 4))
    builder.pool("vavg", y, z, (1, 1, 2, 4))
    wide = builder.tensor("wide", (1, 5, 4, 4), a.base)
    builder.move(z, wide, (1, 1, 4, 4), (0, -1, -1, 0))
    builder.output(wide)
    return builder.source()


def in_place() -> Source:
    """Results that take the place of an operand, box by box: a table, a sum, and a product of the array."""
    builder = Builder(levels=(Level(4, 1),), image_bytes=1 << 12)
    x, b = builder.input("x", (1, 4, 4, 16)), builder.input("b", (1, 4, 1, 16))
    builder.lookup(x, x, (1, 1, 4, 16))
    builder.add(x, b, x, (1, 2, 2, 16))
    builder.array(x, x, tile=(1, 1, 2, 16))
    builder.output(x)
    return builder.source()


PROGRAMS: dict[str, Callable[[], Source]] = {
    "weights outer": lambda: small(True, None),
    "pixels outer": lambda: small(False, None),
    "reduction": lambda: small(True, 16),
    "vector": vector,
    "in place": in_place,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_valid_programs(name: str) -> None:
    program = PROGRAMS[name]().program()
    verify(program)
    for level in range(len(program.plan.levels)):
        expected = run(program, level, LAZY)
        for choose in SCHEDULES:
            np.testing.assert_array_equal(run(program, level, choose), expected)


@pytest.mark.parametrize("name", PROGRAMS)
def test_changed_programs(name: str) -> None:
    """Tokens dropped and moved, slots and queues changed, lines exchanged: accepted or not, never a race."""
    source = PROGRAMS[name]()
    rng = np.random.default_rng(1)
    accepted = refused = 0
    while refused < 60:
        changed = source
        for _ in range(rng.integers(1, 4)):
            changed = _change(changed, rng)
        try:
            program = changed.program()
            verify(program)
        except MmacError:
            refused += 1
            continue
        accepted += 1
        expected = run(program, len(program.plan.levels) - 1, LAZY)
        for choose in SCHEDULES[: 4 + accepted % 5]:
            np.testing.assert_array_equal(run(program, len(program.plan.levels) - 1, choose), expected, changed.text)
    assert accepted >= 5


def _change(source: Source, rng: np.random.Generator) -> Source:
    """A random change to tokens, slots, order or queues."""
    lines = source.text.splitlines(keepends=True)
    kind = rng.integers(5)
    if kind == 0:  # a semaphore on both ends
        semaphore = rng.choice(sorted(set(re.findall(r"(?<=signal=)\d+", source.text))))
        lines = [re.sub(rf"((?:wait|signal)=(?:\w+,)?){semaphore}(?!\d)", r"\1none", line) for line in lines]
    elif kind == 1:  # slots
        at = rng.choice([i for i, line in enumerate(lines) if line.startswith("pointer")])
        lines[at] = re.sub(r"mask=\d+ phase=\d", f"mask={rng.integers(4)} phase={rng.integers(2)}", lines[at])
    elif kind == 2:  # order
        at = rng.choice([i for i, line in enumerate(lines[:-1]) if _moves(line) and _moves(lines[i + 1])])
        lines[at], lines[at + 1] = lines[at + 1], lines[at]
    elif kind == 3:  # the queue of a load, with or without the waits at the end
        at = rng.choice([i for i, line in enumerate(lines) if re.match(r"load(\.params)? ", line)])
        lines[at] = _exchanged(lines[at], "load ", "load.params ")
        if waited := re.search(r"wait=(\d+)", lines[at]):
            lines = [
                _exchanged(line, "sync.load ", "sync.weights ") if line.endswith(f"wait={','.join([waited[1]] * 2)}\n")
                else line for line in lines
            ]  # fmt: skip
    else:  # a wait of one instruction, and a signal of another
        for part in ("wait", "signal"):
            at = rng.choice([i for i, line in enumerate(lines) if f"{part}=" in line])
            lines[at] = re.sub(rf" {part}=\S+", "", lines[at])
    return Source("".join(lines), source.rest)


def _exchanged(line: str, one: str, other: str) -> str:
    """A line that begins with one of two words, with the other."""
    return re.sub(f"^({re.escape(one)}|{re.escape(other)})", lambda found: other if found[1] == one else one, line)


def _moves(line: str) -> bool:
    return line.split(" ")[0].split(".")[0] in ("load", "store", "sync", "mmac", "vadd", "vavg", "vtable")
