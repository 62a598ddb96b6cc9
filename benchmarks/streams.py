"""Bytes of weights per level: as stored, at 8 bits per term, and as int8 tensors.

    python -m benchmarks.streams mobilenet_v2 resnet18

One JSON object per model.
"""

from __future__ import annotations

import argparse
import json
import warnings

import numpy as np

from benchmarks.models import load
from mmac.compiler import Options
from mmac.compiler.pipeline import run_passes
from mmac.compiler.tile.ir import ArrayLayer
from mmac.isa import terms


def measure(name: str) -> dict[str, object]:
    """Pack a model and add up its streams."""
    module, _ = run_passes(load(name), Options(), after="pack")
    layers = [op for op in module.operations if isinstance(op, ArrayLayer)]
    levels = range(len(module.plan.levels))
    stored, plain, integers = np.zeros(len(levels), int), np.zeros(len(levels), int), 0
    formats = set()
    for op in layers:
        if op.streams is None:
            raise ValueError(f"{op.name} has not been packed")
        formats.add(op.streams.format.name.lower())
        weights = np.asarray(module.data[op.weights])
        count = terms.group_term_count(weights)
        integers += weights.size
        stored += module.data[op.streams.directory]["level"]["bytes"].sum(axis=0, dtype=int)
        alphas = [level.alpha for level in module.plan.layers[op.layer].levels]
        plain += [count.size + int(np.minimum(count, alpha).sum()) for alpha in alphas]
    return {
        "model": name,
        "formats": sorted(formats),
        "stored_bytes": stored.tolist(),
        "plain_bytes": plain.tolist(),
        "int8_bytes": integers,
        "share_of_plain": round(stored[-1] / plain[-1], 3),
    }


def main() -> None:
    """Measure the named models; one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["tiny_resnet8", "efficientnet_lite0", "mobilenet_v2", "resnet18"])
    warnings.simplefilter("ignore")
    for name in parser.parse_args().models:
        print(json.dumps(measure(name)), flush=True)


if __name__ == "__main__":
    main()
