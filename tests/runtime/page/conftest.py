"""Programs to report on."""

from __future__ import annotations

import dataclasses

import onnx
import pytest

from mmac.compiler import compile_model
from mmac.isa.program import Program
from mmac.runtime.page.subject import Subject
from mmac.runtime.targets import CONSTANT_SETS
from tests.commands import DATA
from tests.runtime.page.pages import HOSTILE
from tests.runtime.trace import documents


@pytest.fixture(scope="session")
def program() -> Program:
    """The bundled classifier: 16 layers, two residual additions, everything in the buffer but the image's input."""
    with pytest.warns(UserWarning, match="calibration"):
        return compile_model(DATA / "fashion_mnist_cnn.onnx").program


@pytest.fixture(scope="session")
def hostile(program: Program) -> Program:
    """The same program, named by somebody who wants to run a script in the reader's browser."""
    debug = tuple(
        dataclasses.replace(entry, node=HOSTILE[number % len(HOSTILE)], op=HOSTILE[-number % len(HOSTILE)])
        for number, entry in enumerate(program.debug)
    )
    return dataclasses.replace(program, name=HOSTILE[0], debug=debug, notes={HOSTILE[1]: HOSTILE[2]})


@pytest.fixture(scope="session")
def subject(program: Program) -> Subject:
    return Subject.of(program, None, None, CONSTANT_SETS[0], None)


@pytest.fixture(scope="session")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A program with a host segment."""
    path = tmp_path_factory.mktemp("hosted") / "hosted.onnx"
    onnx.save(documents.hosted(), path)
    with pytest.warns(UserWarning, match="calibration"):
        return compile_model(path).program
