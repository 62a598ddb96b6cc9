"""Which hardware a program was compiled for, and whether that is the hardware that its figures are about.

A program gives its target's name, which a target file of one's own may share with a packaged one; so a note in the
program holds a digest of the target's content as well.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from pathlib import Path

from mmac.isa.errors import MmacWarning, UsageError
from mmac.isa.program import Program
from mmac.runtime.targets import Target, target_for, target_names

NOTE = "target_sha256"
"""Key of `Program.notes`: `digest` of the target that the program was compiled for."""


def digest(target: Target) -> str:
    """SHA-256 over the numbers and names of a target; comments and layout of its file do not count."""
    return hashlib.sha256(json.dumps(dataclasses.asdict(target), sort_keys=True).encode()).hexdigest()


def machine_for(program: Program, target: Target | str | Path | None = None) -> Target:
    """The target meant by one, by its name or file, or (None) by what the program was compiled for.

    Warns if a packaged target is taken that has the name, but not the content of the one that it was compiled for.

    Raises:
        UsageError: no such target.
        MalformedError, ResourceError: as `mmac.runtime.targets.load_target`.
    """
    if target is None and program.target not in target_names():
        raise UsageError(
            f"target {program.target!r}",
            f"the program {program.name} was compiled for it, and it is not a packaged one",
            ", ".join(target_names()) + ", or a file",
            "give its file: --target FILE.toml",
        )
    machine = target_for(program, target)
    if target is None and program.notes.get(NOTE, found := digest(machine)) != found:
        warnings.warn(
            f"the program was compiled for another version of target {program.target}; latency and energy are those of "
            "the packaged one; give its file with --target FILE.toml, or compile again",
            MmacWarning,
            stacklevel=2,
        )
    return machine
