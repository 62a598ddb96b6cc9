"""The medium LSTM language model of the paper's WikiText-2 experiment, with seeded weights.

Topology of PyTorch's `word_language_model` example with `--emsize 650 --nhid 650 --tied`: an embedding of 33,278
words, two LSTM layers of 650 units and an output layer that shares the embedding's matrix.

Inputs: `tokens` int64 [1, 35] and, for each layer, the state `hidden0`, `cell0`, `hidden1`, `cell1`, float32 [1, 650].
Outputs: `logits` [1, 35, 33278] and the next states `next_hidden0` ….  Feed them back to go on with a text.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
import onnx
from onnx import TensorProto

from .graph import Array, Net

NAME = "lstm650"
WORDS, UNITS, STEPS, LAYERS = 33278, 650, 35, 2


def lstm650() -> onnx.ModelProto:
    """2 x LSTM(650) with 33,278 words: 28.4 M parameters, 994 MMAC for 35 words."""
    random = np.random.default_rng(crc32(NAME.encode()))

    def uniform(limit: float, *shape: int) -> Array:
        return random.uniform(-limit, limit, shape).astype(np.float32)

    net = Net(NAME, "2 x LSTM(650) word language model, uniform random weights")
    tokens = net.input("tokens", [1, STEPS], TensorProto.INT64)
    embedding = net.parameter("encoder.weight", uniform(0.1, WORDS, UNITS))
    by_time = net.op("Transpose", [tokens], "tokens.by_time", perm=(1, 0))
    x = net.op("Gather", [embedding, by_time], "encoder")
    states: dict[str, str] = {}
    for layer in range(LAYERS):
        x = _layer(net, x, layer, [uniform(UNITS**-0.5, 1, *shape) for shape in _LSTM_SHAPES], states)
    x = net.op("Transpose", [x], "hidden.by_batch", perm=(1, 0, 2))
    rows = net.op("Reshape", [x, _shape(net, "rows", -1, UNITS)], "hidden.rows")
    bias = net.parameter("decoder.bias", uniform(0.1, WORDS))
    logits = net.op("Gemm", [rows, embedding, bias], "decoder", transB=1)
    logits = net.op("Reshape", [logits, _shape(net, "words", 1, STEPS, WORDS)], "logits.reshape")
    net.output("logits", logits, [1, STEPS, WORDS])
    for name, state in states.items():
        net.output(name, state, [1, UNITS])
    return net.model({"weights": "seeded uniform, untrained"})


_LSTM_SHAPES = ((4 * UNITS, UNITS), (4 * UNITS, UNITS), (8 * UNITS,))
"""W, R and B of an ONNX LSTM, without the axis of directions."""


def _layer(net: Net, x: str, layer: int, weights: list[Array], next_states: dict[str, str]) -> str:
    """Add one LSTM on [steps, 1, units]; the values of its two last states are added to `next_states`."""
    name = f"rnn.{layer}"
    direction = net.parameter("direction", np.array([0], np.int64))
    parts = zip(("W", "R", "B"), weights, strict=True)
    parameters = [net.parameter(f"{name}.{part}", value) for part, value in parts]
    states = []
    for kind in ("hidden", "cell"):
        state = net.input(f"{kind}{layer}", [1, UNITS])
        states.append(net.op("Unsqueeze", [state, direction], f"{name}.{kind}"))
    outputs = [f"{name}.sequence", f"{name}.last_hidden", f"{name}.last_cell"]
    inputs = [x, *parameters, "", *states]
    sequence, *last = net.ops("LSTM", inputs, outputs, name, hidden_size=UNITS)
    for kind, value in zip(("hidden", "cell"), last, strict=True):
        next_states[f"next_{kind}{layer}"] = net.op("Squeeze", [value, direction], f"{name}.next_{kind}")
    return net.op("Squeeze", [sequence, net.parameter("direction.axis", np.array([1], np.int64))], f"{name}.out")


def _shape(net: Net, name: str, *sizes: int) -> str:
    return net.parameter(f"shape.{name}", np.array(sizes, np.int64))
