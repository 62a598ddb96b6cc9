"""Every benchmark network through the whole road: compile, verify, simulate at all levels; one row each.

    python -m benchmarks.networks                       # the whole list
    python -m benchmarks.networks tiny_resnet8 resnet18 # some of it

A row says how much work the network is, what the compiler made of it, what is left to the host and why, and what each
step cost: seconds of CPU for compiling, for timing and energy of all levels, and the fast engine's CPU time as a ratio
to onnxruntime in float32 (`benchmarks.speed`).
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from typing import Any

import numpy as np

from benchmarks import speed
from benchmarks.models import calibration, load
from mmac.compiler import Options, compile_model, summary
from mmac.isa import container
from mmac.runtime import Session, estimate

NETWORKS: dict[str, dict[str, int]] = {
    "tiny_resnet8": {},
    "tiny_mobilenetv1_vww": {},
    "tiny_dscnn_kws": {},
    "tiny_autoencoder": {},
    "ppocr_cls": {"x[0]": 1, "x[2]": 48, "x[3]": 192},
    "efficientnet_lite0": {},
    "mobilenet_v2": {},
    "resnet18": {},
    "resnet50": {},
    "yolov5n": {},
    "yolox_tiny": {},
}
"""Networks of the acceptance table, with the sizes of their dynamic dimensions."""


def row(name: str, repeats: int) -> dict[str, Any]:
    """Compile, verify and simulate one network at every level."""
    path = load(name)
    data = {key: array[:1] for key, array in calibration(name, 1).items()}
    begin = time.process_time()
    compiled = compile_model(path, Options(calibration=data, dims=NETWORKS.get(name, {})))
    compile_cpu_s = time.process_time() - begin
    program = container.from_bytes(container.to_bytes(compiled.program))
    session = Session(program)
    begin = time.process_time()
    report = estimate(program)
    estimate_cpu_s = time.process_time() - begin
    outputs = [session.run(None, data, level=level) for level in range(len(program.plan.levels))]
    facts = summary(compiled)
    timed = speed.compare(session, path, data, "14x2", repeats)
    low, high = report.levels[0], report.levels[-1]
    return {
        "model": name,
        "mmac": round(facts["macs"] / 1e6, 2),
        "instructions": facts["instructions"],
        "code_bytes": facts["code_bytes"],
        "weight_bytes": [low.weight_bytes, high.weight_bytes],
        "array_layers": facts["array_layers"],
        "host_segments": facts["host_segments"],
        "latency_ms": [round(low.latency_ms, 3), round(high.latency_ms, 3)],
        "energy_mj": [round(low.energy_mj, 3), round(high.energy_mj, 3)],
        "compile_cpu_s": round(compile_cpu_s, 2),
        "estimate_cpu_s": round(estimate_cpu_s, 3),
        "levels_differ": any(not np.array_equal(a, b) for a, b in zip(outputs[0], outputs[-1], strict=True)),
        **{key: timed[key] for key in ("fast_ms", "onnxruntime_ms", "ratio")},
    }


def main() -> None:
    """Print one JSON object per network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in args.models:
        print(json.dumps(row(name, args.repeats)), flush=True)


if __name__ == "__main__":
    main()
