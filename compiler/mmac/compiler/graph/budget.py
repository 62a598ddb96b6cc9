"""Pass `budget`: every array layer gets its α and β at each level."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from mmac.compiler.graph.layers import ArrayLayer, array_layers, full_level
from mmac.compiler.passes import Pass
from mmac.isa.errors import UsageError
from mmac.isa.plan import MAX_ALPHA, MAX_BETA, PAPER_LEVELS, Level

ALPHA, BETA, LEVELS = "mmac.alpha", "mmac.beta", "mmac.levels"
"""Metadata keys: budgets of a node (one number per level), levels of the model."""

_LIMITS = {"alpha": MAX_ALPHA, "beta": MAX_BETA}


@dataclass(frozen=True)
class Budget(Pass[ir.Model, ir.Model]):
    """Attach the plan: ``mmac.alpha`` and ``mmac.beta`` on every array layer, ``mmac.levels`` on the model.

    Needs: a QDQ model.

    Guarantees: each array layer has as many budgets as the model has levels, not falling from one level to the
    next, and none above what the layer can use.  The first and the last array layers of a path keep all their
    terms unless they are told otherwise.  The results of the model do not change.

    Before: ``Conv "c1"``.  After: ``Conv "c1" {mmac.alpha: "8,10", mmac.beta: "2,2"}``, ``mmac.levels: "8x2,10x2"``.

    Args:
        levels: the levels of the program, lowest first; the default for each layer.
        budgets: for a layer name or glob, a table with ``alpha`` and ``beta`` (a number, or one per level) or
            ``keep = "all"``; later entries win.  It overrides what the nodes' metadata say.
    """

    name: ClassVar[str] = "budget"
    levels: Sequence[Level] = PAPER_LEVELS
    budgets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def apply(self, model: ir.Model, /) -> ir.Model:
        """The model with its plan.

        Raises:
            UsageError: a budget out of range, falling, of the wrong length, or for a layer that does not exist.
        """
        result = model.clone()
        layers = array_layers(result.graph)
        entries = self._entries([layer.name for layer in layers])
        for layer in layers:
            full = full_level(layer)
            alphas, betas = self._of_layer(layer, full, entries[layer.name])
            layer.node.metadata_props[ALPHA] = ",".join(str(min(a, full.alpha)) for a in alphas)
            layer.node.metadata_props[BETA] = ",".join(str(min(b, full.beta)) for b in betas)
        result.metadata_props[LEVELS] = ",".join(str(level) for level in self.levels)
        return result

    def _entries(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """Entry of the budget file for each layer: the keys of every pattern that fits, the last one winning."""
        merged: dict[str, dict[str, Any]] = {name: {} for name in names}
        for pattern, entry in self.budgets.items():
            where = f"budget of {pattern!r}"
            fitting = [pattern] if pattern in merged else fnmatch.filter(names, pattern)
            if not fitting:
                close = difflib.get_close_matches(pattern, names, 3, 0)
                raise UsageError(where, "no array layer has such a name", f"such as {', '.join(close) or 'none'}")
            if not isinstance(entry, Mapping) or set(entry) - {"alpha", "beta", "keep"} or not entry:
                raise UsageError(where, f"{entry!r}", "a table with alpha, beta or keep")
            if entry.get("keep", "all") != "all":
                raise UsageError(where, f"keep = {entry['keep']!r}", 'keep = "all"')
            for name in fitting:
                merged[name].update(entry)
        return merged

    def _of_layer(self, layer: ArrayLayer, full: Level, entry: dict[str, Any]) -> tuple[list[int], list[int]]:
        count = len(self.levels)
        chosen = {
            "alpha": [level.alpha for level in self.levels],
            "beta": [level.beta for level in self.levels],
        }
        told = False
        for key, metadata in (("alpha", ALPHA), ("beta", BETA)):
            if text := layer.node.metadata_props.get(metadata):
                chosen[key], told = self._numbers(layer, key, text.split(",")), True
            if key in entry:
                chosen[key], told = self._numbers(layer, key, entry[key]), True
        if entry.get("keep") == "all" or (layer.at_edge and not told):
            return [full.alpha] * count, [full.beta] * count
        return chosen["alpha"], chosen["beta"]

    def _numbers(self, layer: ArrayLayer, key: str, given: object) -> list[int]:
        """One number per level out of what a user wrote.

        Raises:
            UsageError: names layer, value and range.
        """
        where = f"layer {layer.name!r}"
        items = (
            list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given] * len(self.levels)
        )
        try:
            numbers = [int(str(item).strip()) for item in items]
        except ValueError as error:
            raise UsageError(where, f"{key} = {given!r}", "whole numbers") from error
        if len(numbers) != len(self.levels):
            raise UsageError(where, f"{len(numbers)} values of {key}", f"one for each of the {len(self.levels)} levels")
        for number in numbers:
            if not 1 <= number <= _LIMITS[key]:
                raise UsageError(where, f"{key} = {number}", f"1…{_LIMITS[key]}")
        if (np.diff(numbers) < 0).any():
            raise UsageError(where, f"{key} = {numbers}", f"{key} that does not fall from one level to the next")
        return numbers
