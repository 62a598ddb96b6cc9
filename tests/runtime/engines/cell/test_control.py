"""The sequencer's decisions, and how they hop over the block."""

from __future__ import annotations

from mmac.runtime.engines.cell.control import Control, Sequencer, Timing, Token


def tokens(timing: Timing, cycles: int) -> list[Token]:
    sequencer = Sequencer(timing)
    return [sequencer.next() for _ in range(cycles)]


def starts(issued: list[Token]) -> list[int]:
    """Cycles in which a beat starts."""
    return [cycle for cycle, token in enumerate(issued) if token.step == 0]


def test_beats_follow_each_other_once_the_weights_are_there() -> None:
    issued = tokens(Timing(passes=1, beats=3, beat_cycles=4, load_cycles=5, encode_cycles=2), 30)
    assert [token.word for token in issued[:7]] == [0, 1, 2, 3, 4, -1, -1]
    assert starts(issued) == [5, 9, 13]
    assert [token.step for token in issued[5:13]] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert [(cycle, token.ended) for cycle, token in enumerate(issued) if token.ended != -1] == [
        (9, 0),
        (13, 1),
        (17, 2),
    ]
    assert issued[18:] == [Token()] * 12


def test_weights_of_the_next_pass_move_during_a_pass() -> None:
    issued = tokens(Timing(passes=3, beats=2, beat_cycles=4, load_cycles=5, encode_cycles=0), 40)
    assert starts(issued) == [5, 9, 13, 17, 21, 25]
    words = [(cycle, token.word) for cycle, token in enumerate(issued) if token.word != -1]
    assert words == [*zip(range(10), range(10), strict=True), *zip(range(13, 18), range(10, 15), strict=True)]


def test_a_pass_waits_for_its_weights() -> None:
    assert starts(tokens(Timing(passes=3, beats=1, beat_cycles=2, load_cycles=5, encode_cycles=0), 40)) == [5, 10, 15]


def test_the_first_beat_waits_for_its_data_terms() -> None:
    """The next pass's weights do not move before the first has begun."""
    issued = tokens(Timing(passes=2, beats=1, beat_cycles=9, load_cycles=3, encode_cycles=7), 40)
    assert starts(issued) == [7, 16]
    assert [cycle for cycle, token in enumerate(issued) if token.word == 3] == [7]


def test_words_move_as_they_are_ranked() -> None:
    """Three words of a pass whose weights are ranked in seven cycles; those of the next one during its beats."""
    issued = tokens(Timing(passes=3, beats=2, beat_cycles=4, load_cycles=3, encode_cycles=0, rank_cycles=7), 40)
    words = [(cycle, token.word) for cycle, token in enumerate(issued) if token.word != -1]
    assert words == [(2, 0), (4, 1), (6, 2), (9, 3), (11, 4), (13, 5), (17, 6), (19, 7), (21, 8)]
    assert starts(issued) == [7, 11, 15, 19, 23, 27]


def test_a_pass_waits_for_the_rankers() -> None:
    slow = Timing(passes=3, beats=1, beat_cycles=2, load_cycles=3, encode_cycles=0, rank_cycles=7)
    assert starts(tokens(slow, 40)) == [7, 14, 21]
    fast = Timing(passes=3, beats=1, beat_cycles=2, load_cycles=5, encode_cycles=0, rank_cycles=4)
    assert starts(tokens(fast, 40)) == [5, 10, 15]
    nothing = Timing(passes=2, beats=1, beat_cycles=2, load_cycles=0, encode_cycles=0, rank_cycles=4)
    assert starts(tokens(nothing, 20)) == [4, 8]


def test_nothing_to_load() -> None:
    issued = tokens(Timing(passes=2, beats=1, beat_cycles=2, load_cycles=0, encode_cycles=0), 10)
    assert starts(issued) == [0, 2]
    assert {token.word for token in issued} == {-1}


def test_tokens_hop_right_and_down() -> None:
    control = Control(rows=3, columns=4, delay=2)
    for cycle in range(12):
        control.hop(Token(cycle, 2 * cycle, 3 * cycle, 4 * cycle))
        for column in range(4):
            age = cycle - column - 1
            assert control.word[column] == (4 * age if age >= 0 else -1)
            for row in range(3):
                age = cycle - row - column - 1
                found = [register[row, column] for register in (control.step, control.beat, control.ended)]
                assert found == ([age, 2 * age, 3 * age] if age >= 0 else [-1] * 3)
