"""What a search found: plans, what they cost and how good they are, and the budget file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmac.isa.plan import Level

Plans = dict[str, tuple[Level, ...]]
"""For each array layer by name, its (α, β) at each level."""


@dataclass(frozen=True)
class LevelFound:
    """One level of a program.

    Attributes:
        level: its name in the program.
        limit: what it had to keep; None for a uniform level.
        latency_ms, energy_mj: of one inference, predicted by the runtime's model.
        predicted_db: signal-to-noise ratio at the outputs against the float model that the search expects.
        sqnr_db: the same by simulation; None if there was none.
        held_to: the uniform level whose plan this is, as nothing better was found; None if it has a plan of its own.
    """

    level: Level
    limit: float | None
    latency_ms: float
    energy_mj: float
    predicted_db: float
    sqnr_db: float | None = None
    held_to: Level | None = None

    @property
    def plan(self) -> str:
        """What kind of plan it has, in words."""
        return "own" if self.held_to is None else f"uniform {self.held_to}"


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        model: name of the model.
        target: name of the hardware.
        quantity: what was limited: ``latency_ms``, ``energy_mj`` or ``sqnr_db``.
        levels: of the searched plans, lowest first.
        uniform: of plans in which all layers but the first and last have the level's own budgets.
        plans: α and β of each array layer at each level.
        full: for each array layer the budgets at which it drops nothing.
        whole_db: signal-to-noise ratio if nothing is dropped: that of 8-bit quantization.
        samples: how many calibration samples were fitted to, and how many were measured on.
        seconds: what took how long.
    """

    model: str
    target: str
    quantity: str
    levels: list[LevelFound]
    uniform: list[LevelFound]
    plans: Plans
    full: dict[str, Level]
    whole_db: float
    samples: tuple[int, int]
    seconds: dict[str, float]

    def budgets(self) -> dict[str, dict[str, Any]]:
        """The plans as `mmac.compiler.Options.budgets`."""
        return {name: _entry(plan, self.full[name]) for name, plan in self.plans.items()}

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        document = dataclasses.asdict(self)
        for row in (*document["levels"], *document["uniform"]):
            row["level"] = str(Level(**row["level"]))
            row["held_to"] = None if row["held_to"] is None else str(Level(**row["held_to"]))
        del document["plans"], document["full"]
        return document | {"levels_option": self.levels_option, "budgets": self.budgets()}

    @property
    def held(self) -> str:
        """A sentence about the levels that are held to uniform plans; empty if there are none."""
        held = [str(row.level) for row in self.levels if row.held_to is not None]
        if not held:
            return ""
        which = "every level" if len(held) == len(self.levels) else ", ".join(held)
        return f"held to the uniform plan, as nothing better was found within the limits: {which}"

    @property
    def levels_option(self) -> str:
        """The levels to compile with, as ``--levels`` takes them."""
        return ",".join(str(row.level) for row in self.levels)


def _entry(plan: Sequence[Level], full: Level) -> dict[str, Any]:
    if all(level == full for level in plan):
        return {"keep": "all"}
    return {"alpha": _short([level.alpha for level in plan]), "beta": _short([level.beta for level in plan])}


def _short(numbers: list[int]) -> int | list[int]:
    return numbers[0] if len(set(numbers)) == 1 else numbers


def to_toml(found: Found, command: str) -> str:
    """The budget file: plans, and in comments what they give; `command` says how it was made."""
    lines = [
        f"Budgets for {found.model} on {found.target}, chosen by",
        f"  {command}",
        f"To be compiled with --levels {found.levels_option}",
        "",
        _HEADINGS,
        *(_row(row) for row in found.levels),
        *([_sentence(found.held)] if found.held else []),
        f"SQNR at the outputs against float, on {found.samples[1]} samples that were not fitted to; without dropping "
        f"anything {found.whole_db:.1f} dB.",
    ]
    header = [f"# {_printable(line)}".rstrip() for line in lines]
    tables = [_table(name, entry) for name, entry in found.budgets().items()]
    return "\n".join([*header, *tables]) + "\n"


_HEADINGS = f"{'level':8} {'latency ms':>12} {'energy mJ':>12} {'SQNR dB':>8}  plan"


def _row(row: LevelFound) -> str:
    sqnr = row.predicted_db if row.sqnr_db is None else row.sqnr_db
    return f"{row.level!s:8} {row.latency_ms:12.4f} {row.energy_mj:12.4f} {sqnr:8.1f}  {row.plan}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _table(name: str, entry: Mapping[str, Any]) -> str:
    values = "\n".join(f"{key} = {json.dumps(value)}" for key, value in entry.items())
    return f"\n[{_string(name)}]\n{values}"


def _string(text: str) -> str:
    """A basic string of TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
