"""What the correction per level gives: signal-to-noise ratio at the output against float32, without and with it.

    python -m benchmarks.correction efficientnet_lite0 tiny_resnet8

One JSON object per model: decibels at each level, over all outputs and samples. The samples are not those that the
model is calibrated with.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from benchmarks.models import calibration, load
from mmac.compiler import Options, compile_model
from mmac.runtime import Session

Feed = dict[str, npt.NDArray[np.generic]]


def sqnr_db(session: Session, model: Path, samples: list[Feed]) -> list[float]:
    """Of each level, over all samples and outputs."""
    peer = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    power, noise = 0.0, np.zeros(len(session.program.plan.levels))
    for feed in samples:
        expected = [np.asarray(array, np.float64) for array in peer.run(None, feed)]
        power += sum(float(np.square(array).sum()) for array in expected)
        for level in range(len(noise)):
            found = session.run(None, feed, level=level)
            noise[level] += sum(float(np.square(a - b).sum()) for a, b in zip(expected, found, strict=True))
    return [round(float(10 * np.log10(power / max(n, 1e-30))), 1) for n in noise]


def measure(name: str, calibrated: int, fresh: int) -> dict[str, object]:
    """Compile a model twice and compare."""
    path, data = load(name), calibration(name, calibrated + fresh)
    known = {key: array[:calibrated] for key, array in data.items()}
    samples = [{key: array[i : i + 1] for key, array in data.items()} for i in range(calibrated, calibrated + fresh)]
    row: dict[str, object] = {"model": name}
    for correct in (False, True):
        compiled = compile_model(path, Options(calibration=known, correct=correct))
        row["levels"] = [str(level) for level in compiled.program.plan.levels]
        row["corrected_db" if correct else "plain_db"] = sqnr_db(Session(compiled.program), path, samples)
        if correct:
            row["seconds"] = round(compiled.pass_seconds["correct"], 1)
    return row


def main() -> None:
    """Measure the named models; one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["efficientnet_lite0", "tiny_resnet8", "mobilenet_v2"])
    parser.add_argument("--calibrated", type=int, default=16, help="calibration samples")
    parser.add_argument("--fresh", type=int, default=16, help="samples to compare on")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in args.models:
        print(json.dumps(measure(name, args.calibrated, args.fresh)), flush=True)


if __name__ == "__main__":
    main()
