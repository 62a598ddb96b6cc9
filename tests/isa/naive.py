"""Slow definitions straight from design.md §2, in plain Python: what the vectorised code is held against."""

from collections.abc import Sequence


def naf(value: int) -> list[tuple[int, int]]:
    """(exponent, sign) of the non-adjacent form, largest exponent first."""
    terms = []
    exponent = 0
    while value:
        if value % 2:
            digit = 2 - value % 4
            terms.append((exponent, digit))
            value -= digit
        value //= 2
        exponent += 1
    return terms[::-1]


def ranked(group: Sequence[int]) -> list[tuple[int, int, int]]:
    """(exponent, index, sign) of all terms of a group: larger exponent first, ties to the lower index."""
    terms = [(exponent, index, sign) for index, value in enumerate(group) for exponent, sign in naf(int(value))]
    return sorted(terms, key=lambda term: (-term[0], term[1]))


def truncated(row: Sequence[int], alpha: int, group_size: int = 16) -> list[int]:
    """A reduction axis with the `alpha` largest terms of each of its groups."""
    out: list[int] = []
    for start in range(0, len(row), group_size):
        group = row[start : start + group_size]
        values = [0] * len(group)
        for exponent, index, sign in ranked(group)[:alpha]:
            values[index] += sign * 2**exponent
        out += values
    return out
