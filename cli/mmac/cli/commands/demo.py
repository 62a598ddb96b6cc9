"""`mmac demo`: the bundled model, compiled once and run at every level."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmac.cli import output
from mmac.cli.parameters import json_option

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mmac.isa.program import Program

    Images = npt.NDArray[np.float32]
    Labels = npt.NDArray[np.uint8]

MODEL = "fashion_mnist_cnn"
DATA = "fashion_mnist_test"


@click.command(name="demo", short_help="Compile and simulate a bundled model at eight levels.")
@click.option("--dir", "folder", default="demo", show_default=True, metavar="DIR", help="Where the files go.")
@click.option("--engine", default="fast", show_default=True, metavar="fast|reference", help="Both give the same bits.")
@json_option
def command(folder: str, engine: str, as_json: bool) -> None:
    """Compile the bundled Fashion-MNIST classifier and run it on 300 test images at each of the paper's levels."""
    with ExitStack() as stack:
        data = files("mmac.cli") / "data"
        model, samples = (stack.enter_context(as_file(data / name)) for name in (f"{MODEL}.onnx", f"{DATA}.npz"))
        result = run(model, samples, Path(folder), engine)
    if as_json:
        output.print_json(result)
        return
    columns = ("level", "α", "β", "γ", "accuracy", "latency ms", "energy mJ", "weight bytes")
    rows = [
        (
            level["level"],
            str(level["alpha"]),
            str(level["beta"]),
            str(level["gamma"]),
            f"{level['accuracy']:.2%}",
            f"{level['latency_ms']:.4f}",
            f"{level['energy_mj']:.4f}",
            f"{level['weight_bytes']:,}",
        )
        for level in result["levels"]
    ]
    output.table(columns, rows)
    click.echo(f"{result['images']} images; {result['float_accuracy']:.2%} of them right in float32 (onnxruntime)")
    click.echo(f"program: {result['program']}")
    click.echo(f"stages:  {result['stages']}")


def run(model: Path, samples: Path, folder: Path, engine: str) -> dict[str, Any]:
    """Compile, save, dump and simulate; what ``--json`` prints."""
    import numpy as np

    from mmac.compiler import Options, compile_model, read_arrays
    from mmac.compiler.stages import Dump
    from mmac.isa.container import save
    from mmac.runtime.report import estimate

    data = read_arrays(samples)
    calibration, images = (data[key][:, None].astype(np.float32) / np.float32(255) for key in ("calibration", "images"))
    program_file, stages = folder / f"{MODEL}.mmac", folder / "stages"
    with output.progress("compile") as step:
        compiled = compile_model(model, Options(calibration={"image": calibration}), step, Dump(stages))
        save(compiled.program, program_file)
    accuracies = _accuracies(compiled.program, engine, images, data["labels"])
    costs = estimate(compiled.program)
    kept = ("level", "alpha", "beta", "gamma", "latency_ms", "energy_mj", "weight_bytes")
    return {
        "program": str(program_file),
        "stages": str(stages),
        "images": len(images),
        "float_accuracy": _float_accuracy(model, images, data["labels"]),
        "levels": [
            {name: getattr(level, name) for name in kept} | {"accuracy": accuracy}
            for level, accuracy in zip(costs.levels, accuracies, strict=True)
        ],
    }


def _accuracies(program: Program, engine: str, images: Images, labels: Labels) -> list[float]:
    """Share of the images that each level classifies rightly."""
    import numpy as np

    from mmac.runtime.session import Session

    session = Session(program, engine)
    levels = program.plan.levels
    right = np.zeros(len(levels), np.int64)
    with output.progress("simulate") as step:
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            step(f"image {number + 1}", number, len(images))
            for position in range(len(levels)):
                (logits,) = session.run(["logits"], {"image": image[None]}, position)
                right[position] += logits.argmax() == label
    return [float(count) / len(images) for count in right]


def _float_accuracy(model: Path, images: Images, labels: Labels) -> float:
    """The same share for the float32 model in onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": images})
    return float((logits.argmax(1) == labels).mean())
