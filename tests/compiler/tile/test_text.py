"""The text form of the tile IR parses back to the same program, at every stage."""

import pytest

from mmac.compiler.pipeline import Options, run_passes
from mmac.compiler.tile.text import parse, to_text
from mmac.isa.errors import MalformedError
from tests.compiler import nets


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return nets.save("branches", tmp_path_factory.mktemp("nets"))


@pytest.mark.parametrize("stage", ["tile", "pack", "schedule", "allocate"])
@pytest.mark.filterwarnings("ignore::mmac.compiler.passes.MmacWarning")
def test_round_trip(model, stage):
    module, _ = run_passes(model, Options(), stage)
    text = to_text(module)
    assert parse(text, module) == module
    assert to_text(parse(text, module)) == text
    assert max(map(len, text.splitlines())) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TileProgram(", "line 1, column 12: '\\(' was never closed"),
        ("Buffer(name='b', size_bytes=4)", "line 1: a Buffer; a TileProgram"),
        ("Nonsense(x=1)", "line 1, column 1: unexpected 'Nonsense\\(x=1\\)'"),
        ("__import__('os')", "unexpected"),
        ("Buffer(name='b')", "missing 1 required positional argument"),
        ("PointerRegister(pad=Pad.NONE, addr=0, toggle=0)", "no Pad is called NONE"),
        ("Loop(count=-1)", "outside"),
    ],
)
@pytest.mark.filterwarnings("ignore::mmac.compiler.passes.MmacWarning")
def test_errors_name_the_place(model, text, message):
    module, _ = run_passes(model, Options(), "tile")
    with pytest.raises(MalformedError, match=message):
        parse(text, module)
