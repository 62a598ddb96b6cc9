"""A small classifier, compiled for several batch sizes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from mmac.compiler import Options, compile_model
from mmac.isa.plan import FULL, Level
from mmac.isa.program import Program
from mmac.runtime import Session
from tests.compiler.graph.small import model

CLASSES = 12
LEVELS = (Level(2, 1), Level(8, 2), FULL)
TEXT = """(float[n,3,6,4] image) => (float[n,12] scores, float[n,5] more) {
    c = Conv <pads=[1,1,1,1]> (image, w[8,3,3,3], w[8])
    r = Relu (c)
    d = Conv (r, w[16,8,3,3], w[16])
    f = Flatten (d)
    scores = Gemm <transB=1> (f, w[12,128], w[12])
    more = Gemm <transB=1> (f, w[5,128], w[5])
}"""


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, 6, 4)).astype(np.float32)


@cache
def original() -> onnx.ModelProto:
    return model(TEXT)


@cache
def program(batch: int = 1) -> Program:
    with TemporaryDirectory() as folder:
        onnx.save(original(), path := Path(folder) / "model.onnx")
        # whole batches of samples, and nothing that depends on how they are cut: the programs compute the same
        options = Options(LEVELS, calibration={"image": images(18, 1)}, correct=False, dims={"n": batch})
        return compile_model(path, options).program


def scores(data: np.ndarray, level: int) -> np.ndarray:
    """One image after the other."""
    session = Session(program())
    return np.concatenate([session.run(["scores"], {"image": image[None]}, level)[0] for image in data])
