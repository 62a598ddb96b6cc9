"""Small models that ask for too much, contradict themselves, or look outside: by name, with what refuses them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mmac.isa.errors import MalformedError, MmacError, ResourceError

F = TensorProto.FLOAT
HUGE = 2**40
SHAPE = (1, 3, 8, 8)


def graph(nodes: Sequence[onnx.NodeProto], *weights: onnx.TensorProto, rank: int = 4, **more: Any) -> bytes:
    """A model from x [1, 3, 8, 8] to y of this rank."""
    x = helper.make_tensor_value_info("x", F, SHAPE)
    y = helper.make_tensor_value_info("y", F, [f"y{axis}" for axis in range(rank)])
    found = helper.make_graph(nodes, "hostile", [x], [y], list(weights))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return bytes(helper.make_model(found, opset_imports=opsets, ir_version=9, **more).SerializeToString())


def node(op_type: str, inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(" "), output.split(" "), name=f"the_{op_type}", **attributes)


def weight(name: str, values: object, dtype: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def convolution(**attributes: Any) -> bytes:
    return graph([node("Conv", "x w", **attributes)], weight("w", np.ones((4, 3, 3, 3))))


def pool(**attributes: Any) -> bytes:
    return graph([node("MaxPool", "x", **attributes)])


def quantized(scale: float) -> bytes:
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z")]
    return graph(nodes, weight("s", scale), weight("z", 0, np.uint8))


def bomb(op_type: str, inputs: str, *weights: onnx.TensorProto, **attributes: Any) -> bytes:
    """A constant of many elements out of a few."""
    nodes = [node(op_type, inputs, "big", **attributes), node("Cast", "big", "real", to=F)]
    nodes += [node("ReduceMax", "real", "largest", keepdims=0), node("Add", "x largest")]
    return graph(nodes, *weights)


def loop(trips: int, start: str) -> bytes:
    ports = [("i", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("v", F, SHAPE)]
    inputs = [helper.make_tensor_value_info(*port) for port in ports]
    outputs = [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("w", F, SHAPE)]
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Abs", ["v"], ["w"])]
    body = helper.make_graph(nodes, "body", inputs, outputs)
    weights = weight("t", trips, np.int64), weight("true", True, np.bool_), weight("k", np.ones(SHAPE))
    return graph([node("Loop", f"t true {start}", "l", body=body), node("Add", "x l")], *weights)


def functions(count: int, cyclic: bool = False) -> bytes:
    """Functions of which each calls the next one twice."""
    made = []
    for number in range(count):
        last = number == count - 1
        inner = ("F0", "own") if last and cyclic else ("Relu", "") if last else (f"F{number + 1}", "own")
        calls = [helper.make_node(inner[0], [a], [b], domain=inner[1]) for a, b in (("a", "t"), ("t", "b"))]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        made.append(helper.make_function("own", f"F{number}", ["a"], ["b"], calls, opsets))
    return graph([helper.make_node("F0", ["x"], ["y"], domain="own")], functions=made)


def nested_ifs(count: int) -> bytes:
    """Written as bytes: protobuf's own writer refuses this depth."""

    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size >= 128:
            length, size = length + bytes([size % 128 + 128]), size // 128
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    model = onnx.ModelProto.FromString(graph([node("Relu", "x")]))
    inner = model.graph.node[0].SerializeToString()
    for _ in range(count):
        attribute = field(1, b"then_branch") + field(6, field(1, inner))
        inner = field(1, b"c") + field(2, b"y") + field(4, b"If") + field(5, attribute)
    del model.graph.node[:]
    rest = model.graph.SerializeToString()
    model.ClearField("graph")
    return model.SerializeToString() + field(7, rest + field(1, inner))


def shaped(dims: Sequence[int], kind: int = F, data: bytes = b"1234") -> bytes:
    tensor = TensorProto(name="w", data_type=kind, dims=dims, raw_data=data)
    return graph([node("Add", "x w")], tensor)


INT = np.int64
ONE = weight("one", [1])

