"""How long the fast engine takes, as a ratio to onnxruntime in float32: CPU time, one thread, pair by pair in one run.

    python -m benchmarks.speed resnet18 mobilenet_v2 --level 14x2

Ratios hold when the machine's speed drifts, because each is taken between two runs next to each other; the median and
the extremes are printed. Inputs are the calibration samples of `benchmarks.models.data`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort

from benchmarks.models import calibration, load
from mmac.compiler import Options, compile_model
from mmac.isa.plan import parse_level
from mmac.runtime import Session

GOALS = {"resnet18": 1.3, "resnet50": 1.3, "mobilenet_v2": 2.2}
"""Ratios to stay below at level 14x2."""


def cpu_ms(run: Callable[[], Any]) -> float:
    """CPU milliseconds of one call, all threads of this process together."""
    begin = time.process_time()
    run()
    return (time.process_time() - begin) * 1e3


def compare(session: Session, model: Path, data: Mapping[str, Any], level: str, repeats: int) -> dict[str, Any]:
    """Time a session at one level against onnxruntime on the model it was compiled from."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    peer = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    feeds = {i.name: data[i.name] for i in peer.get_inputs()}
    number = session.program.plan.levels.index(parse_level(level))

    def ours() -> Any:
        return session.run(None, feeds, level=number)

    def theirs() -> Any:
        return peer.run(None, feeds)

    first_ms = cpu_ms(ours)
    for _ in range(3):
        ours()
        theirs()
    pairs = [(cpu_ms(ours), cpu_ms(theirs)) for _ in range(repeats)]
    ratios = [a / b for a, b in pairs]
    return {
        "level": level,
        "fast_ms": round(statistics.median(a for a, _ in pairs), 2),
        "onnxruntime_ms": round(statistics.median(b for _, b in pairs), 2),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "first_run_ms": round(first_ms, 1),
    }


def measure(name: str, level: str, repeats: int) -> dict[str, Any]:
    """Compile one model and time it."""
    path = load(name)
    data = {key: array[:1] for key, array in calibration(name, 1).items()}
    session = Session(compile_model(path, Options(calibration=data)).program, threads=1)
    return {"model": name, **compare(session, path, data, level, repeats), "goal": GOALS.get(name)}


def main() -> None:
    """Measure the named models; one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(GOALS))
    parser.add_argument("--level", default="14x2")
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in args.models:
        print(json.dumps(measure(name, args.level, args.repeats)), flush=True)


if __name__ == "__main__":
    main()
