"""Who may import whom: isa ← runtime ← compiler ← cli, and a runtime that works without the compiler."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mmac.compiler import Options, compile_model
from mmac.isa.container import save
from mmac.runtime import Session
from tests.commands import DATA, ROOT

LAYERS = ("isa", "runtime", "compiler", "cli")


def sources(layer: str) -> list[Path]:
    return sorted((ROOT / layer / "mmac" / layer).rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    """Modules that a file imports anywhere, lazily too."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            if node.module == "mmac":
                yield from (f"mmac.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_itself_and_those_before_it(layer: str) -> None:
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    assert sources(layer)
    for file in sources(layer):
        for name in imports(file):
            if name.split(".")[0] == "mmac":
                assert name.split(".")[1] in allowed, f"{file} imports {name}"


@pytest.mark.parametrize(
    ("layer", "forbidden"), [("isa", "onnx onnxruntime onnx_ir click"), ("runtime", "onnx_ir click")]
)
def test_lower_layers_do_without_the_packages_of_higher_ones(layer: str, forbidden: str) -> None:
    for file in sources(layer):
        assert not {name.split(".")[0] for name in imports(file)} & set(forbidden.split()), file


def test_the_namespace_itself_has_no_code() -> None:
    assert not [path for layer in LAYERS for path in (ROOT / layer / "mmac").glob("*.py")]


def run(code: str, layers: tuple[str, ...], *arguments: object) -> str:
    """Run Python with only some layers on the path, even if an editable install puts all of them there."""
    env = os.environ | {"PYTHONPATH": ":".join(str(ROOT / layer) for layer in layers)}
    hidden = [str(ROOT / layer) for layer in LAYERS if layer not in layers]
    hide = f"import sys; sys.path[:] = [path for path in sys.path if path not in {hidden}]"
    line = [sys.executable, "-c", f"{hide}\n{code}", *map(str, arguments)]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module("mmac." + sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*{name.split(".")[1] for name in sys.modules if name.startswith("mmac.")})
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_every_module_of_a_layer_can_be_imported_without_the_layers_above(layer: str) -> None:
    layers = LAYERS[: LAYERS.index(layer) + 1]
    assert set(run(IMPORT_ALL, layers, layer).split()) <= set(layers)


EXECUTE = """
import importlib.util, sys, numpy
from mmac.runtime import Session
assert importlib.util.find_spec("mmac.compiler") is None
session = Session(sys.argv[1])
(logits,) = session.run(None, {"image": numpy.load(sys.argv[2])}, level="12x2")
numpy.save(sys.argv[3], logits)
print(session.report.levels[0].cycles)
"""


COMMANDS = """
import importlib.util, shlex, sys
from mmac.cli import main
assert importlib.util.find_spec("mmac.compiler") is None
for line in sys.argv[1:]:
    try:
        main(shlex.split(line))
    except SystemExit as end:
        assert end.code == 0, line
"""


def test_the_commands_about_programs_run_without_the_compiler(tmp_path: Path) -> None:
    with np.load(DATA / "fashion_mnist_test.npz") as data:
        image = data["images"][:1, None].astype(np.float32) / np.float32(255)
    save(compile_model(DATA / "fashion_mnist_cnn.onnx", Options(calibration={"image": image})).program, tmp_path / "a")
    np.save(tmp_path / "x.npy", image)
    lines = (
        "simulate {0}/a --layers --trace {0}/t.json --report {0}/r.html",
        "simulate {0}/a -i image={0}/x.npy -o {0}/y.npz --json",
        "disasm {0}/a -o {0}/a.s",
        "asm {0}/a.s -o {0}/b",
    )
    run(COMMANDS, ("isa", "runtime", "cli"), *(line.format(tmp_path) for line in lines))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert {"t.json", "r.html", "y.npz"} < {path.name for path in tmp_path.iterdir()}


def test_a_program_runs_without_the_compiler(tmp_path: Path) -> None:
    with np.load(DATA / "fashion_mnist_test.npz") as data:
        image = data["images"][:1, None].astype(np.float32) / np.float32(255)
    program = compile_model(DATA / "fashion_mnist_cnn.onnx", Options(calibration={"image": image})).program
    save(program, tmp_path / "a.mmac")
    np.save(tmp_path / "x.npy", image)
    cycles = run(EXECUTE, ("isa", "runtime"), tmp_path / "a.mmac", tmp_path / "x.npy", tmp_path / "y.npy")
    session = Session(program)
    assert int(cycles) == session.report.levels[0].cycles
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), session.run(None, {"image": image}, level="12x2")[0])
