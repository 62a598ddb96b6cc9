"""Folding keeps the results of the float model and leaves the operators that are expected."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from mmac.compiler.graph import Fold, run
from tests.compiler.graph.small import feeds, imported, model, original, save

F = np.float32
RNG = np.random.default_rng(2)
CHANNELS: dict[str, Any] = {name: RNG.uniform(0.5, 1.5, 6).astype(F) for name in ("gamma", "beta", "mean", "variance")}
IMAGE = "(float[1,4,7,7] x) => (float[a,b,c,d] y)"
NORM = "BatchNormalization (c, gamma, beta, mean, variance)"
MATRIX = "(float[3,5] x) => (float[a,b] y)"

FOLDED: dict[str, tuple[onnx.ModelProto, list[str]]] = {
    "batch norm into conv": (
        model(
            f"{IMAGE} {{ c = Conv (x, w[6,4,3,3]) y = {NORM} }}",
            **CHANNELS,
        ),
        ["Conv"],
    ),
    "batch norm into transposed conv": (
        model(
            f"{IMAGE} {{ c = ConvTranspose (x, w[4,6,2,2], w[6]) y = {NORM} }}",
            **CHANNELS,
        ),
        ["ConvTranspose"],
    ),
    "batch norm of a shared conv": (
        model(
            f"{IMAGE} {{ c = Conv (x, w[6,4,1,1]) n = {NORM} y = Add (c, n) }}",
            **CHANNELS,
        ),
        ["Conv", "Mul", "Add", "Add"],
    ),
    "batch norm after matmul": (
        model(f"{MATRIX} {{ c = MatMul (x, w[5,6]) y = {NORM} }}", **CHANNELS),
        ["Gemm"],
    ),
    "batch norm over another axis": (
        model(
            f"(float[2,6,5] x) => (float[a,b,c] y) {{ c = MatMul (x, w[5,6]) y = {NORM} }}",
            **CHANNELS,
        ),
        ["MatMul", "Mul", "Add"],
    ),
    "factor and offset": (
        model(
            f"{IMAGE} {{ c = Conv (x, w[6,4,3,3], w[6]) m = Mul (g, c) y = Sub (m, b) }}",
            g=CHANNELS["gamma"].reshape(6, 1, 1),
            b=F(0.5),
        ),
        ["Conv"],
    ),
    "division": (model(f"{IMAGE} {{ c = Conv (x, w[6,4,3,3]) y = Div (c, d) }}", d=F(3)), ["Conv"]),
    "division by zero stays": (model(f"{IMAGE} {{ y = Div (x, d) }}", d=F(0)), ["Div"]),
    "offset that widens": (
        model(
            "(float[1,4,1,1] x) => (float[a,b,c,d] y) { c = Conv (x, w[6,4,1,1]) y = Add (c, o) }",
            o=np.ones((1, 6, 2, 3), F),
        ),
        ["Conv", "Add"],
    ),
    "offset along a row": (
        model(f"{IMAGE} {{ c = Conv (x, w[6,4,2,2]) y = Add (c, o) }}", o=np.arange(6, dtype=F)),
        ["Conv", "Add"],
    ),
    "padding": (
        model(
            f"{IMAGE} {{ p = Pad (x, n) y = Conv <pads=[0,1,0,0]> (p, w[6,4,3,3]) }}",
            n=np.array([0, 0, 1, 2, 0, 0, 0, 1]),
        ),
        ["Conv"],
    ),
    "padding with ones stays": (
        model(
            f"{IMAGE} {{ p = Pad (x, n, v) y = Conv (p, w[6,4,3,3]) }}", n=np.array([0, 0, 1, 1, 0, 0, 1, 1]), v=F(1)
        ),
        ["Pad", "Conv"],
    ),
    "padding of channels stays": (
        model(f"{IMAGE} {{ p = Pad (x, n) y = Conv (p, w[6,5,3,3]) }}", n=np.array([0, 1, 1, 1, 0, 0, 1, 1])),
        ["Pad", "Conv"],
    ),
    "padding of a pool": (
        model(
            f"{IMAGE} {{ p = Pad (x, n) y = AveragePool <kernel_shape=[3,3]> (p) }}",
            n=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        ),
        ["AveragePool"],
    ),
    "dropout and identity": (
        model(f"{IMAGE} {{ i = Identity (x) d, m = Dropout (i) r = Relu (d) y = Identity (r) }}"),
        ["Relu"],
    ),
    "identity of another output": (
        model("(float[1,4] x) => (float[a,b] y, float[c,d] z) { y = Relu (x) z = Identity (y) }"),
        ["Relu", "Identity"],
    ),
    "identity of the input": (model(f"{IMAGE} {{ y = Identity (x) }}"), ["Identity"]),
    "no-ops": (
        model(
            IMAGE
            + "{ a = Reshape (x, s) b = Transpose <perm=[0,1,2,3]> (a) c = Pad (b, n)"
            + " d = Cast <to=1> (c) e = Expand (d, s) f = Concat <axis=1> (e) y = Neg (f) }",
            s=np.array([1, 4, 7, 7]),
            n=np.zeros(8, np.int64),
        ),
        ["Neg"],
    ),
    "reversal stays": (
        model(f"{IMAGE} {{ y = Slice (x, a, b, c, a) }}", a=np.array([-1]), b=np.array([-100]), c=np.array([3])),
        ["Slice"],
    ),
    "crop and pad stays": (model(f"{IMAGE} {{ y = Pad (x, n) }}", n=np.array([0, 0, 1, 0, 0, 0, -1, 0])), ["Pad"]),
    "constants": (
        model(
            IMAGE
            + "{ a = Constant <value_floats=[1.0,2.0]> () b = ReduceSum <keepdims=0> (a)"
            + " c = Sqrt (b) y = Mul (x, c) }"
        ),
        ["Mul"],
    ),
    "shapes": (
        model(
            IMAGE
            + "{ s = Shape (x) h = Gather (s, i) n = Unsqueeze (h, z) m = Concat <axis=0> (one, n, minus)"
            + " r = Reshape (x, m) q = Shape (r) y = Reshape (r, q) }",
            i=np.array(2),
            z=np.array([0]),
            one=np.array([1]),
            minus=np.array([28, 1]),
        ),
        ["Reshape"],
    ),
    "gemm": (
        model(f"{MATRIX} {{ y = Gemm <alpha=2.0, beta=0.5, transB=1> (x, w[6,5], b) }}", b=np.ones((1, 6), F)),
        ["Gemm"],
    ),
    "gemm of a column": (
        model(f"{MATRIX} {{ y = Gemm <beta=2.0> (x, w[5,6], b) }}", b=np.arange(3, dtype=F).reshape(3, 1)),
        ["Gemm", "Add"],
    ),
    "gemm of one": (model(f"{MATRIX} {{ y = Gemm (x, w[5,6], b) }}", b=F(2)), ["Gemm"]),
    "gemm of a square": (
        model("(float[6,5] x) => (float[a,b] y) { y = Gemm (x, w[5,6], b) }", b=np.arange(6, dtype=F).reshape(6, 1)),
        ["Gemm", "Add"],
    ),
    "gemm transposed": (model(f"{MATRIX} {{ y = Gemm <transA=1> (x, w[3,6]) }}"), ["Transpose", "Gemm"]),
    "gemm with a run-time addend": (
        model("(float[3,5] x, float[3,6] c) => (float[a,b] y) { y = Gemm (x, w[5,6], c) }"),
        ["Gemm", "Add"],
    ),
    "sums": (model(f"{IMAGE} {{ a = Relu (x) b = Neg (x) y = Sum (x, a, b) }}"), ["Relu", "Neg", "Add", "Add"]),
    "sum of one": (model(f"{IMAGE} {{ a = Relu (x) y = Sum (a) }}"), ["Relu"]),
    "mean without axes kept": (
        model("(float[2,4,7,7] x) => (float[a,b] y) { y = ReduceMean <axes=[2,3], keepdims=0> (x) }"),
        ["AveragePool", "Reshape"],
    ),
    "mean of rows": (
        model("(float[2,4,7,7] x) => (float[a,b,c] y) { y = ReduceMean <axes=[-1], keepdims=0> (x) }"),
        ["AveragePool", "Reshape"],
    ),
    "mean over channels stays": (model(f"{IMAGE} {{ y = ReduceMean <axes=[1]> (x) }}"), ["ReduceMean"]),
    "uniform slope": (model(f"{IMAGE} {{ y = PRelu (x, s) }}", s=np.full((4, 1, 1), 0.1, F)), ["PRelu"]),
}


@pytest.mark.parametrize("name", FOLDED)
def test_fold(name: str, tmp_path: Path) -> None:
    proto, expected = FOLDED[name]
    before = imported(proto, tmp_path)
    text = str(before)
    after = Fold().apply(before)
    assert [node.op_type for node in after.graph] == expected
    assert str(before) == text, "the argument was changed"
    assert [v.name for v in after.graph.outputs] == [v.name for v in before.graph.outputs]
    for array, reference in zip(run(after, feeds(proto)).values(), original(proto, feeds(proto)), strict=True):
        np.testing.assert_allclose(array, reference, atol=1e-4, rtol=1e-4)


def test_integers_are_not_pooled(tmp_path: Path) -> None:
    proto = model("(int32[1,2,3,4] x) => (int32[a,b,c,d] y) { y = ReduceMax <axes=[2,3]> (x) }")
    assert [node.op_type for node in Fold().apply(imported(proto, tmp_path)).graph] == ["ReduceMax"]


def test_sources_are_joined(tmp_path: Path) -> None:
    folded = Fold().apply(imported(FOLDED["batch norm into conv"][0], tmp_path))
    assert folded.graph[0].metadata_props["mmac.source"] == "conv0;batchnormalization1"


def test_budgets_of_training_survive(tmp_path: Path) -> None:
    proto = model(FOLDED_GEMM)
    for node in proto.graph.node:
        node.metadata_props.add(key="mmac.alpha", value="8,9")
    folded = Fold().apply(imported(proto, tmp_path))
    assert [node.metadata_props["mmac.alpha"] for node in folded.graph if node.op_type in ("Gemm", "MatMul")] == [
        "8,9"
    ] * 2


FOLDED_GEMM = "(float[3,5] x, float[3,6] c) => (float[a,b] y) { g = Gemm (x, w[5,6], c) y = MatMul (w[2,3], g) }"


def test_weights_behind_dequantize_stay(tmp_path: Path) -> None:
    text = "(float[1,4] x) => (float[a,b] y) { w0 = DequantizeLinear (q, s) y = MatMul (x, w0) }"
    proto = model(text, q=np.ones((4, 3), np.int8), s=F(0.5))
    assert [node.op_type for node in Fold().apply(imported(proto, tmp_path)).graph] == ["DequantizeLinear", "MatMul"]


def test_float_weights_are_quantized_when_the_model_says_so(tmp_path: Path) -> None:
    text = """(float[1,4] x) => (float[a,b] y) {
        q = QuantizeLinear (w[4,3], s)
        d = DequantizeLinear (q, s)
        y = MatMul (x, d)
    }"""
    folded = Fold().apply(imported(model(text, s=F(0.5)), tmp_path))
    assert [node.op_type for node in folded.graph] == ["DequantizeLinear", "MatMul"]
    assert folded.graph[0].inputs[0] is not None
    assert folded.graph[0].inputs[0].dtype == ir.DataType.UINT8


def test_same_bytes_whatever_the_hash_seed(tmp_path: Path) -> None:
    """The whole chain, in two processes that order sets differently."""
    path = save(FOLDED["batch norm of a shared conv"][0], tmp_path)
    script = """
import sys, hashlib, warnings
import onnx_ir as ir
from mmac.compiler.frontend import ImportModel
from mmac.compiler.graph import Budget, Fold, Partition, Quantize, Terms
warnings.simplefilter("ignore")
state = ImportModel().apply(sys.argv[1])
for step in (Fold(), Quantize(), Budget(), Partition(), Terms()):
    state = step.apply(state)
    print(hashlib.sha256(ir.serde.serialize_model(state).SerializeToString()).hexdigest())
"""
    digests = [
        subprocess.run(
            [sys.executable, "-c", script, str(path)],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "123")
    ]
    assert digests[0] == digests[1]
    assert len(digests[0].split()) == 5
