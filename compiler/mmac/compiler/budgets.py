"""What a user may say about budgets: one table for each layer, checked key by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmac.isa.errors import MalformedError
from mmac.isa.plan import MAX_ALPHA, MAX_BETA, Level

Budgets = Mapping[str, Mapping[str, Any]]
"""For each layer name, glob or position a table of budgets; `docs/budgets.md` describes it."""

LIMITS = {"alpha": MAX_ALPHA, "beta": MAX_BETA}

ALPHA_KEYS = ("alpha", "alpha_of_channels", "alpha_of_groups", "spend")
"""Keys that say how α is given; `spend` needs `alpha`, the others are alternatives."""

_KEYS = (*ALPHA_KEYS, "beta", "keep")

_WORDS = {"keep": "all", "spend": "largest"}

_DEPTHS = {"alpha_of_channels": 1, "alpha_of_groups": 2}
"""Axes of what is given below the layer: [channels], [channels, groups]; one more if it differs by level."""


def check_budgets(document: object, where: str, levels: Sequence[Level] | None = None) -> None:
    """Check everything that can be told without the model.

    Args:
        document: what a budget file holds.
        where: what to call it in errors.
        levels: levels of the program, which lists must have as many numbers as; None for any.

    Raises:
        MalformedError: names layer, key, level, value and range.
    """
    if not isinstance(document, Mapping):
        raise MalformedError(where, f"a {type(document).__name__}", "one table per layer name, glob or position")
    for name, entry in document.items():
        _check_entry(f"{where}: {name}", name, entry, levels)


def _check_entry(where: str, name: str, entry: object, levels: Sequence[Level] | None) -> None:
    known, hint = "a table with " + ", ".join(_KEYS), f'such as ["{name}"] alpha = 12'
    if not isinstance(entry, Mapping) or not entry:
        raise MalformedError(where, _shown(entry), known, hint)
    if unknown := sorted(map(str, entry.keys() - set(_KEYS))):
        raise MalformedError(where, f"the key {unknown[0]!r}", known, hint)
    for key, word in _WORDS.items():
        if entry.get(key, word) != word:
            raise MalformedError(f"{where}: {key}", f"{entry[key]!r}", f'{key} = "{word}"')
    if "spend" in entry and "alpha" not in entry:
        raise MalformedError(f"{where}: spend", "no alpha beside it", "alpha, the terms per group to spend on average")
    if "keep" in entry and "beta" in entry and any(key in entry for key in ALPHA_KEYS):
        raise MalformedError(
            f"{where}: keep", "given beside alpha and beta", "keep alone, or beside one of them for the other one"
        )
    ways = [key for key in ALPHA_KEYS if key in entry and key != "spend"]
    if len(ways) > 1:
        raise MalformedError(where, " and ".join(ways), "one of them")
    for key in LIMITS:
        if key in entry:
            numbers_of_levels(f"{where}: {key}", key, entry[key], levels)
    for key, depth in _DEPTHS.items():
        array = _whole_numbers(entry.get(key))
        if array is not None and array.ndim in (depth, depth + 1):  # other shapes are refused with that of the layer
            _below_layer(f"{where}: {key}", depth, array, levels)


def numbers_of_levels(where: str, key: str, given: object, levels: Sequence[Level] | None) -> list[int]:
    """The budgets of a layer, one for each level, out of one number or a list.

    Raises:
        MalformedError: see `check_budgets`.
    """
    if not isinstance(given, list | tuple):
        _check_number(where, given, LIMITS[key])
        return [given] * (1 if levels is None else len(levels))  # type: ignore[list-item]  # it has been checked
    if not given or (levels is not None and len(given) != len(levels)):
        raise MalformedError(where, f"{len(given)} numbers", f"one for each of the {_count(levels)} levels")
    for number, value in enumerate(given):
        _check_number(_at(where, number, levels), value, LIMITS[key])
    _check_rising(where, np.array(given), levels)
    return list(given)


def below_layer(
    where: str, key: str, given: object, levels: Sequence[Level] | None, shape: tuple[int, int]
) -> np.ndarray[Any, Any]:
    """α below the layer: int64 [1 or levels, channels (, groups)]; `shape` is channels × groups of the layer.

    Raises:
        MalformedError: see `check_budgets`; another shape.
    """
    depth = _DEPTHS[key]
    array = _whole_numbers(given)
    if array is None or array.ndim not in (depth, depth + 1) or array.shape[-depth:] != shape[:depth]:
        found = _shown(given) if array is None or not array.ndim else f"{' × '.join(map(str, array.shape))} numbers"
        allowed = " × ".join(map(str, shape[:depth])) + f" numbers, {_EACH[depth]}"
        raise MalformedError(where, found, f"{allowed}; or that for each level")
    return _below_layer(where, depth, array, levels)


def _below_layer(
    where: str, depth: int, array: np.ndarray[Any, Any], levels: Sequence[Level] | None
) -> np.ndarray[Any, Any]:
    """`below_layer` for an array that may have any number of channels and groups."""
    if array.ndim == depth:
        array = array[None]
    elif levels is not None and len(array) != len(levels):
        raise MalformedError(where, f"{len(array)} lists", f"one for each of the {len(levels)} levels")
    for number, own in enumerate(array):
        for extreme in (int(own.min()), int(own.max())):
            _check_number(_at(where, number, levels), extreme, MAX_ALPHA)
    _check_rising(where, array, levels)
    return array


_EACH = {1: "one for each output channel", 2: "one for each group of 16 weights of each output channel"}


def _whole_numbers(given: object) -> np.ndarray[Any, Any] | None:
    """An array of int64; None for what is none, such as lists of different lengths."""
    try:
        array = np.array(given, object)
        if not array.size or not all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in array.flat):
            return None
        return array.astype(np.int64)
    except (ValueError, OverflowError):
        return None


def _check_number(where: str, number: object, limit: int) -> None:
    if type(number) is not int or not 1 <= number <= limit:
        raise MalformedError(where, _shown(number), f"whole numbers in 1…{limit}")


def _check_rising(where: str, array: np.ndarray[Any, Any], levels: Sequence[Level] | None) -> None:
    falls = np.argwhere(np.diff(array, axis=0) < 0)
    if len(falls):
        level, *place = falls[0].tolist()
        low, high = array[(level, *place)], array[(level + 1, *place)]
        raise MalformedError(_at(where, level + 1, levels), f"{high} after {low}", "a budget that does not fall")


def _at(where: str, number: int, levels: Sequence[Level] | None) -> str:
    return f"{where} at level {number if levels is None or number >= len(levels) else levels[number]}"


def _count(levels: Sequence[Level] | None) -> str:
    return "" if levels is None else str(len(levels))


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= 60 else text[:57] + "…"
