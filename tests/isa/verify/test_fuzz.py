"""Damaged programs: typed errors only, or a program that runs; in bounded time either way."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable

import numpy as np
import pytest

from mmac.isa import codec, records
from mmac.isa.errors import MmacError
from mmac.isa.plan import Level
from mmac.isa.program import Program
from mmac.isa.table import TermFormat
from mmac.isa.verify import verify
from mmac.isa.verify.context import Context
from tests.isa.build import Builder
from tests.isa.verify.execution import LAZY, at_random, run

LEVELS = (Level(4, 1), Level(12, 2))

Damage = Callable[[Program, np.random.Generator], Program]


@functools.cache
def small() -> Program:
    """Something of everything that can be damaged, in few bytes."""
    builder = Builder(levels=LEVELS, image_bytes=1 << 12)
    x = builder.input("x", (1, 3, 4, 4))
    y, z = (builder.tensor(name, (1, 3, 4, 6)) for name in "yz")
    builder.array(x, y, kernel=3, tile=(1, 2, 4, 4), per_level=True)
    pooled = builder.tensor("pooled", (1, 2, 2, 6))
    builder.add(y, y, z, (1, 2, 4, 3))
    builder.lookup(z, z, (1, 1, 4, 6))
    builder.add(z, y, z, (1, 3, 2, 6))
    builder.array(z, z, tile=(1, 1, 4, 6))
    builder.pool("vavg", z, pooled, (1, 1, 2, 6))
    out = builder.tensor("out", (1, 2, 2, 2))
    builder.array(pooled, out, tile=(1, 2, 2, 2), kind=TermFormat.RAW, weights_outer=False)
    builder.output(out)
    return builder.source().program()


def _byte(data: bytes, rng: np.random.Generator) -> bytes:
    """One byte changed: a bit flipped, or anything."""
    at = int(rng.integers(len(data)))
    value = data[at] ^ (1 << int(rng.integers(8))) if rng.random() < 0.5 else int(rng.integers(256))
    return data[:at] + bytes([value]) + data[at + 1 :]


def code(program: Program, rng: np.random.Generator) -> Program:
    words = codec.encode(program.code)
    damaged = np.frombuffer(_byte(words.tobytes(), rng), np.uint8).reshape(words.shape)
    return dataclasses.replace(program, code=codec.decode(damaged))


def fields(program: Program, rng: np.random.Generator) -> Program:
    """Whole fields of one or two instructions: off by one, at an end of their range, or as in a similar instruction."""
    changed = list(program.code)
    for _ in range(rng.integers(1, 3)):
        at = int(rng.choice([i for i, instr in enumerate(changed) if instr.layout]))
        name, bits = list(changed[at].layout.items())[int(rng.integers(len(changed[at].layout)))]
        alike = [getattr(other, name) for other in program.code if type(other) is type(changed[at])]
        value = int(getattr(changed[at], name))
        options = [value - 1, value + 1, bits.minimum, bits.maximum, *alike]
        allowed = [v for v in options if bits.minimum <= v <= bits.maximum and (not bits.choices or v in bits.values)]
        changed[at] = dataclasses.replace(changed[at], **{name: int(rng.choice(allowed))})
    return dataclasses.replace(program, code=tuple(changed))


def order(program: Program, rng: np.random.Generator) -> Program:
    """An instruction moved a few places, said twice, or left out."""
    changed = list(program.code)
    at = int(rng.integers(len(changed)))
    kind = rng.integers(3)
    instr = changed[at] if kind == 1 else changed.pop(at)
    if kind < 2:
        changed.insert(max(0, at + int(rng.integers(-6, 7))), instr)
    return dataclasses.replace(program, code=tuple(changed))


def image(program: Program, rng: np.random.Generator) -> Program:
    """Term streams, directories, constants: the parts of the image that are used."""
    used = int(np.flatnonzero(program.image)[-1]) + 1
    data = _byte(program.image[:used].tobytes(), rng) + program.image[used:].tobytes()
    return dataclasses.replace(program, image=np.frombuffer(data, np.uint8))


def metadata(program: Program, rng: np.random.Generator) -> Program:
    bulk = {name: getattr(program, name) for name in ("code", "image", "host")}
    text = records.dumps(records.to_json(program, skip=bulk))
    damaged = _byte(text.encode(), rng).decode("latin-1")
    return records.from_json(Program, records.loads(damaged, "program"), "program", **bulk)


def several(program: Program, rng: np.random.Generator) -> Program:
    """Two or three bytes of code, so that one damage can hide another."""
    for _ in range(rng.integers(2, 4)):
        program = code(program, rng)
    return program


@pytest.mark.parametrize(
    ("damage", "count"), [(code, 300), (fields, 300), (order, 150), (image, 100), (metadata, 300), (several, 300)]
)
def test_damaged_programs(damage: Damage, count: int) -> None:
    rng = np.random.default_rng(2)
    verify(small())
    passed = 0
    for number in range(count):
        start = time.process_time()
        try:
            program = damage(small(), rng)
            verify(program)
        except MmacError:
            pass
        else:
            passed += 1
            _execute(program, number)
        assert time.process_time() - start < 20
    assert 0 < passed < count


def _execute(program: Program, seed: int) -> None:
    """It runs at each level, and as well in another order, unless it takes too long."""
    if sum(math.prod(site.counts) for site in Context(program).sites) > 2000:
        return
    for level in range(len(program.plan.levels)):
        expected = run(program, level, LAZY, seed)
        if seed % 4 == 0:
            np.testing.assert_array_equal(run(program, level, at_random(seed), seed), expected)
