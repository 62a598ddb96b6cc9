"""The compiler as a whole: the list of passes, and `compile_model`, which runs them all."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.compiler.emit import Emit
from mmac.compiler.frontend import ImportModel
from mmac.compiler.graph import Budget, Correct, Fold, Partition, Quantize, Reorder, Terms
from mmac.compiler.passes import Pass
from mmac.compiler.tile import Allocate, Pack, Schedule, Tile, TileProgram
from mmac.compiler.tile.check import check
from mmac.isa.errors import UsageError
from mmac.isa.plan import Level
from mmac.isa.program import Program
from mmac.isa.spec import WORD_BYTES
from mmac.isa.verify import verify
from mmac.runtime.targets import Target, load_target

Progress = Callable[[str, int, int], None]
"""Called with the name of the pass that begins, its number, and the number of passes."""

Observer = Callable[[str, Any], None]
"""Called with the name of each pass and what it gave."""


@dataclass(frozen=True)
class Options:
    """Everything that a compilation depends on beside the model.

    Args:
        levels: levels of the program, lowest first; None for the model's own (from training), or the paper's.
        budgets: per-layer budgets by layer name, glob or position (`mmac.compiler.budgets`).
        calibration: input name to array [samples, …]; None calibrates on one synthetic sample, with a warning.
        method: calibrator of onnxruntime: ``minmax``, ``entropy`` or ``percentile``.
        correct: fit bias and scale of each level to the calibration samples (`mmac.compiler.graph.Correct`).
        reorder: sort channels by the terms that they keep (`mmac.compiler.graph.Reorder`).
        target: name of a packaged target or path of a TOML file.
        dims: numbers for symbolic input dimensions.
        max_memory: most bytes that a value of the model may have; None for this machine's memory.
    """

    levels: Sequence[Level] | None = None
    budgets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    calibration: Mapping[str, npt.NDArray[np.generic]] | None = None
    method: str = "minmax"
    correct: bool = True
    reorder: bool = False
    target: str = "vc707"
    dims: Mapping[str, int] = field(default_factory=dict)
    max_memory: int | None = None


@dataclass(frozen=True)
class Compiled:
    """A program and how it came about."""

    program: Program
    seconds: float
    pass_seconds: Mapping[str, float]


def passes(options: Options, target: Target | None = None) -> tuple[Pass[Any, Any], ...]:
    """The passes in order; the first takes a path, the last gives a `Program`.

    Raises:
        UsageError: no such target or calibration method.
    """
    machine = target or load_target(options.target)
    return (
        ImportModel(options.dims, options.max_memory),
        Fold(),
        Quantize(options.calibration, options.method),
        Budget(options.levels, options.budgets),
        Partition(),
        Correct(options.calibration, options.correct),
        Terms(),
        Reorder(options.reorder),
        Tile(machine),
        Pack(),
        Schedule(machine),
        Allocate(machine),
        Emit(machine),
    )


_PASSES = ImportModel, Fold, Quantize, Budget, Partition, Correct, Terms, Reorder, Tile, Pack, Schedule, Allocate, Emit
PASS_NAMES = tuple(p.name for p in _PASSES)


def run_passes(
    model: str | Path,
    options: Options | None = None,
    after: str = "emit",
    progress: Progress | None = None,
    observe: Observer | None = None,
) -> tuple[Any, dict[str, float]]:
    """Run the passes up to and including `after`; `observe` sees the result of each.

    Returns:
        What that pass gives (an `onnx_ir.Model`, a `TileProgram` or a `Program`), and the seconds of each pass.

    Raises:
        UsageError: there is no such pass.
        MmacError: whatever the passes find wrong with the model or the options.
    """
    if after not in PASS_NAMES:
        raise UsageError(f"pass {after!r}", "no such pass", ", ".join(PASS_NAMES))
    state: Any = model
    seconds: dict[str, float] = {}
    chosen = passes(options or Options())[: PASS_NAMES.index(after) + 1]
    for number, step in enumerate(chosen):
        if progress is not None:
            progress(step.name, number, len(chosen))
        begin = time.perf_counter()
        state = step.apply(state)
        if isinstance(state, TileProgram):
            check(state)
        seconds[step.name] = time.perf_counter() - begin
        if observe is not None:
            observe(step.name, state)
    return state, seconds


def compile_model(
    model: str | Path,
    options: Options | None = None,
    progress: Progress | None = None,
    observe: Observer | None = None,
) -> Compiled:
    """Compile an ONNX file to a verified program for all levels.

    Raises:
        MmacError: see `run_passes`; VerificationError if the result does not verify, which is a bug of the compiler.
    """
    begin = time.perf_counter()
    program, seconds = run_passes(model, options, progress=progress, observe=observe)
    verify(program)
    return Compiled(program, time.perf_counter() - begin, seconds)


def summary(compiled: Compiled, target: str | None = None) -> dict[str, Any]:
    """What `mmac compile --json` prints: counts, sizes in bytes, and the seconds that it took."""
    return describe(compiled.program, target) | {"seconds": round(compiled.seconds, 3)}


def describe(program: Program, target: str | None = None) -> dict[str, Any]:
    """Counts and sizes of a verified program, as JSON types; `target` is needed if its own is not a packaged one."""
    kinds = [entry.op for entry in program.debug]
    return {
        "model": program.name,
        "target": program.target,
        "levels": [str(level) for level in program.plan.levels],
        "instructions": len(program.code),
        "code_bytes": len(program.code) * WORD_BYTES,
        "weight_bytes": weight_bytes(program, target),
        "array_layers": kinds.count("arraylayer"),
        "vector_ops": sum(kind.startswith("v") for kind in kinds),
        "moves": kinds.count("move"),
        "host_segments": [[list(node) for node in segment.nodes] for segment in program.host],
        "macs": sum(entry.macs for entry in program.debug),
        "dram_bytes": program.dram_bytes,
        "predictions": [dataclasses.asdict(prediction) for prediction in program.predictions],
    }


def weight_bytes(program: Program, target: str | None = None) -> list[int]:
    """Bytes of term streams that one inference needs at each level."""
    from mmac.runtime.report import estimate

    return [level.weight_bytes for level in estimate(program, target).levels]
