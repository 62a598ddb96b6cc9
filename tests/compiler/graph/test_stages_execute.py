"""Every stage runs in plain onnxruntime, and gives what the stage before it gave."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mmac.compiler.frontend import ImportModel
from mmac.compiler.graph import Budget, Fold, Partition, Quantize, Terms, run
from mmac.isa.plan import FULL, PAPER_LEVELS
from tests.commands import DATA
from tests.compiler.graph import machine
from tests.compiler.graph.small import feeds, model, original, samples, save

RESNET = """
    (float[1,3,16,15] x) => (float[1,10] y) {
        c0 = Conv <kernel_shape=[3,3], auto_pad="SAME_UPPER"> (x, w[16,3,3,3])
        n0 = BatchNormalization (c0, gamma, beta, mean, variance)
        a0 = Relu (n0)
        p0 = MaxPool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1> (a0)
        c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (p0, w[16,16,3,3], w[16])
        n1 = BatchNormalization (c1, gamma, beta, mean, variance)
        a1 = Relu (n1)
        c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (a1, w[16,16,3,3])
        s = Add (c2, p0)
        a2 = Relu (s)
        g = GlobalAveragePool (a2)
        f = Flatten (g)
        y = Gemm <transB=1, alpha=0.5> (f, w[10,16], w[10])
    }"""

MOBILE = """
    (float[2,3,17,12] x) => (float[2,7] y) {
        p = Pad (x, pads)
        c0 = Conv <kernel_shape=[3,3], strides=[2,2]> (p, w[16,3,3,3], w[16])
        h0 = HardSwish (c0)
        c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], group=16> (h0, w[16,1,3,3], w[16])
        a1 = Clip (c1, zero, six)
        m = ReduceMean <axes=[2,3]> (a1)
        e0 = Conv <kernel_shape=[1,1]> (m, w[8,16,1,1], w[8])
        r0 = Relu (e0)
        e1 = Conv <kernel_shape=[1,1]> (r0, w[16,8,1,1], w[16])
        g = HardSigmoid (e1)
        s = Mul (a1, g)
        c2 = Conv <kernel_shape=[1,1]> (s, w[16,16,1,1], w[16])
        t = Add (c2, h0)
        q = AveragePool <kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]> (t)
        r = ReduceMean <axes=[2,3], keepdims=0> (q)
        z = MatMul (r, w[16,7])
        y = Add (z, w[7])
    }"""

DETECTOR = """
    (float[1,4,8,8] x) => (float[1,320,6] y, float[1,3] z) {
        c0 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w[12,4,3,3], w[12])
        g0 = Sigmoid (c0)
        s0 = Mul (c0, g0)
        c1 = Conv <kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]> (s0, w[12,12,3,3], w[12])
        m1 = Softplus (c1)
        t1 = Tanh (m1)
        s1 = Mul (c1, t1)
        u = Resize <mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"> (s1, , scales)
        k = Concat <axis=1> (u, s0)
        c2 = Conv <kernel_shape=[1,1]> (k, w[24,24,1,1], w[24])
        d = DepthToSpace <blocksize=2> (c2)
        h = Conv <kernel_shape=[1,1]> (d, w[6,6,1,1], w[6])
        f = Reshape (h, flat)
        f2 = Transpose <perm=[0,2,1]> (f)
        h1 = Reshape (s1, flat2)
        h2 = Transpose <perm=[0,2,1]> (h1)
        h3 = MatMul (h2, w[12,6])
        h4 = LeakyRelu (h3)
        f3 = Slice (f2, start, stop, one)
        y0 = Concat <axis=1> (f2, h4, f3)
        y = Identity (y0)
        v = Slice (f, zero_index, one, two)
        v0 = ReduceMax <axes=[1], keepdims=0> (v)
        v1 = Gemm (v0, w[1,3], w[3])
        z = Softmax (v1)
    }"""


def _models() -> dict[str, onnx.ModelProto]:
    rng = np.random.default_rng(9)
    norm: dict[str, Any] = {
        "gamma": rng.uniform(0.5, 1.5, 16).astype(np.float32),
        "beta": rng.standard_normal(16).astype(np.float32),
        "mean": rng.standard_normal(16).astype(np.float32),
        "variance": rng.uniform(0.5, 2, 16).astype(np.float32),
    }
    return {
        "resnet": model(RESNET, **norm),
        "mobile": model(MOBILE, pads=np.array([0, 0, 1, 0, 0, 0, 1, 1]), zero=np.float32(0), six=np.float32(6)),
        "detector": model(
            DETECTOR,
            scales=np.array([1, 1, 2, 2], np.float32),
            flat=np.array([1, 6, 256]),
            flat2=np.array([1, 12, 16]),
            start=np.array([0]),
            stop=np.array([48]),
            one=np.array([1]),
            two=np.array([2]),
            zero_index=np.array([0]),
        ),
        "fashion": _bundled(),
    }


def _bundled() -> onnx.ModelProto:
    """The trained model that comes with the command line, for one image."""
    proto = onnx.load(DATA / "fashion_mnist_cnn.onnx")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return proto


MODELS = _models()


@pytest.fixture(params=list(MODELS))
def proto(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return MODELS[request.param]


def test_import_and_fold_keep_the_results(proto, tmp_path: Path) -> None:
    expected = original(proto, feeds(proto))
    state = ImportModel().apply(save(proto, tmp_path))
    for step in (None, Fold()):
        state = state if step is None else step.apply(state)
        for array, reference in zip(run(state, feeds(proto)).values(), expected, strict=True):
            np.testing.assert_allclose(array, reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("optimize", [False, True])
def test_budget_and_partition_change_nothing(proto, tmp_path: Path, optimize: bool) -> None:
    quantized = Quantize(samples(proto)).apply(Fold().apply(ImportModel().apply(save(proto, tmp_path))))
    expected = run(quantized, feeds(proto), optimize=optimize)
    state = quantized
    for step in (Budget(PAPER_LEVELS), Partition()):
        state = step.apply(state)
        for name, array in run(state, feeds(proto), optimize=optimize).items():
            np.testing.assert_array_equal(array, expected[name], err_msg=f"{step.name}: {name}")


@pytest.mark.parametrize("level", [0, 4, 7, 8])
def test_terms_is_the_exact_semantics(proto, tmp_path: Path, level: int) -> None:
    levels = (*PAPER_LEVELS, FULL)
    state = ImportModel().apply(save(proto, tmp_path))
    for step in (Fold(), Quantize(samples(proto)), Budget(levels), Partition(), Terms(level)):
        state = step.apply(state)
    state.graph.outputs[:] = [value for node in state.graph for value in node.outputs]
    expected = machine.evaluate(state, feeds(proto))
    for name, array in run(state, feeds(proto)).items():
        if array.dtype.kind in "iu":
            np.testing.assert_array_equal(array, expected[name], err_msg=name)
        else:
            np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_quantized_results_are_close_to_the_original(proto, tmp_path: Path) -> None:
    state = ImportModel().apply(save(proto, tmp_path))
    for step in (Fold(), Quantize(samples(proto, 16)), Budget((FULL,)), Partition(), Terms()):
        state = step.apply(state)
    for array, reference in zip(run(state, feeds(proto)).values(), original(proto, feeds(proto)), strict=True):
        assert np.abs(array - reference).max() < 0.1 * np.abs(reference).max()
