import base64
import dataclasses
import os
import pathlib
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.isa import asm, container, table
from mmac.isa.errors import MalformedError
from mmac.isa.spec import NONE_TOKEN, Instr, float_bits
from tests.isa import samples

GOLDEN = pathlib.Path(__file__).parent / "golden" / "sample.s"


@given(st.lists(samples.instructions(), max_size=6))
def test_code_round_trip(code: list[Instr]) -> None:
    assert asm.assemble_code(asm.disassemble_code(code)) == tuple(code)


def test_program_round_trip() -> None:
    program = samples.program()
    again = asm.assemble(asm.disassemble(program))
    assert container.to_bytes(again) == container.to_bytes(program)


@given(st.binary(max_size=300), st.binary(max_size=300), st.text(), st.text())
def test_bulk_data_and_names_round_trip(image: bytes, onnx: bytes, name: str, node: str) -> None:
    sample = samples.program()
    program = dataclasses.replace(
        sample,
        name=name,
        image=np.frombuffer(image, np.uint8),
        host=(dataclasses.replace(sample.host[0], onnx=onnx),),
        debug=(dataclasses.replace(sample.debug[0], node=node, op=name),),
    )
    assert container.to_bytes(asm.assemble(asm.disassemble(program))) == container.to_bytes(program)


def test_golden() -> None:
    """`UPDATE_GOLDEN=1 pytest tests/isa/test_asm.py` rewrites the file after an intended change."""
    text = asm.disassemble(samples.program(), data=False)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text, "utf-8")
    assert text == GOLDEN.read_text("utf-8"), "the disassembly has changed; UPDATE_GOLDEN=1 rewrites the golden file"


def test_without_data_it_is_for_reading_only() -> None:
    text = asm.disassemble(samples.program(), data=False)
    assert ".data" not in text
    assert "300 bytes left out" in text
    with pytest.raises(MalformedError, match="bytes of data"):
        asm.assemble(text)


@pytest.mark.parametrize(
    ("instr", "text"),
    [
        (table.Loop(count=4), "loop 4"),
        (table.End(), "end"),
        (table.SyncLoad(), "sync.load"),
        (table.SyncLoad(wait0=1, wait1=2, signal0=3), "sync.load wait=1,2 signal=3"),
        (table.SyncLoad(wait1=2), "sync.load wait=none,2"),
        (table.Pointer(p=3, pad=table.Pad.ACC, addr=64), "pointer p=p3 pad=acc addr=64"),
        (
            table.Walk(t=1, dim=2, origin=-3, extent=4, step=8, loop=2),
            "walk t=t1 dim=w origin=-3 extent=4 step=8 loop=d2",
        ),
        (
            table.Walk(t=1, dim=0, origin=0, extent=1, step=1, loop=14),
            "walk t=t1 dim=n origin=0 extent=1 step=1 loop=level",
        ),
        (table.Quant(a_scale=float_bits(0.1), y_max=127), "quant a_scale=0.1 y_max=127"),
        (table.Quant(a_scale=0x7FC00001, b_scale=0x80000000), "quant a_scale=0x7fc00001 b_scale=-0.0"),
        (table.Quant(a_scale=1, b_scale=0x7F800000), "quant a_scale=1e-45 b_scale=inf"),
    ],
)
def test_text_of_instructions(instr: Instr, text: str) -> None:
    assert asm.format_instr(instr) == text
    assert asm.assemble_code(text) == (instr,)


@given(st.integers(0, 2**32 - 1))
def test_every_binary32_is_exact(bits: int) -> None:
    instr = table.Quant(a_scale=bits)
    assert asm.assemble_code(asm.format_instr(instr)) == (instr,)


def test_loops_are_indented_even_if_they_do_not_match() -> None:
    code = [table.End(), table.Loop(count=2), table.SyncLoad(), table.End(), table.Halt()]
    assert asm.disassemble_code(code) == "end\nloop 2\n  sync.load\nend\nhalt\n"


def test_people_may_write_it_differently() -> None:
    text = "; a comment\r\n\n\tloop   count=0x10 ; sixteen\n load p=p1   t=t2 signal=5 wait=3\nend;\n"
    load = table.Load(t=2, p=1, wait0=3, signal0=5, wait1=NONE_TOKEN)
    assert asm.assemble_code(text) == (table.Loop(count=16), load, table.End())


SMALL = """.program {"name":"a","target":"b","scratchpads":{},"dram_bytes":0,"buffer":[0,0],"notes":{}} ; comment
.image {"bytes":0}
.data eJwDAAAAAAE=
"""


