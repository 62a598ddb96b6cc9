"""Random small networks: shared operands, inner outputs, views of views, chains in place, groups, host operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int, ...]
Value = tuple[str, Shape]


def random_graph(seed: int) -> onnx.ModelProto:
    """A network on one image. What nothing reads is an output, and some other results are."""
    graph = _Graph(np.random.default_rng(seed))
    wanted = int(graph.rng.integers(4, 10))
    for _ in range(40):
        if len(graph.nodes) >= wanted:
            break
        kind = _KINDS[int(graph.rng.integers(len(_KINDS)))]
        kind(graph, graph.recent())
    return graph.model()


class _Graph:
    """Nodes, constants and values so far. Each operator declines what it cannot take, by adding nothing."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        size = int(rng.integers(3, 10))
        width = size if rng.random() < 0.5 else int(rng.integers(3, 10))
        self.values: list[Value] = [("x", (int(rng.integers(1, 3)), self.choose(1, 3, 8, 12, 17, 24), size, width))]

    def choose(self, *options: int) -> int:
        return int(self.rng.choice(options))

    def recent(self) -> Value:
        """One of the last values, mostly, so that chains grow."""
        start = max(0, len(self.values) - 3) if self.rng.random() < 0.8 else 0
        return self.values[int(self.rng.integers(start, len(self.values)))]

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weights(self, *shape: int) -> str:
        return self.constant((self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    def add(self, op_type: str, inputs: Sequence[str], *shapes: Sequence[int], **attributes: Any) -> list[Value]:
        made = [(f"t{len(self.values) + i}", tuple(map(int, shape))) for i, shape in enumerate(shapes)]
        name = f"{op_type.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [n for n, _ in made], name, **attributes))
        self.values += made
        return made

    def model(self) -> onnx.ModelProto:
        read = {name for node in self.nodes for name in node.input}
        outputs = [value for value in self.values[1:] if value[0] not in read or self.rng.random() < 0.15]
        x, *results = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (self.values[0], *outputs))
        graph = helper.make_graph(self.nodes, "random", [x], results, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def _conv(g: _Graph, x: Value) -> None:
    name, (n, c, h, w) = x
    divisors = [d for d in range(1, c + 1) if c % d == 0]
    groups = g.choose(1, 1, c, *divisors)
    out = groups * g.choose(1, 2, 3) if groups > 1 else g.choose(1, 4, 9, 16, 20)
    kernel, stride, dilation, pad = g.choose(1, 1, 2, 3), g.choose(1, 1, 2), g.choose(1, 1, 2), g.choose(0, 1, 2)
    size = [(d + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1 for d in (h, w)]
    if out > 40 or min(size) < 1:
        return
    inputs = [name, g.weights(out, c // groups, kernel, kernel)]
    if g.rng.random() < 0.5:
        inputs.append(g.constant(g.rng.normal(size=out).astype(np.float32)))
    window = {"strides": [stride] * 2, "dilations": [dilation] * 2, "pads": [pad] * 4}
    g.add("Conv", inputs, (n, out, *size), kernel_shape=[kernel] * 2, group=groups, **window)


def _activation(g: _Graph, x: Value) -> None:
    g.add(str(g.rng.choice(["Relu", "Sigmoid", "Tanh", "LeakyRelu"])), [x[0]], x[1])


def _of_two(g: _Graph, x: Value) -> None:
    alike = [name for name, shape in g.values if shape == x[1]]
    g.add(str(g.rng.choice(["Add", "Mul"])), [x[0], str(g.rng.choice(alike))], x[1])


def _gate(g: _Graph, x: Value) -> None:
    """A slice of a tensor, repeated along the axes that it was cut along, with the tensor itself."""
    axes = [1] if g.rng.random() < 0.5 else [2, 3]
    shape = [1 if axis in axes else size for axis, size in enumerate(x[1])]
    bounds = [g.constant(np.array(values)) for values in ([0] * len(axes), [1] * len(axes), axes)]
    (part,) = g.add("Slice", [x[0], *bounds], shape)
    g.add(str(g.rng.choice(["Add", "Mul"])), g.rng.permutation([x[0], part[0]]).tolist(), x[1])


def _pool(g: _Graph, x: Value) -> None:
    name, (n, c, h, w) = x
    kernel, stride = g.choose(1, 2, 3), g.choose(1, 2)
    pad = g.choose(*range(kernel))
    size = [(d + 2 * pad - kernel) // stride + 1 for d in (h, w)]
    if min(size) >= 1:
        window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        g.add(str(g.rng.choice(["MaxPool", "AveragePool"])), [name], (n, c, *size), **window)


def _global_pool(g: _Graph, x: Value) -> None:
    g.add("GlobalAveragePool", [x[0]], (*x[1][:2], 1, 1))


def _concat(g: _Graph, x: Value) -> None:
    axis = g.choose(1, 1, 2)
    alike = [v for v in g.values if all(a == b for i, (a, b) in enumerate(zip(v[1], x[1], strict=True)) if i != axis)]
    parts = [x, *(alike[int(g.rng.integers(len(alike)))] for _ in range(g.choose(1, 2)))]
    size = sum(shape[axis] for _, shape in parts)
    if size <= 48:
        shape = [size if i == axis else d for i, d in enumerate(x[1])]
        g.add("Concat", [name for name, _ in parts], shape, axis=axis)


def _slice(g: _Graph, x: Value) -> None:
    axis = g.choose(1, 2, 3)
    start, step = g.choose(0, 1), g.choose(1, 1, 2)
    size = len(range(start, x[1][axis], step))
    if size:
        bounds = [g.constant(np.array([value])) for value in (start, x[1][axis], axis, step)]
        g.add("Slice", [x[0], *bounds], [size if i == axis else d for i, d in enumerate(x[1])])


def _split(g: _Graph, x: Value) -> None:
    n, c, *size = x[1]
    if c > 1:
        first = int(g.rng.integers(1, c))
        sizes = g.constant(np.array([first, c - first]))
        g.add("Split", [x[0], sizes], (n, first, *size), (n, c - first, *size), axis=1)


def _transpose(g: _Graph, x: Value) -> None:
    perm = [0, 1, 3, 2] if g.rng.random() < 0.7 else g.rng.permutation(4).tolist()
    (turned,) = g.add("Transpose", [x[0]], [x[1][i] for i in perm], perm=perm)
    if turned[1] == x[1]:
        g.add("Add", [x[0], turned[0]], x[1])


def _pad(g: _Graph, x: Value) -> None:
    pads = g.rng.integers(0, 2, 8)
    g.add("Pad", [x[0], g.constant(pads)], np.add(x[1], pads[:4] + pads[4:]))


def _product(g: _Graph, x: Value) -> None:
    columns = g.choose(1, 5, 12)
    g.add("MatMul", [x[0], g.weights(x[1][3], columns)], (*x[1][:3], columns))


def _on_the_host(g: _Graph, x: Value) -> None:
    g.add("Softmax", [x[0]], x[1], axis=g.choose(1, 2, 3))


_WEIGHTS = {
    _conv: 3, _activation: 3, _of_two: 3, _gate: 4, _pool: 2, _global_pool: 1, _concat: 2, _slice: 1, _split: 1,
    _transpose: 4, _pad: 1, _product: 1, _on_the_host: 2,
}  # fmt: skip
"""How often each kind is tried: more often where operands share a buffer."""

_KINDS = [kind for kind, weight in _WEIGHTS.items() for _ in range(weight)]
