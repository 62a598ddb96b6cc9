"""The `.mmac` file: a `safetensors` container with one metadata entry.

Tensors, all uint8: ``code`` [n, 16] (`mmac.isa.codec`), ``image``, and ``host.0`` … (ONNX bytes of the host segments).
The metadata entry ``mmac`` is canonical JSON: format version, digest of the instruction table, everything else of the
`Program`, and a SHA-256 over all of that and the tensors. Equal programs give equal bytes. The digest guards against
damage, not against malice: whatever passes it still has to get past `mmac.isa.verify`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from mmac.isa import codec, records
from mmac.isa.errors import MalformedError, ResourceError, UsageError
from mmac.isa.files import write_file
from mmac.isa.program import HostSegment, Program
from mmac.isa.spec import WORD_BYTES, table_digest

VERSION = 2
"""Version of the file format; a reader accepts its own only."""

_KEY = "mmac"
_RECOMPILE = "compile the model again with this version"
_WRITTEN = "a file that `mmac compile` wrote"
_ONNX_FIELDS = frozenset(field << 3 | 2 for field in (2, 3, 4, 6, 7, 8))
"""Protobuf tags that follow an ONNX model's ``ir_version`` (field 1): its strings, graph and opsets."""

_BULK = ("code", "image", "host")

Bytes = npt.NDArray[np.uint8]


def save(program: Program, path: str | os.PathLike[str]) -> None:
    """Write a program; either the whole file appears or nothing.

    Raises:
        ResourceError: the disk is full.
        UsageError: the file cannot be written for another reason.
    """
    write_file(path, to_bytes(program))


def load(path: str | os.PathLike[str]) -> Program:
    """Read a program.

    The file is read whole rather than mapped, so that what was verified cannot change under a running engine.

    Raises:
        UsageError: the file cannot be read.
        ResourceError: it does not fit in memory.
        MalformedError: it is not an intact program of this version.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(str(path), f"cannot be read ({error.strerror})", _WRITTEN) from None
    except MemoryError:
        raise ResourceError(str(path), "does not fit in memory", hint="close other programs") from None
    return from_bytes(data, str(path))


def to_bytes(program: Program) -> bytes:
    """The content of a program's file."""
    tensors = {"code": codec.encode(program.code), "image": np.ascontiguousarray(program.image)}
    tensors |= {f"host.{i}": np.frombuffer(part.onnx, np.uint8) for i, part in enumerate(program.host)}
    about = {
        "version": VERSION,
        "isa": table_digest(),
        "program": records.to_json(program, skip=_BULK),
        "host": [records.to_json(part, skip=("onnx",)) for part in program.host],
    }
    about["sha256"] = _digest(about, tensors)
    return safetensors.numpy.save(tensors, {_KEY: records.dumps(about)})


def from_bytes(data: bytes, where: str = "program") -> Program:
    """Parse the content of a program's file; `where` names it in errors.

    Raises:
        MalformedError: it is not an intact program of this version.
    """
    tensors = _tensors(data, where)
    about = _about(data, where)
    _check_header(about, where)
    if about["sha256"] != _digest({k: v for k, v in about.items() if k != "sha256"}, tensors):
        raise MalformedError(where, "the checksum does not fit the content", "", f"the file is damaged; {_RECOMPILE}")
    host = _host(about["host"], tensors, where)
    if tensors.keys() != {"code", "image", *(f"host.{i}" for i in range(len(host)))}:
        raise MalformedError(where, f"tensors {', '.join(sorted(tensors))}", "code, image, and one per host segment")
    if tensors["image"].ndim != 1 or tensors["code"].shape[1:] != (WORD_BYTES,):
        raise MalformedError(where, "image or code of another shape", f"[bytes] and [instructions, {WORD_BYTES}]")
    code = codec.decode(tensors["code"])
    return records.from_json(Program, about["program"], where, code=code, image=tensors["image"], host=host)


def _tensors(data: bytes, where: str) -> dict[str, Bytes]:
    try:
        stored = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]  # its stub has no annotations
    except safetensors.SafetensorError as error:
        if len(data) > 2 and data[0] == 1 << 3 and data[2] in _ONNX_FIELDS:
            raise MalformedError(
                where, "looks like an ONNX model", _WRITTEN, "use `mmac compile` on it first"
            ) from None
        raise MalformedError(where, f"not an intact .mmac file ({error})", _WRITTEN, _RECOMPILE) from None
    for name, tensor in stored.items():
        if tensor["dtype"] != "U8":
            raise MalformedError(where, f"tensor {name!r} of {tensor['dtype']}", "U8")
    return {name: _array(tensor) for name, tensor in stored.items()}


def _array(tensor: Mapping[str, Any]) -> Bytes:
    array = np.frombuffer(tensor["data"], np.uint8).reshape(tensor["shape"])
    array.flags.writeable = False
    return array


def _about(data: bytes, where: str) -> dict[str, Any]:
    # `deserialize` has already accepted this header: length, JSON, string metadata
    header = records.loads(data[8 : 8 + int.from_bytes(data[:8], "little")].decode(), where)
    text = (header.get("__metadata__") or {}).get(_KEY)
    if text is None:
        raise MalformedError(where, "a safetensors file that is not a program", _WRITTEN)
    about = records.loads(text, where)
    if not isinstance(about, dict):
        raise MalformedError(where, "metadata that is not an object")
    return about


def _check_header(about: Mapping[str, Any], where: str) -> None:
    if about.get("version") != VERSION:
        raise MalformedError(where, f"format version {about.get('version')!r}", f"version {VERSION}", _RECOMPILE)
    if about.get("isa") != table_digest():
        raise MalformedError(where, "made for another instruction table", table_digest()[:12], _RECOMPILE)
    if about.keys() != {"version", "isa", "program", "host", "sha256"}:
        raise MalformedError(where, f"metadata {', '.join(sorted(about))}", "version, isa, program, host, sha256")


def _host(segments: Any, tensors: Mapping[str, Bytes], where: str) -> tuple[HostSegment, ...]:
    if not isinstance(segments, list):
        raise MalformedError(f"{where}.host", "not a list", "a list of host segments")
    if missing := [i for i in range(len(segments)) if f"host.{i}" not in tensors]:
        raise MalformedError(f"{where}.host[{missing[0]}]", "its model is missing")
    return tuple(
        records.from_json(HostSegment, part, f"{where}.host[{i}]", onnx=tensors[f"host.{i}"].tobytes())
        for i, part in enumerate(segments)
    )


def _digest(about: Mapping[str, Any], tensors: Mapping[str, Bytes]) -> str:
    sha = hashlib.sha256(records.dumps(about).encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"\n{name} {tensor.shape}\n".encode())
        sha.update(np.ascontiguousarray(tensor).data)
    return sha.hexdigest()
