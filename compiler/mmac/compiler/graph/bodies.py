"""Bodies of the operators of the domain ``mmac``: what the machine computes, written in ONNX.

They are exact in plain onnxruntime with all its optimizations on.  Sums of products are taken by the float kernels,
which is exact below 2^24: data are split into digits (rows of the data table) so that each partial sum stays below.
Between a sum and its scaling stands a Cast to int32; without it onnxruntime would fold the scale into the weights.
"""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir

DOMAIN = "mmac"
VERSION = 1

# The raw bytes of x (two's complement for int8) as indices [1, size].  GatherElements is ten times as fast with them as
# Gather.
_BYTES = """
    byte = Cast <to = 2> (x)
    index = Cast <to = 6> (byte)
    one_row = Constant <value_ints = [1, -1]> ()
    row = Reshape (index, one_row)
    x_shape = Shape (x)
"""

# data f32 [digits, size]: the digits of each value of x.
_DATA = """
    table_shape = Shape (data_table)
    digit_rows = Slice (table_shape, zero, one)
    repeats = Concat <axis = 0> (digit_rows, one)
    repeated = Expand (row, repeats)
    looked_up = GatherElements <axis = 1> (data_table, repeated)
"""

_INDICES = """
    minus_one = Constant <value_ints = [-1]> ()
    zero = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    end = Constant <value_ints = [1000]> ()
"""

# sums f32 [digits · N, …] → flat int32, the sum over the digits by their weight.
_ADD_DIGITS = """
    partial = Cast <to = 6> (sums)
    digit_list = Constant <value_ints: ints = @digit_weights> ()
    digit_column = Unsqueeze (digit_list, one)
    digits = Cast <to = 6> (digit_column)
    digit_count = Shape (digit_list)
    by_digit = Concat <axis = 0> (digit_count, minus_one)
    rows = Reshape (partial, by_digit)
    weighted = Mul (rows, digits)
    flat = ReduceSum <keepdims = 0> (weighted, zero)
"""

# product f32 → y = clamp(y_zero_point + rint(product), y_min, y_max)
_ROUND = """
    steps = Round (product)
    zero_int = Constant <value_int: int = @y_zero_point> ()
    min_int = Constant <value_int: int = @y_min> ()
    max_int = Constant <value_int: int = @y_max> ()
    y_zero = Cast <to = 1> (zero_int)
    y_low = Cast <to = 1> (min_int)
    y_high = Cast <to = 1> (max_int)
    low = Sub (y_low, y_zero)
    high = Sub (y_high, y_zero)
    clamped = Clip (steps, low, high)
    shifted = Add (clamped, y_zero)
    y = Cast <to: int = @y_type> (shifted)
"""

_CONV = """
    x_rest = Slice (x_shape, one, end)
    x_batched = Concat <axis = 0> (minus_one, x_rest)
    data = Reshape (looked_up, x_batched)
    weights = Cast <to = 1> (w)
    sums = Conv <kernel_shape: ints = @kernel_shape, strides: ints = @strides, pads: ints = @pads,
                 dilations: ints = @dilations, group: int = @group> (data, weights)
    sums_shape = Shape (sums)
    y_rest = Slice (sums_shape, one, end)
    y_shape = Concat <axis = 0> (minus_one, y_rest)
    pixels = Slice (y_rest, one, end)
    spatial_rank = Shape (pixels)
    ones = ConstantOfShape <value = int64[1] {1}> (spatial_rank)
    column = Concat <axis = 0> (minus_one, ones)
    bias_column = Reshape (bias, column)
    scale_column = Reshape (scale, column)
"""

_CONV_SCALE = """
    acc = Reshape (flat, y_shape)
    biased = Add (acc, bias_column)
    real = Cast <to = 1> (biased)
    product = Mul (real, scale_column)
"""

_MATMUL = """
    x_digits = Concat <axis = 0> (minus_one, x_shape)
    data = Reshape (looked_up, x_digits)
    weights = Cast <to = 1> (w)
    sums = MatMul (data, weights)
    sums_shape = Shape (sums)
    y_shape = Slice (sums_shape, one, end)
"""

_MATMUL_SCALE = """
    acc = Reshape (flat, y_shape)
    biased = Add (acc, bias)
    real = Cast <to = 1> (biased)
    product = Mul (real, scale)
"""

# a, b → their distance from the zero points, f32
_CENTER = """
    a_real = Cast <to = 1> (a)
    b_real = Cast <to = 1> (b)
    a_int = Constant <value_int: int = @a_zero_point> ()
    b_int = Constant <value_int: int = @b_zero_point> ()
    a_zero = Cast <to = 1> (a_int)
    b_zero = Cast <to = 1> (b_int)
    a_centred = Sub (a_real, a_zero)
    b_centred = Sub (b_real, b_zero)
"""

