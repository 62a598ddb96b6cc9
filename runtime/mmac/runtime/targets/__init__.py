"""Hardware targets: what array, memories and energies a program is timed against.

A target is a TOML file in which every number has its source in a comment (`targets/vc707.toml`). Loading is strict:
unknown or missing keys, numbers of the wrong type or range, and designs that exceed their part are refused.
"""

from __future__ import annotations

from pathlib import Path

from mmac.isa.files import read_text
from mmac.isa.program import Program
from mmac.runtime.targets.design import (
    CONSTANT_SETS,
    Array,
    Buffer,
    Cell,
    Clock,
    Component,
    Constants,
    Dram,
    Lanes,
    Multipliers,
    Part,
    Port,
    Resources,
    Target,
)
from mmac.runtime.targets.packaged import packaged_text, target_names
from mmac.runtime.targets.read import parse_target

__all__ = [
    "CONSTANT_SETS",
    "Array",
    "Buffer",
    "Cell",
    "Clock",
    "Component",
    "Constants",
    "Dram",
    "Lanes",
    "Multipliers",
    "Part",
    "Port",
    "Resources",
    "Target",
    "load_target",
    "parse_target",
    "target_for",
    "target_names",
]


def load_target(name_or_path: str | Path) -> Target:
    """Load a named target (``vc707``) or a TOML file (anything that ends in ``.toml``).

    Raises:
        UsageError: no target of that name, or no such file.
        MalformedError: not TOML, or a key or number that cannot be.
        ResourceError: the design needs more than its part has.
    """
    text = str(name_or_path)
    content = read_text(text, "a TOML file") if text.endswith(".toml") else packaged_text(text)
    return parse_target(content, text)


def target_for(program: Program, target: Target | str | Path | None) -> Target:
    """The target meant by one, by its name or file, or (None) by what the program was compiled for.

    Raises as `load_target`.
    """
    return target if isinstance(target, Target) else load_target(program.target if target is None else target)
