"""What a search for budgets gives: uniform levels beside searched ones, on samples that the search did not see.

    python -m benchmarks.search tiny_resnet8 efficientnet_lite0 ppocr_rec
    python -m benchmarks.search tiny_resnet8 --alone     # also each level alone, at its latency and at 0.8 of it
    python -m benchmarks.search fashion_mnist            # accuracy on all 10,000 test images

One JSON object per model: latency and signal-to-noise ratio (SQNR) at the outputs, against float32 and (truncation
only) against the same 8-bit model without truncation, of eight uniform levels and of eight searched ones that nest in
one program. `better_db` is what searched levels gain at the uniform ones' latency; `faster` is by what share the
fastest searched level with at least the uniform level's SQNR is faster.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import struct
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from benchmarks.models import calibration, load
from mmac.compiler import Options, compile_model, evaluate
from mmac.compiler.evaluation.dataset import Samples
from mmac.compiler.search import Goal, search_budgets
from mmac.isa.plan import FULL, PAPER_LEVELS, Level
from mmac.runtime import Session

Array = npt.NDArray[Any]
Feed = dict[str, Array]

DIMS = {"ppocr_rec": {"x[0]": 1, "x[2]": 48, "x[3]": 320}}
SEEN = {"tiny_resnet8": 240, "efficientnet_lite0": 24, "ppocr_rec": 24}
FRESH = {"tiny_resnet8": 200, "efficientnet_lite0": 16, "ppocr_rec": 16}
ROOT = Path(__file__).resolve().parents[1]
FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Of the Debian package dataset-fashion-mnist."""


class Fresh:
    """Compiles budgets and runs them on samples that nothing was fitted to."""

    def __init__(self, model: Path, options: Options, samples: list[Feed]) -> None:
        self._model, self._options, self._samples = model, options, samples
        peer = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        self._float = [peer.run(None, feed) for feed in samples]
        whole = Session(compile_model(model, replace(options, levels=(FULL,))).program)
        self._whole = [whole.run(None, feed) for feed in samples]

    def rows(self, levels: Sequence[Level], budgets: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
        """Latency and signal-to-noise ratios of each level."""
        options = replace(self._options, levels=levels, budgets=budgets)
        session = Session(compile_model(self._model, options).program)
        rows = []
        for number, cost in enumerate(session.report.levels):
            found = [session.run(None, feed, level=number) for feed in self._samples]
            rows.append(
                {
                    "level": cost.level,
                    "latency_ms": round(cost.latency_ms, 6),
                    "energy_mj": round(cost.energy_mj, 4),
                    "sqnr_db": decibels(self._float, found),
                    "truncation_db": decibels(self._whole, found),
                }
            )
        return rows


def decibels(expected: list[list[Array]], found: list[list[Array]]) -> float:
    """Signal-to-noise ratio over all samples and outputs."""
    pairs = [
        (np.asarray(a, np.float64), b) for e, f in zip(expected, found, strict=True) for a, b in zip(e, f, strict=True)
    ]
    power = sum(float(np.square(a).sum()) for a, _ in pairs)
    noise = sum(float(np.square(a - b).sum()) for a, b in pairs)
    return round(10 * float(np.log10(power / max(noise, 1e-30))), 2)


def compared(uniform: list[dict[str, Any]], searched: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Decibels gained at the uniform levels' latency, and share of latency saved at their SQNR."""
    better: list[float | None] = []
    faster: list[float | None] = []
    for row in uniform:
        fitting = [each["sqnr_db"] for each in searched if each["latency_ms"] <= row["latency_ms"] * 1.001]
        better.append(round(max(fitting) - row["sqnr_db"], 2) if fitting else None)
        as_good = [each["latency_ms"] for each in searched if each["sqnr_db"] >= row["sqnr_db"]]
        faster.append(round(1 - min(as_good) / row["latency_ms"], 3) if as_good else None)
    return {"better_db": better, "faster": faster}


def measure(name: str, alone: bool) -> dict[str, Any]:
    """Search a model's budgets and compare."""
    seen, fresh = SEEN.get(name, 24), FRESH.get(name, 16)
    data, path = calibration(name, seen + fresh), load(name)
    options = Options(calibration={key: array[:seen] for key, array in data.items()}, dims=DIMS.get(name, {}))
    samples = [{key: array[i : i + 1] for key, array in data.items()} for i in range(seen, seen + fresh)]
    unseen = Fresh(path, options, samples)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.npz"
        begin = time.perf_counter()
        found = search_budgets(path, options, state=state)
        row: dict[str, Any] = {"model": name, "seconds": round(time.perf_counter() - begin, 1)} | found.seconds
        uniform = unseen.rows(PAPER_LEVELS, {})
        searched = unseen.rows([each.level for each in found.levels], found.budgets())
        row |= {"whole_db": found.whole_db, "uniform": uniform, "searched": searched} | compared(uniform, searched)
        print(json.dumps(row), flush=True)
        if alone:
            by_itself = [
                _alone(path, options, unseen, state, each["latency_ms"], share)
                for share in (1.0, 0.8)
                for each in uniform
            ]
            by_itself = [each for each in by_itself if each]
            row |= {"alone": by_itself, "alone_compared": compared(uniform, by_itself)}
    return row


def _alone(path: Path, options: Options, unseen: Fresh, state: Path, latency: float, share: float) -> dict[str, Any]:
    try:
        found = search_budgets(path, options, Goal(limits=(latency * share,)), state=state, verify=False)
    except Exception as error:
        print(error, flush=True)
        return {}
    return unseen.rows([each.level for each in found.levels], found.budgets())[0]


def fashion() -> dict[str, Any]:
    """Accuracy of the bundled classifier on all 10,000 test images; the search sees 300 others, of the training set."""
    begin = time.perf_counter()
    images, labels = _idx("t10k-images-idx3-ubyte"), _idx("t10k-labels-idx1-ubyte")
    seen = _idx("train-images-idx3-ubyte")[:300]
    path = ROOT / "cli/mmac/cli/data/fashion_mnist_cnn.onnx"
    name = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_inputs()[0].name
    options = Options(calibration={name: _pixels(seen)})
    found = search_budgets(path, options, verify=False)
    seconds = time.perf_counter() - begin
    plans = {"uniform": (PAPER_LEVELS, {}), "searched": ([each.level for each in found.levels], found.budgets())}
    row: dict[str, Any] = {"model": "fashion_mnist", "search_seconds": round(seconds, 1)}
    test = Samples({name: _pixels(images)}, labels.astype(np.int64))
    for kind, (levels, budgets) in plans.items():
        program = compile_model(path, replace(options, levels=levels, budgets=budgets)).program
        row[kind] = [
            {"level": each.level, "latency_ms": round(each.latency_ms, 5), "accuracy": each.metrics["top1"]}
            for each in evaluate(program, test, jobs=os.cpu_count() or 1).levels
        ]
    return row | {"seconds": round(time.perf_counter() - begin, 1)}


def _pixels(images: Array) -> Array:
    return np.asarray((images[:, None].astype(np.float32)) / np.float32(255))


def _idx(name: str) -> Array:
    content = gzip.decompress((FASHION / f"{name}.gz").read_bytes())
    rank = content[3]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(struct.unpack_from(f">{rank}I", content, 4))


def main() -> None:
    """Measure the named models; one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["tiny_resnet8", "efficientnet_lite0", "ppocr_rec"])
    parser.add_argument("--alone", action="store_true", help="search each level alone too")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in args.models:
        print(json.dumps(fashion() if name == "fashion_mnist" else measure(name, args.alone)), flush=True)


if __name__ == "__main__":
    main()
