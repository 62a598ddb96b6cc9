import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from mmac.isa import container
from mmac.isa.errors import MalformedError, UsageError
from mmac.isa.program import Program
from tests.isa import samples

DATA = container.to_bytes(samples.program())


def same(one: Program, other: Program) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        if field.name == "image"
        else getattr(one, field.name) == getattr(other, field.name)
        for field in dataclasses.fields(one)
    )


def forged(change: Callable[[Any], object] = lambda about: None, **tensors: npt.NDArray[Any] | None) -> bytes:
    """The sample with other content and a checksum that fits it."""
    stored = safetensors.numpy.load(DATA)
    about = json.loads(json.loads(DATA[8 : 8 + int.from_bytes(DATA[:8], "little")])["__metadata__"]["mmac"])
    del about["sha256"]
    change(about)
    stored = {name: array for name, array in {**stored, **tensors}.items() if array is not None}
    about["sha256"] = container._digest(about, stored)
    return safetensors.numpy.save(stored, {"mmac": json.dumps(about)})


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.mmac"
    container.save(samples.program(), path)
    assert path.read_bytes() == DATA
    program = container.load(path)
    assert same(program, samples.program())
    assert container.to_bytes(program) == DATA
    assert not program.image.flags.writeable


def test_a_program_without_host_or_image() -> None:
    small = dataclasses.replace(samples.program(), host=(), image=np.zeros(0, np.uint8), debug=(), notes={})
    assert same(container.from_bytes(container.to_bytes(small)), small)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_bytes_do_not_depend_on_the_hash_seed(seed: str) -> None:
    script = (
        "import sys; from mmac.isa import container; from tests.isa import samples; "
        "sys.stdout.buffer.write(container.to_bytes(samples.program()))"
    )
    environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}
    assert (
        subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True).stdout == DATA
    )


def test_the_file_is_a_plain_safetensors_file() -> None:
    assert set(safetensors.numpy.load(DATA)) == {"code", "image", "host.0"}
    assert safetensors.numpy.load(DATA)["code"].shape == (len(samples.program().code), 16)


def test_every_truncation_is_refused() -> None:
    for length in range(0, len(DATA), 7):
        with pytest.raises(MalformedError, match="not an intact"):
            container.from_bytes(DATA[:length])


