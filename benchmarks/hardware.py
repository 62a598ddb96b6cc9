"""How long mapping, timing and energy take, and how near latency comes to what the cells could do.

    python -m benchmarks.hardware                           # the networks below
    python -m benchmarks.hardware resnet18 --scale-sim      # and SCALE-Sim 3 on the convolutions of ResNet-18

CPU seconds of the mapping search (pass `tile`) and of timing and energy at all eight levels, as the compiler pays them
(cold) and for a compiled program. `utilization` is how near latency comes to the bound: the time with all cells (or
multipliers, in layers that run there) busy throughout, over latency. SCALE-Sim answers a smaller question, one array of
128 × 128 plain MACs at one precision, without traces; it takes minutes. It is optional, and its release 3.0.0 fails
with numpy 2.4, so give it an environment of its own: pip install scalesim 'numpy<2.4'.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import onnx

from benchmarks.models import calibration, load
from mmac.compiler import Options
from mmac.compiler.pipeline import run_passes
from mmac.isa import container
from mmac.runtime import estimate

NETWORKS = ("mobilenet_v2", "resnet18", "resnet50", "yolov5n")
GOALS = {"resnet50": {"cold_s": 3.0, "compiled_s": 0.3}}
"""CPU seconds to stay below."""

Result = TypeVar("Result")


def cpu_s(run: Callable[[], Result]) -> tuple[float, Result]:
    """CPU seconds of one call, and what it returns."""
    begin = time.process_time()
    result = run()
    return time.process_time() - begin, result


def measure(name: str) -> dict[str, Any]:
    """One network: where its time goes, and how near it comes to the bound."""
    options = Options(calibration={key: array[:1] for key, array in calibration(name, 1).items()})
    begins: dict[str, float] = {}
    ends: dict[str, float] = {}
    program, _ = run_passes(
        load(name),
        options,
        progress=lambda step, number, count: begins.update({step: time.process_time()}),
        observe=lambda step, state: ends.update({step: time.process_time()}),
    )
    search_s = ends["tile"] - begins["tile"]
    cold_s, report = cpu_s(lambda: estimate(program))
    loaded = container.from_bytes(container.to_bytes(program))
    compiled_s, again = cpu_s(lambda: estimate(loaded))
    if again != report:
        raise RuntimeError(f"{name}: a loaded program costs something else")
    times = {"search_s": search_s, "cold_s": search_s + cold_s, "compiled_s": compiled_s}
    goals = GOALS.get(name, {})
    return {
        "model": name,
        **{key: round(seconds, 3) for key, seconds in times.items()},
        "goals": goals,
        "goals_met": all(times[key] <= goal for key, goal in goals.items()) if goals else None,
        "latency_ms": [round(level.latency_ms, 3) for level in report.levels],
        "energy_mj": [round(level.energy_mj, 3) for level in report.levels],
        "utilization": [round(level.utilization, 3) for level in report.levels],
    }


# -------------------------------------------------------------------------------------------------------- SCALE-Sim 3

ARRAY = 128

CONFIG = f"""\
[general]
run_name = plain
[architecture_presets]
ArrayHeight = {ARRAY}
ArrayWidth = {ARRAY}
IfmapSramSzkB = 6144
FilterSramSzkB = 6144
OfmapSramSzkB = 2048
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Bandwidth = 100
Dataflow = ws
ReadRequestBuffer = 64
WriteRequestBuffer = 64
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""


def convolutions(path: Path) -> list[tuple[str, list[int]]]:
    """Name and SCALE-Sim's numbers of each convolution: input h, w; kernel h, w; channels in, out; stride.

    The input is padded, and without what the last window leaves over, as SCALE-Sim rounds the output's size up.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    weights = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    found = []
    for number, node in enumerate(node for node in model.graph.node if node.op_type == "Conv"):
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if attributes.get("group", 1) != 1:
            raise ValueError(f"{node.name}: SCALE-Sim knows dense convolutions only")
        top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
        _, _, h, w = shapes[node.input[0]]
        out, channels, kernel_h, kernel_w = weights[node.input[1]]
        stride = attributes.get("strides", [1, 1])[0]
        h -= (h + top + bottom - kernel_h) % stride
        w -= (w + left + right - kernel_w) % stride
        numbers = [h + top + bottom, w + left + right, kernel_h, kernel_w, channels, out, stride]
        found.append((f"conv{number}", numbers))
    return found


def scale_sim(layers: Sequence[tuple[str, list[int]]]) -> tuple[float, list[int]]:
    """CPU seconds of SCALE-Sim 3, and its compute cycles per layer."""
    from scalesim.scale_sim import scalesim

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        files = {"config.cfg": CONFIG, "topology.csv": "header,\n", "layout.csv": "header,\n"}
        for name, numbers in layers:
            files["topology.csv"] += ",".join(map(str, [name, *numbers, "1:1"])) + ",\n"
            files["layout.csv"] += ",".join([name, *["1"] * 20]) + ",\n"
        config, topology, layout = (Path(folder) / name for name in files)
        for path in (config, topology, layout):
            path.write_text(files[path.name], "utf-8")
        simulator = scalesim(
            save_disk_space=True, verbose=False, config=str(config), topology=str(topology), layout=str(layout)
        )
        seconds, _ = cpu_s(lambda: simulator.run_scale(top_path=folder))
        layers_done = simulator.runner.single_layer_sim_object_list
    return seconds, [int(layer.total_cycles - layer.stall_cycles) for layer in layers_done]


def expected_cycles(numbers: Sequence[int]) -> int:
    """Compute cycles of a plain weight-stationary array, by the formula that ours has for one pass."""
    h, w, kernel_h, kernel_w, channels, out, stride = numbers
    pixels = ((h - kernel_h) // stride + 1) * ((w - kernel_w) // stride + 1)
    passes = math.ceil(kernel_h * kernel_w * channels / ARRAY) * math.ceil(out / ARRAY)
    return passes * (2 * ARRAY + ARRAY + pixels - 2) - 1


def against_scale_sim(name: str, layers: int | None) -> dict[str, Any]:
    """Our time for all levels of a network, and SCALE-Sim's for its convolutions."""
    if importlib.util.find_spec("scalesim") is None:
        return {"model": name, "scale_sim": "not installed, so not compared; pip install scalesim 'numpy<2.4'"}
    chosen = convolutions(load(name))[:layers]
    seconds, cycles = scale_sim(chosen)
    ours = measure(name)
    return {
        "model": name,
        "scale_sim_layers": len(chosen),
        "scale_sim_s": round(seconds, 1),
        "mmac_s": ours["cold_s"],
        "ratio": round(seconds / ours["cold_s"]),
        "layers_with_equal_cycles": sum(a == expected_cycles(b) for a, (_, b) in zip(cycles, chosen, strict=True)),
    }


def main() -> None:
    """Measure the named networks; one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(NETWORKS))
    parser.add_argument("--scale-sim", action="store_true", help="compare with SCALE-Sim 3 (minutes)")
    parser.add_argument("--layers", type=int, help="only the first so many convolutions on SCALE-Sim")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in args.models:
        print(json.dumps(against_scale_sim(name, args.layers) if args.scale_sim else measure(name)), flush=True)


if __name__ == "__main__":
    main()
