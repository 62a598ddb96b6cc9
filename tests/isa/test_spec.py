from collections.abc import Callable
from enum import IntEnum
from typing import Annotated, Any

import numpy as np
import pytest

from mmac.isa import spec, table
from mmac.isa.spec import Bits, Instr, Queue, instruction


@pytest.fixture(autouse=True)
def restore(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instructions that a test declares are gone after it."""
    monkeypatch.setattr(spec, "BY_OPCODE", dict(spec.BY_OPCODE))
    monkeypatch.setattr(spec, "BY_MNEMONIC", dict(spec.BY_MNEMONIC))


def declare(mnemonic: str = "test.a", opcode: int = 0xF0, **fields: Bits) -> Any:
    cls = type("Test", (Instr,), {"__annotations__": {name: Annotated[int, bits] for name, bits in fields.items()}})
    return instruction(mnemonic, opcode, Queue.LOAD)(cls)


def test_a_declaration_becomes_an_instruction() -> None:
    cls: Any = declare(a=Bits(15, 8), b=Bits(31, 16, signed=True))
    assert (cls.mnemonic, cls.opcode, cls.queue) == ("test.a", 0xF0, Queue.LOAD)
    assert list(cls.layout) == ["a", "b"]
    assert cls(a=255, b=-32768) == cls(a=255, b=-32768)
    assert spec.BY_OPCODE[0xF0] is spec.BY_MNEMONIC["test.a"] is cls


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"a": Bits(15, 8), "b": Bits(15, 15)}, "field b overlaps"),
        ({"a": Bits(8, 7)}, "field a overlaps"),
        ({"a": Bits(128, 120)}, "field a lies outside"),
        ({"a": Bits(8, 9)}, "field a lies outside"),
        ({"a": Bits(8, -1)}, "field a lies outside"),
        ({"opcode": 0x20}, "opcode 0x20 or mnemonic is taken"),
        ({"mnemonic": "mmac"}, "opcode 0xf0 or mnemonic is taken"),
        ({"opcode": 256}, "out of range"),
        ({"opcode": -1}, "out of range"),
    ],
)
def test_impossible_declarations_are_refused(fields: dict[str, Any], message: str) -> None:
    before = dict(spec.BY_OPCODE)
    with pytest.raises(TypeError, match=message):
        declare(**fields)
    assert before == spec.BY_OPCODE


def test_a_field_in_the_highest_bits_is_possible() -> None:
    assert declare(a=Bits(127, 8))(a=2**120 - 1).a == 2**120 - 1


@pytest.mark.parametrize(
    ("bits", "low", "high"), [(Bits(10, 8), 0, 7), (Bits(10, 8, signed=True), -4, 3), (Bits(8, 8), 0, 1)]
)
def test_values_out_of_range_are_refused(bits: Bits, low: int, high: int) -> None:
    cls = declare(a=bits)
    assert (cls(a=low).a, cls(a=high).a) == (low, high)
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError, match=rf"test.a: a = {value} is outside {low}…{high} \({bits.width} bits\)"):
            cls(a=value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: table.Pointer(p=0, pad=7, addr=0), r"pointer: pad = 7 is none of 0 \(act\), .*5 \(acc\)"),
        (
            lambda: table.Mmac(x=0, y=0, act=0, wgt=0, acc=0, layer=0, format=3),
            r"mmac: format = 3 is none of 0 \(plain\), 1 \(raw\), 2 \(coded\)",
        ),
    ],
)
def test_values_that_are_no_choice_are_refused(make: Callable[[], Instr], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_choices_may_be_given_as_numbers() -> None:
    assert table.Pointer(p=0, pad=5, addr=0) == table.Pointer(p=0, pad=table.Pad.ACC, addr=0)


def test_the_digest_covers_everything_that_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Choice(IntEnum):
        """A choice."""

        A = 0
        B = 1

    class Other(IntEnum):
        """Other names."""

        A = 0
        C = 1

    digests = {spec.table_digest()}
    variants = [Bits(9, 8), Bits(10, 9), Bits(9, 8, signed=True), Bits(9, 8, kind="token"), Bits(9, 8, choices=Choice),
                Bits(9, 8, choices=Other)]  # fmt: skip
    for bits in variants:
        monkeypatch.setattr(spec, "BY_OPCODE", {k: v for k, v in spec.BY_OPCODE.items() if k != 0xF0})
        monkeypatch.setattr(spec, "BY_MNEMONIC", {k: v for k, v in spec.BY_MNEMONIC.items() if k != "test.a"})
        declare(a=bits)
        digests.add(spec.table_digest())
    assert len(digests) == len(variants) + 1


@pytest.mark.parametrize("cls", spec.BY_OPCODE.values(), ids=lambda cls: cls.mnemonic)
def test_every_instruction_of_the_table_is_documented_and_fits(cls: type[Instr]) -> None:
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}(")
    assert cls.opcode == next(code for code, other in spec.BY_OPCODE.items() if other is cls)
    assert issubclass(cls, table.Queued) == (cls.queue != Queue.SEQUENCER)


def test_semaphores_of_a_queued_instruction() -> None:
    instr = table.SyncLoad(wait0=3, signal1=7)
    assert (instr.waits, instr.signals) == ((3,), (7,))


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, 1e-45, 3e38, float("inf")])
def test_float_bits(value: Any) -> None:
    assert spec.bits_float(spec.float_bits(value)) == np.float32(value)
    assert np.signbit(spec.bits_float(spec.float_bits(value))) == np.signbit(value)
