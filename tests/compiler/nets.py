"""Small float networks that between them use every operator the machine has, and targets too small for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser

from mmac.runtime.targets import Target, load_target

_BODIES = {
    "residual": """
        (float[1,3,13,11] x) => (float[1,10] y)
        {
            a = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w[24,3,3,3], w[24])
            b = Relu (a)
            c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], group=24> (b, w[24,1,3,3], w[24])
            d = Clip (c, zero, six)
            e = Conv <kernel_shape=[1,1]> (d, w[24,24,1,1], w[24])
            f = Add (b, e)
            g = GlobalAveragePool (f)
            h = Flatten (g)
            y = Gemm <transB=1> (h, w[10,24], w[10])
        }""",
    "branches": """
        (float[1,8,9,9] x) => (float[1,40,18,18] y)
        {
            a = Conv <kernel_shape=[3,3], pads=[1,1,1,1], group=2> (x, w[20,4,3,3], w[20])
            s = Sigmoid (a)
            b = Mul (a, s)
            p = MaxPool <kernel_shape=[3,3], pads=[1,1,1,1]> (b)
            q = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1]> (b)
            r = Conv <kernel_shape=[1,1]> (p, w[20,20,1,1], w[20])
            t = Concat <axis=1> (r, q)
            none =
            y = Resize <mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric">
                (t, none, twice)
        }""",
    "squeeze": """
        (float[2,12,7,6] x) => (float[2,5] y)
        {
            a = Conv <kernel_shape=[5,3], pads=[4,1,4,1], dilations=[2,1]> (x, w[16,12,5,3], w[16])
            b = Relu (a)
            g = GlobalAveragePool (b)
            i = Conv <kernel_shape=[1,1]> (g, w[4,16,1,1], w[4])
            j = Relu (i)
            k = Conv <kernel_shape=[1,1]> (j, w[16,4,1,1], w[16])
            l = HardSigmoid (k)
            m = Mul (b, l)
            n = AveragePool <kernel_shape=[3,2], strides=[2,2]> (m)
            o = Flatten (n)
            y = Gemm <transB=1> (o, w[5,144], w[5])
        }""",
    "sequence": """
        (float[1,6,20] x) => (float[1,18,7] y)
        {
            a = Conv <kernel_shape=[5], pads=[2,2]> (x, w[36,6,5], w[36])
            b = Tanh (a)
            c = Transpose <perm=[0,2,1]> (b)
            d = MatMul (c, w[36,40])
            e = Add (d, w[40])
            f = LeakyRelu (e)
            p = Slice (f, one, minus_one, one)
            y = MatMul (p, w[40,7])
        }""",
    "pad": """
        (float[1,4,6,5] x) => (float[1,6,12,12] y)
        {
            a = Conv <kernel_shape=[1,1]> (x, w[24,4,1,1], w[24])
            b = DepthToSpace <blocksize=2> (a)
            c = Slice (b, top, bottom, axes)
            d = Pad (c, pads)
            y = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (d, w[6,6,3,3], w[6])
        }""",
}

_CONSTANTS = {
    "zero": np.float32(0),
    "six": np.float32(6),
    "twice": np.array([1, 1, 2, 2], np.float32),
    "one": np.array([1], np.int64),
    "minus_one": np.array([-1], np.int64),
    "top": np.array([2, 0], np.int64),
    "bottom": np.array([12, 10], np.int64),
    "axes": np.array([2, 3], np.int64),
    "pads": np.array([0, 0, 1, 0, 0, 0, 1, 2], np.int64),
}

NAMES = tuple(_BODIES)


def build(name: str, seed: int = 0) -> onnx.ModelProto:
    """The network; a token like ``w[8,3,3,3]`` stands for a random weight of that shape."""
    rng = np.random.default_rng(seed)
    text = _BODIES[name]
    tensors: list[onnx.TensorProto] = []
    while "w[" in text:
        before, _, rest = text.partition("w[")
        shape, _, after = rest.partition("]")
        dims = [int(d) for d in shape.split(",")]
        weight = f"weight{len(tensors)}"
        scale = 1 / np.sqrt(np.prod(dims[1:]) if len(dims) > 1 else 10)
        tensors.append(onnx.numpy_helper.from_array(rng.normal(0, scale, dims).astype(np.float32), weight))
        text = before + weight + after
    text = text.replace("none =\n", "").replace("(t, none, twice)", "(t, , twice)")
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {name} {text}')
    for key, value in _CONSTANTS.items():
        if any(key in node.input for node in model.graph.node):
            tensors.append(onnx.numpy_helper.from_array(np.asarray(value), key))
    model.graph.initializer.extend(tensors)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type.lower()}{number}"
    onnx.checker.check_model(model)
    return model


def save(name: str, folder: Path) -> Path:
    """Write the network to a file."""
    path = folder / f"{name}.onnx"
    onnx.save(build(name), path)
    return path


def inputs(model: onnx.ModelProto, seed: int = 1) -> dict[str, np.ndarray]:
    """One random sample for every input."""
    rng = np.random.default_rng(seed)
    return {
        value.name: rng.normal(size=[d.dim_value for d in value.type.tensor_type.shape.dim]).astype(np.float32)
        for value in model.graph.input
    }


def tiny_target(scale: int = 1, blocks: int = 4) -> Target:
    """The default target with so little memory and so few blocks that every layer takes many tiles."""
    target = load_target("vc707")
    pads = {"act": 1536, "aux": 256, "out": 256, "wgt": 6704, "prm": 1024, "acc": 512}
    array = replace(target.array, blocks=blocks, rows=2, columns=4)
    scratchpads = {name: size * scale for name, size in pads.items()}
    return replace(target, name="tiny", scratchpads=scratchpads, array=array)