def test_the_smallest_program() -> None:
    program = asm.assemble(SMALL)
    assert (program.name, program.code, program.image.size) == ("a", (), 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  lood t=t0", "f.s:1:3: no instruction 'lood'; loop, load"),
        ("\nqqqq", "f.s:2:1: no instruction 'qqqq'; conv, end, halt"),
        ("loop", "f.s:1:5: loop without count"),
        ("loop x", "f.s:1:6: count = 'x'; 0…16777215"),
        ("loop 1 2", "f.s:1:8: operand '2' of loop; no more operands"),
        ("loop 16777216", "f.s:1:6: count = '16777216'; 0…16777215"),
        ("end 1", "f.s:1:5: operand '1' of end; no more operands"),
        ("load t=t0 p=p16", "f.s:1:13: p = 'p16'; p0…p15"),
        ("load t=p0 p=p1", "f.s:1:8: t = 'p0'; t0…t15"),
        ("load t=t0 q=p1", "f.s:1:11: operand 'q=p1' of load; each once: p=… wait=… signal=…"),
        ("load t=t0 t=t1 p=p0", "f.s:1:11: operand 't=t1' of load"),
        ("load t0 p=p0", "f.s:1:6: operand 't0' of load"),
        ("load t=t0", "f.s:1:10: load without p; all operands without default"),
        ("sync.load wait=31x", "f.s:1:16: wait = '31x'; 0…30, none"),
        ("sync.load wait=1,2,3", "f.s:1:16: wait = '1,2,3'; at most 2 values"),
        ("walk t=t0 dim=x origin=0 extent=1", "f.s:1:15: dim = 'x'; n, h, w, c"),
        ("walk t=t0 dim=h origin=0 extent=1 loop=1", "f.s:1:40: loop = '1'; d0…d13, none, level"),
        ("quant a_scale=1e39", "f.s:1:15: a_scale = '1e39'; a binary32 number, or 0x and its bits"),
        (".code", "f.s:1:6: Expecting value; a JSON value"),
        (".code 1", "f.s:1:1: no directive .code; .program, .level"),
        (".level \"9\"", "f.s:1: '9'; ALPHAxBETA"),
        (".level \"8x2\" 3", "f.s:1:13: '3' after the value"),
        (".level [NaN]", "f.s:1:8: NaN is not a number"),
        (".level " + "[" * 100_000, "f.s:1:8: .*; a JSON value"),
        (".tensor {}", "f.s:1: field 'name' is missing"),
        ('.prediction {"latency_ms":1,"energy_mj":"2","sqnr_db":null}', "f.s:1.energy_mj: '2'; a number"),
        (".image {}", "f.s:1:8: no size"),
        (".host 3", "f.s:1:7: no size"),
        (".data eJw=", "f.s:1:1: data of nothing; after .image or .host"),
        (SMALL + SMALL, "f.s:4:1: another directive .program; once only"),
        (SMALL + ".image {\"bytes\":0}", "f.s:4:1: another directive .image; once only"),
        (SMALL + ".data =", "f.s:2:1: data that cannot be unpacked"),
        (SMALL.replace('"bytes":0', '"bytes":1'), "f.s:2:1: 0 bytes of data; 1 bytes"),
        (SMALL.replace('"bytes":0', '"bytes":-1'), "f.s:2:8: no size"),
        (SMALL.replace('"name":"a",', ""), "f.s:1: field 'name' is missing"),
        ("halt", "f.s: no .program directive"),
        (SMALL.split("\n")[0], "f.s: no .image directive"),
    ],
)  # fmt: skip
def test_errors_say_where_what_and_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(MalformedError) as caught:
        asm.assemble(text, "f.s")
    assert str(caught.value).startswith(message.partition(".*")[0])
    assert str(caught.value).endswith(message.partition(".*")[2])


def test_a_bomb_is_not_unpacked() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(1 << 20))).decode()
    with pytest.raises(MalformedError, match="4 bytes of data; 3 bytes"):
        asm.assemble(SMALL.replace('"bytes":0', '"bytes":3').replace("eJwDAAAAAAE=", bomb))


@given(st.text(alphabet=st.sampled_from('loadt=p0123, ;\n."{}[]:xwnie'), max_size=60))
def test_random_text_gives_code_or_a_typed_error(text: str) -> None:
    try:
        code = asm.assemble_code(text)
    except MalformedError:
        return
    assert asm.assemble_code(asm.disassemble_code(code)) == code