MODELS: dict[str, tuple[bytes, type[MmacError], str]] = {
    "no group": (convolution(group=0), MalformedError, "in 0 groups"),
    "negative group": (convolution(group=-3), MalformedError, "in -3 groups"),
    "no stride": (convolution(strides=[0, 1]), MalformedError, "strides must only contain positive"),
    "no dilation": (convolution(dilations=[0, 1]), MalformedError, "dilations must only contain positive"),
    "another kernel": (convolution(kernel_shape=[5, 5]), MalformedError, "kernel_shape [5, 5], weights [4, 3, 3, 3]"),
    "huge padding": (convolution(pads=[HUGE] * 4), ResourceError, "GiB"),
    "pool without stride": (pool(kernel_shape=[2, 2], strides=[0, 0]), MalformedError, "strides must only"),
    "pool without kernel": (pool(kernel_shape=[0, 0]), MalformedError, "kernel_shape must only"),
    "scale 0": (quantized(0), MalformedError, "scale 's': 0; more than 0; quantize the model again"),
    "negative scale": (quantized(-1), MalformedError, "scale 's': -1"),
    "scale NaN": (quantized(np.nan), MalformedError, "'s': nan at index []"),
    "infinite scale": (quantized(np.inf), MalformedError, "'s': inf at index []"),
    "cycle": (graph([node("Add", "x b", "a"), node("Relu", "a", "b"), node("Abs", "b")]), MalformedError, "cycle"),
    "reads itself": (graph([node("Relu", "y")]), MalformedError, "cycle"),
    "two results of a name": (graph([node("Relu", "x"), node("Abs", "x")]), MalformedError, "'y'"),
    "two weights of a name": (graph([node("Add", "x one")], ONE, ONE), MalformedError, "two initializers 'one'"),
    "endless loop": (loop(2**62, "x"), ResourceError, "4611686018427387904 trips; at most 10000000"),
    "endless constant loop": (loop(2**62, "k"), ResourceError, "4611686018427387904 trips"),
    "200 nested Ifs": (nested_ifs(200), MalformedError, "not an ONNX model"),
    "function that calls itself": (functions(3, cyclic=True), MalformedError, "calls itself"),
    "a billion calls": (functions(40), ResourceError, "expand to 2199023255551 nodes; at most 1000000"),
    "big ConstantOfShape": (
        bomb("ConstantOfShape", "s", weight("s", [2**20, 2**20], INT)),
        ResourceError,
        "4096.0 GiB; at most",
    ),
    "big Expand": (bomb("Expand", "one s", ONE, weight("s", [HUGE], INT)), ResourceError, "GiB"),
    "big Tile": (bomb("Tile", "one s", ONE, weight("s", [HUGE], INT)), ResourceError, "GiB"),
    "big Pad": (bomb("Pad", "one s", ONE, weight("s", [HUGE, HUGE], INT)), ResourceError, "GiB"),
    "long Range": (
        bomb("Range", "a b c", weight("a", 0, INT), weight("b", HUGE, INT), weight("c", 1, INT)),
        ResourceError,
        f"node 'the_Range': {HUGE} numbers",
    ),
    "Range without step": (
        bomb("Range", "a b c", weight("a", 0, INT), weight("b", 9, INT), weight("c", 0, INT)),
        MalformedError,
        "a step of 0",
    ),
    "outer product": (
        bomb("MatMul", "p q", weight("p", np.ones((2**18, 1))), weight("q", np.ones((1, 2**18)))),
        ResourceError,
        "256.0 GiB",
    ),
    "reshaped to fewer": (
        graph([node("Reshape", "x s")], weight("s", [7, 7], INT), rank=2),
        MalformedError,
        "shape [1, 3, 8, 8] becomes [7, 7]; as many elements as before",
    ),
    "weights of 2^80 elements": (shaped([HUGE, HUGE]), MalformedError, "'w': data do not fit the shape"),
    "weights of negative size": (shaped([-1, 4]), MalformedError, "Negative dimension"),
    "weights of no type": (shaped([1], kind=99), MalformedError, "99 is not a valid DataType"),
}
"""What is refused while it is read: bytes of the file, kind of error, part of its text."""
