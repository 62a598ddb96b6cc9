"""Pass `budget`: every array layer gets its α and β at each level."""

from __future__ import annotations

import difflib
import fnmatch
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from mmac.compiler import budgets as user
from mmac.compiler.graph import level_constants
from mmac.compiler.graph.group_budgets import GROUPS, Limits, limits_of, limits_text, spend_on_largest
from mmac.compiler.graph.layers import ArrayLayer, array_layers, full_beta, weight_rows, weight_scale
from mmac.compiler.passes import Pass
from mmac.isa.errors import MalformedError, MmacWarning, UsageError
from mmac.isa.plan import PAPER_LEVELS, Level, parse_levels
from mmac.isa.terms import group_term_count

ALPHA, BETA, LEVELS = "mmac.alpha", "mmac.beta", "mmac.levels"
"""Metadata keys: budgets of a node (one number per level), levels of the model."""

ORIGIN = "mmac.budget_from"
"""Metadata key: where the budgets of a node come from."""

_LEVELS, _EDGE, _MODEL = "levels", "first or last layer", "model"


@dataclass(frozen=True)
class Budget(Pass[ir.Model, ir.Model]):
    """Attach the plan: ``mmac.alpha`` and ``mmac.beta`` on every array layer, ``mmac.levels`` on the model.

    Needs: a QDQ model.

    Guarantees: each array layer has as many budgets as the model has levels, not falling from one level to the
    next, and none above what the layer can use; ``mmac.budget_from`` says where they come from. Where groups have
    budgets of their own (``mmac.alpha_groups``), α is their largest. The first and the last array layers of a path
    keep all their terms unless they are told otherwise. The results of the model do not change.

    Before: ``Conv "c1"``.  After: ``Conv "c1" {mmac.alpha: "8,10", mmac.beta: "2,2"}``, ``mmac.levels: "8x2,10x2"``.

    Args:
        levels: the levels of the program, lowest first; the default for each layer. None takes the model's own
            (``mmac.levels``), which training writes, or the paper's. Budgets in the nodes' metadata are about the
            model's own levels: of other levels they say nothing.
        budgets: for a layer name, glob or position, what `mmac.compiler.budgets` describes; later entries win. It
            overrides what the nodes' metadata say.
    """

    name: ClassVar[str] = "budget"
    levels: Sequence[Level] | None = None
    budgets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def apply(self, model: ir.Model, /) -> ir.Model:
        """The model with its plan.

        Raises:
            MalformedError: a budget out of range, falling, or of the wrong length; metadata that are no budgets.
            UsageError: a layer that does not exist.
        """
        result = model.clone()
        levels = _choose_levels(result, self.levels)
        user.check_budgets(self.budgets, "budget of", levels)
        layers = array_layers(result.graph)
        entries = fitting_entries(self.budgets, [layer.name for layer in layers])
        for layer in layers:
            _Layer(layer, levels).settle(entries[layer.name])
        result.metadata_props[LEVELS] = ",".join(str(level) for level in levels)
        return result


def _choose_levels(model: ir.Model, chosen: Sequence[Level] | None) -> tuple[Level, ...]:
    """The levels of the program; what the metadata say of other levels is removed."""
    own = _own_levels(model)
    if chosen is None:
        return own or PAPER_LEVELS
    if own is None or tuple(chosen) == own:
        return tuple(chosen)
    keys = (ALPHA, BETA, GROUPS, level_constants.BIAS, level_constants.SCALE)
    carriers = [node for node in model.graph if any(key in node.metadata_props for key in keys)]
    for node in carriers:
        for key in keys:
            node.metadata_props.pop(key, None)
    if carriers:
        warnings.warn(
            f"the model's own budgets and constants are for its levels {model.metadata_props[LEVELS]}; "
            "they do not count with --levels",
            MmacWarning,
            stacklevel=2,
        )
    return tuple(chosen)


def _own_levels(model: ir.Model) -> tuple[Level, ...] | None:
    text = model.metadata_props.get(LEVELS)
    if text is None:
        return None
    try:
        return parse_levels(text)
    except UsageError as error:
        raise MalformedError(f"{LEVELS} of the model: {error.where}", error.found, error.allowed) from None


def fitting_entries(budgets: user.Budgets, names: Sequence[str]) -> dict[str, list[tuple[str, Mapping[str, Any]]]]:
    """For each layer the patterns that fit it, in order, and what they say.

    Raises:
        UsageError: a pattern that fits no layer.
    """
    fitting: dict[str, list[tuple[str, Mapping[str, Any]]]] = {name: [] for name in names}
    for pattern, entry in budgets.items():
        for name in _matching(pattern, names):
            fitting[name].append((pattern, entry))
    return fitting


_POSITIONS = re.compile(r"#(-?\d{1,6})(?:\.\.(-?\d{1,6}))?")
"""``#3``, ``#2..5`` (both ends included), ``#-1`` for the last one."""


