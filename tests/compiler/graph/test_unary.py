"""Every function of one element becomes a table, alone or spelt out, and the table is what onnxruntime computes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mmac.compiler.graph import run
from mmac.compiler.graph.operators import UNARY
from tests.compiler.graph import machine
from tests.compiler.graph.small import feeds, model, ops, original, stages

F = np.float32

ALONE = {
    "Add": "Add (h, half)",
    "Sub": "Sub (half, h)",
    "Mul": "Mul (h, half)",
    "Div": "Div (h, half)",
    "Min": "Min (h, half)",
    "Max": "Max (half, h)",
    "Pow": "Pow (h, two)",
    "Sqrt": "Sqrt (positive)",
    "Log": "Log (positive)",
    "Reciprocal": "Reciprocal (positive)",
    "Clip": "Clip (h, half, two)",
    "PRelu": "PRelu (h, half)",
    "Where": "Where (above, h, half)",
    "Cast": "Cast <to=1> (above)",
    "Not": "Where (below, h, half)",
    "And": "Where (between, h, half)",
    "Or": "Where (outside, h, half)",
    "QuickGelu": "com.microsoft.QuickGelu <alpha=1.7> (h)",
}
"""The last node for operators that do not take just `h`."""

COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
NEW = {"Gelu": 20, "Mish": 18, "HardSwish": 17, "Swish": 24}

SPELT_OUT = {
    "hard swish of max, min": "a = Add (three, h) b = Max (a, zero) c = Min (b, six) m = Mul (h, c) y = Div (m, six)",
    "hard swish divided first": "a = Add (three, h) b = Clip (a, zero, six) c = Div (h, six) y = Mul (c, b)",
    "hard swish of hard sigmoid": "a = HardSigmoid <alpha=0.1666667> (h) y = Mul (a, h)",
    "hard sigmoid": "a = Add (h, three) b = Clip (a, zero, six) y = Div (b, six)",
    "swish with a slope": "a = Mul (h, two) b = Sigmoid (a) y = Mul (h, b)",
    "gelu of tanh": """a = Pow (h, three) b = Mul (a, k) c = Add (h, b) d = Mul (c, root) e = Tanh (d)
        f = Add (e, one) g = Mul (h, f) y = Mul (g, half)""",
    "leaky relu of max": "a = Mul (h, half) y = Max (h, a)",
    "leaky relu of where": "a = Mul (h, half) b = Greater (h, zero) y = Where (b, h, a)",
    "mask": "a = Less (h, zero) b = Cast <to=1> (a) y = Mul (b, h)",
    "half precision": "a = Cast <to=10> (h) b = Sigmoid (a) y = Cast <to=1> (b)",
    "inverse": "a = Exp (h) y = Div (one, a)",
}

HEAD = "(float[1,8,6,6] x) => (float[a,b,c,d] y) { h = Conv <kernel_shape=[1,1]> (x, w[8,8,1,1], w[8])\n"
CONSTANTS: dict[str, Any] = {
    "zero": F(0),
    "half": F(0.5),
    "one": F(1),
    "two": F(2),
    "three": F(3),
    "six": F(6),
    "k": F(0.044715),
    "root": F(np.sqrt(2 / np.pi)),
}


def check(proto: onnx.ModelProto, folder: Path) -> None:
    """The whole chain is one table, whose result is exact and close to the original."""
    steps = stages(proto, folder)
    final = steps["terms"]
    assert ops(final) == ["Conv", "Table"]
    exact, quantized = machine.evaluate(final, feeds(proto)), run(steps["quantize"], feeds(proto), optimize=False)
    result, reference = run(final, feeds(proto))["y"], original(proto, feeds(proto))[0]
    np.testing.assert_array_equal(run(steps["partition"], feeds(proto), optimize=False)["y"], quantized["y"])
    np.testing.assert_array_equal(result, exact["y"])
    # A jump moves with the rounding of its operand, hence not all of the values.
    assert (np.abs(result - reference) <= 0.06 * np.abs(reference).max()).mean() > 0.95


def chain(op_type: str) -> str:
    """Nodes from `h` to `y` that have `op_type` among them."""
    needs = {
        "positive": "sure = Abs (h) positive = Add (sure, half)",
        "above": "above = Greater (h, zero)",
        "below": "over = Greater (h, zero) below = Not (over)",
        "between": "over = Greater (h, zero) under = Less (h, two) between = And (over, under)",
        "outside": "over = Greater (h, half) under = Less (h, zero) outside = Or (over, under)",
    }
    if op_type in COMPARISONS:
        return f"above = {op_type} (h, half) y = Where (above, h, zero)"
    last = ALONE.get(op_type, f"{op_type} (h)")
    return next((text for name, text in needs.items() if name in last), "") + f" y = {last}"


@pytest.mark.parametrize("op_type", sorted(UNARY - {"Relu", "Clip", "Add", "Mul", "Sub", "Div", "QuickGelu"}))
def test_alone(op_type: str, tmp_path: Path) -> None:
    check(model(f"{HEAD} {chain(op_type)} }}", NEW.get(op_type, 17), **CONSTANTS), tmp_path)


@pytest.mark.parametrize("op_type", ["Add", "Mul", "Sub", "Div", "Relu", "Clip"])
def test_what_would_be_part_of_the_convolution(op_type: str, tmp_path: Path) -> None:
    """A scalar factor or offset would be folded into its weights, and a clamp is its own: put a function between."""
    body = f"i = Sigmoid (h) y = {ALONE.get(op_type, f'{op_type} (h)').replace('h,', 'i,').replace('h)', 'i)')}"
    check(model(f"{HEAD} {body} }}", **CONSTANTS), tmp_path)


@pytest.mark.parametrize("name", SPELT_OUT)
def test_spelt_out(name: str, tmp_path: Path) -> None:
    check(model(f"{HEAD} {SPELT_OUT[name]} }}", **CONSTANTS), tmp_path)


def test_operator_of_onnxruntime(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g (float[1,4,2,2] x) => (float[1,4,2,2] y) '
        "{ a = Neg (x) y = com.microsoft.QuickGelu <alpha=1.7> (a) }"
    )
    final = stages(proto, tmp_path)["terms"]
    assert ops(final) == ["Table"]
    np.testing.assert_array_equal(run(final, feeds(proto))["y"], machine.evaluate(final, feeds(proto))["y"])