def test_every_damaged_byte_is_refused() -> None:
    generator = np.random.default_rng(0)
    for position in range(0, len(DATA), 3):
        damaged = bytearray(DATA)
        damaged[position] ^= generator.integers(1, 256)
        with pytest.raises(MalformedError):
            container.from_bytes(bytes(damaged))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an intact .mmac file"),
        (b"PK\x03\x04 not this", "not an intact .mmac file"),
        ((2**63).to_bytes(8, "little") + b"{}", "not an intact .mmac file"),
        (DATA + b"more", "not an intact .mmac file"),
        (safetensors.numpy.save({"a": np.zeros(3, np.uint8)}), "not a program; a file that `mmac compile` wrote"),
        (safetensors.numpy.save({"a": np.zeros(3, np.float32)}), "tensor 'a' of F32; U8"),
        (safetensors.numpy.save({"a": np.zeros(3, np.uint8)}, {"mmac": "[]"}), "metadata that is not an object"),
        (safetensors.numpy.save({"a": np.zeros(3, np.uint8)}, {"mmac": "[" * 9999}), "not JSON"),
        (forged(lambda about: about.update(version=1)), "format version 1; version 2; compile the model again"),
        (forged(lambda about: about.update(isa="00")), "another instruction table"),
        (forged(lambda about: about.update(more=1)), "metadata .*more.*; version, isa, program, host, sha256"),
        (forged(lambda about: about.pop("host")), "metadata"),
        (forged(lambda about: about.update(host={})), "host: not a list"),
        (forged(lambda about: about["host"].append({})), r"host\[1\]: its model is missing"),
        (forged(lambda about: about["host"][0].pop("nodes")), r"host\[0\]: field 'nodes' is missing"),
        (forged(lambda about: about.update(program=None)), "None; an object"),
        (forged(lambda about: about["program"].pop("tensors")), "field 'tensors' is missing"),
        (forged(lambda about: about["program"].update(dram_bytes="8")), "dram_bytes: '8'; an integer"),
        (forged(lambda about: about["program"].pop("buffer")), "field 'buffer' is missing"),
        (forged(lambda about: about["program"].update(buffer=[64])), r"buffer: \[64\]; a list of 2 items"),
        (forged(lambda about: about["program"].update(buffer=[0, 6.4])), r"buffer\[1\]: 6.4; an integer"),
        (forged(lambda about: about["program"].pop("predictions")), "field 'predictions' is missing"),
        (forged(lambda about: about["program"].update(predictions=[[]])), r"predictions\[0\]: \[\]; an object"),
        (forged(lambda about: about["program"]["plan"].update(levels=["0x1"])), r"levels\[0\]: '0x1'; alpha 1…64"),
        (forged(extra=np.zeros(1, np.uint8)), "tensors code, extra, host.0, image"),
        (forged(image=None), "tensors code, host.0"),
        (forged(image=np.zeros((2, 2), np.uint8)), "image or code of another shape"),
        (forged(code=np.zeros((2, 15), np.uint8)), "image or code of another shape"),
        (forged(code=np.zeros(16, np.uint8)), "image or code of another shape"),
        (forged(code=np.full((1, 16), 255, np.uint8)), "instruction 0: opcode 0xff"),
    ],
)  # fmt: skip
def test_what_an_adversary_can_write_is_refused(data: Any, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        container.from_bytes(data)


def test_a_forged_checksum_alone_is_not_enough_to_fail() -> None:
    assert container.from_bytes(forged()).name == "sample"


def test_random_changes_to_the_metadata_give_typed_errors_or_programs() -> None:
    generator = np.random.default_rng(1)
    values: list[Any] = [None, -1, 2**70, 0.5, "", [], {}, "full", [[]], True]
    refused = 0
    for _ in range(300):

        def change(about: Any) -> None:
            node, parents = about["program"], []
            while isinstance(node, dict | list) and node:
                keys = list(node) if isinstance(node, dict) else range(len(node))
                key = keys[generator.integers(len(keys))]
                parents.append((node, key))
                node = node[key]
            parent, key = parents[generator.integers(len(parents))]
            parent[key] = values[generator.integers(len(values))]

        try:
            container.to_bytes(container.from_bytes(forged(change)))
        except MalformedError:
            refused += 1
    assert refused > 0


def test_changes_within_numbers_of_the_metadata_give_typed_errors() -> None:
    """One digit becomes part of another number: an exponent makes it larger than binary64, a point a fraction."""
    end = 8 + int.from_bytes(DATA[:8], "little")
    digits = [position for position in range(8, end) if DATA[position : position + 1].isdigit()]
    assert len(digits) > 100
    for position in digits:
        for character in b"Ee.-9":
            bad = DATA[:position] + bytes([character]) + DATA[position + 1 :]
            if bad != DATA:
                with pytest.raises(MalformedError):
                    container.from_bytes(bad)


def test_an_onnx_model_is_recognized() -> None:
    model = b"\x08\x08\x12\x07pytorch:\x02\x0a\x00B\x02\x10\x11"
    with pytest.raises(MalformedError, match="p: looks like an ONNX model; a file that `mmac compile` wrote; use"):
        container.from_bytes(model, "p")


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.mmac: cannot be read"):
        container.load(tmp_path / "nothing.mmac")
    with pytest.raises(UsageError, match="cannot be read"):
        container.load(tmp_path)
    with pytest.raises(UsageError, match="cannot be written"):
        container.save(samples.program(), tmp_path / "no" / "a.mmac")
