import pytest

from mmac.isa.errors import UsageError
from mmac.isa.plan import FULL, PAPER_LEVELS, LayerPlan, Level, Plan, parse_level, parse_levels


def test_the_papers_levels() -> None:
    assert [level.gamma for level in PAPER_LEVELS] == [16, 20, 24, 28, 42, 48, 54, 60]
    assert parse_levels("paper") == PAPER_LEVELS


@pytest.mark.parametrize("level", [*PAPER_LEVELS, FULL, Level(1, 1), Level(64, 4)])
def test_levels_read_back(level: Level) -> None:
    assert parse_level(str(level)) == level


@pytest.mark.parametrize(
    ("text", "level"), [(" 8x2 ", Level(8, 2)), ("8X2", Level(8, 2)), ("8×2", Level(8, 2)), ("full", FULL)]
)
def test_ways_to_write_a_level(text: str, level: Level) -> None:
    assert parse_level(text) == level


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "level '': not a level; ALPHAxBETA such as 8x2, or full"),
        ("8", "level '8': not a level"),
        ("8x2x1", "not a level"),
        ("-8x2", "not a level"),
        ("0x2", "level '0x2': out of range; alpha 1…64, beta 1…5"),
        ("65x2", "out of range"),
        ("8x0", "out of range"),
        ("8x6", "out of range"),
    ],
)
def test_wrong_levels(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_level(text)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_lists_of_levels() -> None:
    assert parse_levels("8x2, 8x3,full") == (Level(8, 2), Level(8, 3), FULL)
    assert len(parse_levels(",".join(f"{a}x1" for a in range(1, 17)))) == 16


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8x2,8x2", "8x2 is followed by 8x2"),
        ("10x2,8x3", "10x2 is followed by 8x3; alpha and beta must not fall"),
        ("8x3,10x2", "8x3 is followed by 10x2"),
        ("full,8x2", "full is followed by 8x2"),
        ("8x2,", "level '': not a level"),
        (",".join(f"{a}x1" for a in range(1, 18)), "17 levels; at most 16"),
    ],
)
def test_wrong_lists(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_levels(text)
    assert message in str(caught.value)


PLAN = Plan((Level(8, 2), Level(20, 3), FULL), (LayerPlan("a", (FULL,) * 3),))


@pytest.mark.parametrize(("text", "index"), [("0", 0), ("2", 2), ("8x2", 0), ("20X3", 1), ("full", 2)])
def test_naming_a_level_of_a_plan(text: str, index: int) -> None:
    assert PLAN.index(text) == index


@pytest.mark.parametrize("text", ["3", "-1", "9x2", "99999999", "best"])
def test_naming_a_level_that_a_plan_does_not_have(text: str) -> None:
    with pytest.raises(UsageError, match=r"not in this program; 0 \(8x2\), 1 \(20x3\), 2 \(full\)|not a level"):
        PLAN.index(text)


def test_full_counts_only_if_it_is_alone() -> None:
    levels = (Level(8, 2), Level(20, 3), FULL)
    plan = Plan(levels, (LayerPlan("a", levels), LayerPlan("kept", (Level(30, 4),) * 3)))
    assert plan.usual(0) == levels[:2]
    assert plan.usual(1) == (Level(30, 4),) * 2
    assert Plan((FULL,), (LayerPlan("a", (Level(30, 4),)),)).usual(0) == (Level(30, 4),)
