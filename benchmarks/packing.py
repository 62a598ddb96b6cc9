"""What term-packing gives, trick by trick: cycles, weight bytes and signal-to-noise ratio at each level.

    python -m benchmarks.packing tiny_resnet8

One JSON object per model and variant:

* ``lockstep``: every tile runs at its layer's α;
* ``tile``: a tile runs at its own largest group's term count (what the compiler does);
* ``reordered``: and like channels share tiles;
* ``spent``: each layer's budget goes to its largest terms, under the same total (``spend = "largest"``), but
  for the first and the last one;
* ``spent, reordered``: both.

The samples are not those that the model is calibrated with. The first three have the same results, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir

from benchmarks.correction import Feed, sqnr_db
from benchmarks.models import calibration, load
from mmac.compiler import Options
from mmac.compiler.emit import Emit
from mmac.compiler.graph import Reorder
from mmac.compiler.pipeline import run_passes
from mmac.compiler.tile import Allocate, Pack, Schedule, Tile, TileProgram
from mmac.compiler.tile.ir import ArrayLayer
from mmac.isa.plan import PAPER_LEVELS
from mmac.isa.program import Program
from mmac.runtime import Session
from mmac.runtime.report import estimate
from mmac.runtime.targets import load_target

BUNDLED = Path(__file__).parents[1] / "cli" / "mmac" / "cli" / "data"
SPENT = {"#1..-2": {"alpha": [level.alpha for level in PAPER_LEVELS], "spend": "largest"}}


def finished(model: ir.Model, *, reorder: bool, lockstep: bool = False) -> Program:
    """The program of an exact model."""
    target = load_target("vc707")
    module = Pack().apply(Tile(target).apply(Reorder(reorder).apply(model)))
    if lockstep:
        _forget_tiles(module)
    return Emit(target).apply(Allocate(target).apply(Schedule(target).apply(module)))


def _forget_tiles(module: TileProgram) -> None:
    for op in module.operations:
        if isinstance(op, ArrayLayer) and op.streams is not None:
            own = [level.alpha for level in module.plan.layers[op.layer].levels]
            directory: Any = module.data[op.streams.directory]
            directory["level"]["alpha"] = own


def measure(name: str, calibrated: int, fresh: int) -> list[dict[str, Any]]:
    """All variants of a model."""
    if name == "fashion_mnist_cnn":
        import numpy as np

        path = BUNDLED / "fashion_mnist_cnn.onnx"
        images = np.load(BUNDLED / "fashion_mnist_test.npz")["images"]
        data: Mapping[str, Any] = {"image": (images.reshape(-1, 1, 28, 28) / np.float32(255)).astype(np.float32)}
    else:
        path, data = Path(load(name)), calibration(name, calibrated + fresh)
    known = {key: array[:calibrated] for key, array in data.items()}
    samples: list[Feed] = [
        {key: array[i : i + 1] for key, array in data.items()} for i in range(calibrated, calibrated + fresh)
    ]
    rows = []
    for title, budgets in (("", {}), ("spent", SPENT)):
        model, _ = run_passes(path, Options(calibration=known, budgets=budgets), after="terms")
        variants = {"lockstep": (False, True), "tile": (False, False), "reordered": (True, False)}
        for variant, (reorder, lockstep) in variants.items():
            if title and variant == "lockstep":
                continue
            program = finished(model, reorder=reorder, lockstep=lockstep)
            report = estimate(program)
            row = {
                "model": name,
                "variant": ", ".join(filter(None, (title, "" if title and variant == "tile" else variant))),
                "cycles": [level.cycles for level in report.levels],
                "weight_bytes": [level.weight_bytes for level in report.levels],
            }
            if not lockstep:
                row["sqnr_db"] = sqnr_db(Session(program), path, samples)
            rows.append(row)
    return rows


def main() -> None:
    """Measure the named models; one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["tiny_resnet8", "fashion_mnist_cnn", "efficientnet_lite0"])
    parser.add_argument("--calibrated", type=int, default=16, help="calibration samples")
    parser.add_argument("--fresh", type=int, default=16, help="samples to compare on")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in args.models:
        for row in measure(name, args.calibrated, args.fresh):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
