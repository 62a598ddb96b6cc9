"""`mmac demo`: the bundled model, compiled once and run at every level."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmac.cli import output
from mmac.cli.command import FILLS, Command
from mmac.cli.parameters import json_option
from mmac.isa.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mmac.isa.program import Program

    Images = npt.NDArray[np.float32]
    Labels = npt.NDArray[np.uint8]

MODEL = "fashion_mnist_cnn"
DATA = "fashion_mnist_test"
ENGINES = ("fast", "reference")


@click.command(name="demo", cls=Command, short_help="Compile and simulate a bundled model at eight levels.")
@click.option(
    "--dir", "folder", type=FILLS, default="demo", show_default=True, metavar="DIR", help="Where the files go."
)
@click.option(
    "--engine", type=click.Choice(ENGINES), default=ENGINES[0], show_default=True, help="Both give the same bits."
)
@json_option
def command(folder: str, engine: str, as_json: bool) -> None:
    """Compile the bundled Fashion-MNIST classifier and run it on 300 test images at each of the paper's levels.

    What to try the other commands with goes into DIR too: model.onnx, samples.npz (calibration), image.npy (an input).
    """
    result = run(Path(folder), engine)
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
    click.echo(f"to try:  {' '.join(result['files'])}")


def run(folder: Path, engine: str) -> dict[str, Any]:
    """Compile, save, dump and simulate; what ``--json`` prints."""
    from mmac.compiler import Options, compile_model
    from mmac.compiler.stages import Dump
    from mmac.isa.container import save
    from mmac.runtime.report import estimate

    calibration, images, labels = _data()
    model, *more = _write_files(folder, calibration, images[:1])
    program_file, stages = folder / f"{MODEL}.mmac", folder / "stages"
    with output.progress("compile") as step:
        compiled = compile_model(model, Options(calibration={"image": calibration}), step, Dump(stages))
        save(compiled.program, program_file)
    accuracies = _accuracies(compiled.program, engine, images, labels)
    costs = estimate(compiled.program)
    kept = ("level", "alpha", "beta", "gamma", "latency_ms", "energy_mj", "weight_bytes")
    return {
        "program": str(program_file),
        "stages": str(stages),
        "files": [str(model), *map(str, more)],
        "images": len(images),
        "float_accuracy": _float_accuracy(model, images, labels),
        "levels": [
            {name: getattr(level, name) for name in kept} | {"accuracy": accuracy}
            for level, accuracy in zip(costs.levels, accuracies, strict=True)
        ],
    }


def _data() -> tuple[Images, Images, Labels]:
    """Calibration samples and test images as the model takes them, and the labels of the latter."""
    import numpy as np

    with (files("mmac.cli") / "data" / f"{DATA}.npz").open("rb") as file, np.load(file) as data:
        scaled = (data[key][:, None].astype(np.float32) / np.float32(255) for key in ("calibration", "images"))
        return *scaled, data["labels"]


def _write_files(folder: Path, calibration: Images, image: Images) -> list[Path]:
    """Write the model, its calibration samples and an input, but over nothing else.

    Raises:
        UsageError: the folder has other files of these names, or they cannot be written.
    """
    import io

    import numpy as np

    from mmac.isa.files import write_file
    from mmac.runtime.arrays import to_npz

    array = io.BytesIO()
    np.save(array, image)
    contents = {
        folder / "model.onnx": (files("mmac.cli") / "data" / f"{MODEL}.onnx").read_bytes(),
        folder / "samples.npz": to_npz({"image": calibration}),
        folder / "image.npy": array.getvalue(),
    }
    for path, content in contents.items():
        if path.exists() and path.read_bytes() != content:
            raise UsageError(str(path), "there is another file of this name", "a folder without", "give another --dir")
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        write_file(path, content)
    return list(contents)


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
