from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.isa import codec, table
from mmac.isa.errors import MalformedError
from mmac.isa.spec import BY_OPCODE, Bits, Instr
from tests.isa import samples


@given(st.lists(samples.instructions(), max_size=5))
def test_round_trip(code: list[Instr]) -> None:
    words = codec.encode(code)
    assert words.shape == (len(code), 16)
    assert words.dtype == np.uint8
    assert codec.decode(words) == tuple(code)


@pytest.mark.parametrize("cls", BY_OPCODE.values(), ids=lambda cls: cls.mnemonic)
@pytest.mark.parametrize("end", ["minimum", "maximum"])
def test_extremes_of_every_field(cls: type[Instr], end: str) -> None:
    def extreme(bits: Bits) -> int:
        choices = sorted(bits.choices or ())
        return (choices[0] if end == "minimum" else choices[-1]) if choices else getattr(bits, end)

    instr = cls(**{name: extreme(bits) for name, bits in cls.layout.items()})
    (again,) = codec.decode(codec.encode([instr]))
    assert again == instr
    assert type(again) is cls


def test_bits_lie_where_the_table_says() -> None:
    word = codec.encode_word(table.Walk(t=5, dim=table.Dim.C, origin=-1, extent=7, step=-2, loop=3))
    assert word == 0x0B | 5 << 8 | 3 << 12 | 0xFFFFFF << 14 | 7 << 38 | 0xFFFFFE << 62 | 3 << 86
    mmac = table.Mmac(x=0, y=0, act=0, wgt=0, acc=0, layer=0, multipliers=0x8001)
    assert codec.encode_word(mmac) >> 86 & 0x1FFFF == 0x8001
    assert [mmac.unit(level).value for level in range(16)] == [1, *[0] * 14, 1]
    assert codec.encode([table.Loop(count=0x010203)])[0, :5].tolist() == [1, 3, 2, 1, 0]


@given(
    st.integers(0, 2**128 - 1)
    | st.builds(lambda w, o: w << 8 | o, st.integers(0, 2**40), st.sampled_from(list(BY_OPCODE)))
)
def test_any_word_is_an_instruction_or_a_typed_error(word: int) -> None:
    try:
        instr = codec.decode_word(word)
    except MalformedError:
        return
    assert codec.encode_word(instr) == word


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (0xEE, r"instruction 1: opcode 0xee; 0x01, 0x02"),
        (0x02 | 1 << 127, r"instruction 1 \(end\): reserved bit 127 is set; 0 in reserved bits"),
        (0x0C | 6 << 12, r"instruction 1 \(pointer\): pad = 6; 0 \(act\), 1 \(aux\)"),
        (0x20 | 3 << 44, r"instruction 1 \(mmac\): format = 3; 0 \(plain\), 1 \(raw\)"),
        (0x20 | 1 << 102, r"instruction 1 \(mmac\): reserved bit 102 is set"),
    ],
)
def test_errors_name_the_instruction(word: int, message: str) -> None:
    words = np.concatenate([codec.encode([table.Halt()]), np.frombuffer(word.to_bytes(16, "little"), np.uint8)[None]])
    with pytest.raises(MalformedError, match=message):
        codec.decode(words)


@pytest.mark.parametrize("words", [np.zeros(15, np.uint8), np.zeros((1, 16), np.int32)])
def test_what_is_not_words_is_refused(words: npt.NDArray[Any]) -> None:
    with pytest.raises(MalformedError, match="words of 16 bytes"):
        codec.decode(words)