def _matching(pattern: str, names: Sequence[str]) -> Sequence[str]:
    where = f"budget of {pattern!r}"
    if pattern in names:
        return [pattern]
    if match := _POSITIONS.fullmatch(pattern):
        ends = [int(text) for text in match.groups() if text is not None]
        positions = [end + len(names) if end < 0 else end for end in ends]
        if positions[0] > positions[-1]:
            raise UsageError(where, "the first position comes after the last", "such as #2..5, both ends included")
        if not 0 <= positions[0] <= positions[-1] < len(names):
            raise UsageError(where, f"no such layers; there are {len(names)}", f"#0…#{len(names) - 1}, first to last")
        return names[positions[0] : positions[-1] + 1]
    found = fnmatch.filter(names, pattern)
    if not found and pattern.startswith("#"):
        raise UsageError(where, "not a position", f"#0…#{len(names) - 1}, #2..5 with both ends, #-1 for the last")
    if not found:
        close = difflib.get_close_matches(pattern, names, 3, 0)
        raise UsageError(where, "no array layer has such a name", f"such as {', '.join(close) or 'none'}")
    return found


class _Layer:
    """One array layer, and what has been said about it so far: later words replace earlier ones."""

    def __init__(self, layer: ArrayLayer, levels: Sequence[Level]) -> None:
        self._node, self._name, self._levels = layer.node, layer.name, levels
        self._rows = weight_rows(layer.node)
        self._count = group_term_count(self._rows)
        self._full = Level(max(1, int(self._count.max(initial=0))), full_beta(layer.node))
        self._at_edge = layer.at_edge
        self._alpha: Limits | list[int] = [level.alpha for level in levels]
        self._beta = [level.beta for level in levels]
        self._origin = {"alpha": _LEVELS, "beta": _LEVELS}

    def settle(self, entries: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Hear the model and the entries of the budget file, and write the result into the node's metadata."""
        self._hear_model()
        for pattern, entry in entries:
            self._hear(entry, pattern)
        for key, whole in (("alpha", self._full.alpha), ("beta", self._full.beta)):
            if self._at_edge and self._origin[key] == _LEVELS:
                self._set(key, [whole] * len(self._levels), _EDGE)
        self._write()

    def _hear_model(self) -> None:
        metadata, levels = self._node.metadata_props, self._levels
        for key, name in ((ALPHA, "alpha"), (BETA, "beta")):
            if text := metadata.get(key):
                items = [item.strip() for item in text.split(",")]
                given = [int(item) if re.fullmatch(r"-?\d{1,9}", item) else item for item in items]
                where = f"layer {self._name!r}: {key}"
                self._set(name, user.numbers_of_levels(where, name, given, levels), _MODEL)
        limits = limits_of(self._node, len(levels), *self._count.shape)
        if limits is not None:
            self._set("alpha", limits, _MODEL)

    def _hear(self, entry: Mapping[str, Any], pattern: str) -> None:
        where, origin = f"budget of {pattern!r}", f"budget {pattern!r}"
        if "keep" in entry:
            self._keep_all(origin)
        if "alpha" in entry:
            alphas = user.numbers_of_levels(where, "alpha", entry["alpha"], self._levels)
            spends = "spend" in entry
            self._set("alpha", self._on_largest(alphas) if spends else alphas, origin + " (spent)" * spends)
        for key in ("alpha_of_channels", "alpha_of_groups"):
            if key in entry:
                self._set("alpha", self._spread(f"{where}: {key}", key, entry[key]), origin)
        if "beta" in entry:
            self._set("beta", user.numbers_of_levels(where, "beta", entry["beta"], self._levels), origin)

    def _spread(self, where: str, key: str, given: object) -> Limits:
        channels, groups = self._count.shape
        array = user.below_layer(f"{where} for layer {self._name!r}", key, given, self._levels, (channels, groups))
        array = array if array.ndim == 3 else array[..., None]
        return np.broadcast_to(array.astype(np.uint8), (len(self._levels), *self._count.shape))

    def _on_largest(self, alphas: Sequence[int]) -> Limits:
        return spend_on_largest(self._rows, weight_scale(self._node, len(self._rows)), alphas)

    def _keep_all(self, origin: str) -> None:
        count = len(self._levels)
        self._set("alpha", [self._full.alpha] * count, origin)
        self._set("beta", [self._full.beta] * count, origin)

    def _set(self, name: str, value: Any, origin: str) -> None:
        if name == "alpha":
            self._alpha = value
        else:
            self._beta = value
        self._origin[name] = origin

    def _write(self) -> None:
        metadata = self._node.metadata_props
        metadata.pop(GROUPS, None)
        alphas = self._alpha
        if isinstance(alphas, np.ndarray):
            limits = np.minimum(alphas, self._count).astype(np.uint8)
            alphas = np.maximum(1, limits.max(axis=(1, 2), initial=1)).tolist()
            if (limits != np.minimum(self._count, np.reshape(alphas, (-1, 1, 1)))).any():
                metadata[GROUPS] = limits_text(limits)
        metadata[ALPHA] = ",".join(str(min(alpha, self._full.alpha)) for alpha in alphas)
        metadata[BETA] = ",".join(str(min(beta, self._full.beta)) for beta in self._beta)
        origins = [f"{name}: {origin}" for name, origin in self._origin.items()]
        same = len(set(self._origin.values())) == 1
        metadata[ORIGIN] = self._origin["alpha"] if same else "; ".join(origins)