_ADD = """
    a_ratio = Constant <value_float: float = @a_ratio> ()
    b_ratio = Constant <value_float: float = @b_ratio> ()
    a_scaled = Mul (a_centred, a_ratio)
    b_scaled = Mul (b_centred, b_ratio)
    product = Add (a_scaled, b_scaled)
"""

_MUL = """
    ratio = Constant <value_float: float = @scale> ()
    centred = Mul (a_centred, b_centred)
    product = Mul (centred, ratio)
"""

_TABLE = """
    one_table = Reshape (table, one_row)
    found = GatherElements <axis = 1> (one_table, row)
    y = Reshape (found, x_shape)
"""

_MAX_POOL = """
    y = MaxPool <kernel_shape: ints = @kernel_shape, strides: ints = @strides, pads: ints = @pads,
                 dilations: ints = @dilations> (x)
"""

# The sum over a window is a convolution with ones, one channel at a time; window counts are 1 over the
# in-bounds taps, or over all of them.
_AVERAGE_POOL = """
    x_int = Cast <to = 1> (x)
    offset_int = Constant <value_int: int = @x_zero_point> ()
    offset = Cast <to = 1> (offset_int)
    centred = Sub (x_int, offset)
    x_shape = Shape (x)
    pixels = Slice (x_shape, two, end)
    alone = Concat <axis = 0> (minus_one, one, pixels)
    data = Reshape (centred, alone)
    kernel = Constant <value_ints: ints = @kernel_shape> ()
    window = Concat <axis = 0> (one, one, kernel)
    taps = ConstantOfShape <value = float[1] {1.0}> (window)
    sums = Conv <kernel_shape: ints = @kernel_shape, strides: ints = @strides, pads: ints = @pads> (data, taps)
    whole = Cast <to = 6> (sums)
    exact = Cast <to = 1> (whole)
    scale = Constant <value_float: float = @scale> ()
    ratio = Div (scale, count)
    scaled = Mul (exact, ratio)
    sums_shape = Shape (sums)
    y_pixels = Slice (sums_shape, two, end)
    x_first = Slice (x_shape, zero, two)
    y_shape = Concat <axis = 0> (x_first, y_pixels)
    product = Reshape (scaled, y_shape)
"""

_TWO = """
    two = Constant <value_ints = [2]> ()
"""

_POOL = "kernel_shape, strides, pads"
_RESULT = "y_zero_point, y_min, y_max, y_type"

_BODIES = {
    "Conv": (
        f"<{_POOL}, dilations, group, digit_weights, x_zero_point, {_RESULT}> (x, data_table, w, bias, scale)",
        (_BYTES, _INDICES, _DATA, _CONV, _ADD_DIGITS, _CONV_SCALE, _ROUND),
    ),
    "MatMul": (
        f"<digit_weights, x_zero_point, {_RESULT}> (x, data_table, w, bias, scale)",
        (_BYTES, _INDICES, _DATA, _MATMUL, _ADD_DIGITS, _MATMUL_SCALE, _ROUND),
    ),
    "Add": (f"<a_zero_point, b_zero_point, a_ratio, b_ratio, {_RESULT}> (a, b)", (_CENTER, _ADD, _ROUND)),
    "Mul": (f"<a_zero_point, b_zero_point, scale, {_RESULT}> (a, b)", (_CENTER, _MUL, _ROUND)),
    "Table": ("(x, table)", (_BYTES, _TABLE)),
    "MaxPool": (f"<{_POOL}, dilations> (x)", (_MAX_POOL,)),
    "AveragePool": (
        f"<{_POOL}, count_include_pad, x_zero_point, scale, {_RESULT}> (x, count)",
        (_INDICES, _TWO, _AVERAGE_POOL, _ROUND),
    ),
}


def body(kind: str, opset: int) -> ir.Function:
    """The function that computes the operator `kind` at the ONNX opset `opset`."""
    signature, parts = _BODIES[kind]
    text = f'<domain: "{DOMAIN}", opset_import: ["" : {opset}]>\n{kind} {signature} => (y) {{{"".join(parts)}}}'
    return ir.serde.deserialize_function(onnx.parser.parse_function(text))


def declare(model: ir.Model, kind: str) -> None:
    """Add the body of `kind` to `model`, in place, unless it is there."""
    model.opset_imports[DOMAIN] = VERSION
    if (DOMAIN, kind, "") not in model.functions:
        function = body(kind, model.opset_imports[""])
        model.functions[function.identifier()] = function
