"""Whole compilations, and their results against plain onnxruntime on the model after `terms`, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort

from mmac.compiler.emit import Emit
from mmac.compiler.graph import Terms
from mmac.compiler.pipeline import PASS_NAMES, Options, passes
from mmac.compiler.tile.check import check
from mmac.compiler.tile.ir import TileProgram
from mmac.isa.program import Program
from mmac.runtime import Session
from mmac.runtime.targets import Target, load_target
from tests.compiler import nets

Array = npt.NDArray[Any]

TARGETS = {
    "vc707": lambda: load_target("vc707"),
    "zedboard": lambda: load_target("zedboard"),
    "tiny": nets.tiny_target,
    "tiny3": lambda: nets.tiny_target(2, 6),
}


def front_end(model: onnx.ModelProto, folder: Path, budgets: Mapping[str, Mapping[str, Any]] | None = None) -> ir.Model:
    """The model after `partition`."""
    path = folder / f"{model.graph.name}.onnx"
    onnx.save(model, path)
    state: Any = path
    options = Options(calibration=nets.inputs(model, 7), budgets=budgets or {})
    for step in passes(options)[: PASS_NAMES.index("partition") + 1]:
        state = step.apply(state)
    partitioned: ir.Model = state
    return partitioned


def tile_program(model: ir.Model, target: Target) -> TileProgram:
    """All that pass `emit` needs, checked after each pass."""
    state: Any = Terms().apply(model)
    for step in passes(Options(), target)[PASS_NAMES.index("tile") : -1]:
        state = step.apply(state)
        check(state)
    allocated: TileProgram = state
    return allocated


def back_end(model: ir.Model, target: Target) -> Program:
    """The program."""
    return Emit(target).apply(tile_program(model, target))


def exact_tensors(model: ir.Model, level: int, names: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
    """The tensors as plain onnxruntime computes them with the model after `terms`."""
    proto = ir.to_proto(Terms(level=level).apply(model))
    present = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return ort.InferenceSession(proto.SerializeToString(), options).run(names, feeds)


def wrong_tensors(
    model: ir.Model,
    program: Program,
    feeds: Mapping[str, Array],
    levels: Sequence[int],
    engines: Sequence[str] = ("reference", "fast"),
) -> list[tuple[str, int, str]]:
    """(engine, level, name) of each model output and tensor in DRAM that is not what onnxruntime gives."""
    names = list(dict.fromkeys([*(p.name for p in program.outputs), *(t.name for t in program.tensors if t.place)]))
    sessions = {engine: Session(program, engine=engine) for engine in engines}
    wrong = []
    for level in levels:
        expected = exact_tensors(model, level, names, feeds)
        for engine, session in sessions.items():
            found = session.run(names, feeds, level=level)
            wrong += [
                (engine, level, name)
                for name, ours, theirs in zip(names, found, expected, strict=True)
                if not np.array_equal(ours, theirs)
            ]
    return wrong
