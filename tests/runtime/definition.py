"""What the machine computes, written down once more: plain Python and integer numpy, one value at a time.

Shares nothing with the sources but the vocabulary, so that the engines can be held to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def naf(value: int) -> list[tuple[int, int]]:
    """(exponent, sign) of the non-adjacent form, largest exponent first."""
    digits = []
    exponent = 0
    while value:
        if value % 2:
            digit = 2 - value % 4
            digits.append((exponent, digit))
            value -= digit
        value //= 2
        exponent += 1
    return digits[::-1]


def truncate_value(value: int, beta: int) -> int:
    return sum(sign << exponent for exponent, sign in naf(value)[:beta])


def truncate_group(group: Sequence[int], alpha: int) -> list[int]:
    ranked = sorted((-e, i, sign) for i, value in enumerate(group) for e, sign in naf(int(value)))
    kept = [0] * len(group)
    for e, i, sign in ranked[:alpha]:
        kept[i] += sign << -e
    return kept


def truncate_rows(weights: Array, alpha: int) -> Array:
    """[O, K] weights, each row cut into groups of 16."""
    rows = [
        [v for k in range(0, weights.shape[1], 16) for v in truncate_group(row[k : k + 16], alpha)] for row in weights
    ]
    return np.array(rows, np.int64).reshape(weights.shape)


def truncate_data(data: Array, beta: int) -> Array:
    table = np.array([truncate_value(v, beta) for v in range(-255, 256)])
    truncated: Array = table[data + 255]
    return truncated


@dataclass(frozen=True)
class Quantization:
    a_zero: int = 0
    b_zero: int = 0
    y_zero: int = 0
    a_signed: int = 0
    b_signed: int = 0
    y_signed: int = 0
    y_min: int = 0
    y_max: int = 255
    a_scale: float = 1.0
    b_scale: float = 1.0

    @property
    def y_dtype(self) -> str:
        return "int8" if self.y_signed else "uint8"


def clamp(product: Array, q: Quantization) -> Array:
    """y_zero + rint(product), clamped; product float32, everything else in double, where it is exact."""
    assert product.dtype == np.float32
    y = np.round(product.astype(np.float64)) + q.y_zero
    return np.minimum(np.maximum(y, q.y_min), q.y_max).astype(q.y_dtype)


@dataclass(frozen=True)
class Window:
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    """top, left, bottom, right"""

    def outputs(self, h: int, w: int) -> tuple[int, int]:
        top, left, bottom, right = self.pads
        sizes = ((h + top + bottom, 0), (w + left + right, 1))
        oh, ow = (1 + (size - (self.kernel[i] - 1) * self.dilation[i] - 1) // self.stride[i] for size, i in sizes)
        return oh, ow

    def padded(self, x: Array, value: Any = 0) -> Array:
        top, left, bottom, right = self.pads
        return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)

    def seen(self, padded: Array, oh: int, ow: int) -> Array:
        """[n, kernel_h, kernel_w, c] that output (oh, ow) sees."""
        (kh, kw), (sh, sw), (dh, dw) = self.kernel, self.stride, self.dilation
        rows = [oh * sh + i * dh for i in range(kh)]
        columns = [ow * sw + j * dw for j in range(kw)]
        return padded[:, rows][:, :, columns]


def convolution(x: Array, weights: Array, window: Window, groups: int, q: Quantization, alpha: int, beta: int) -> Array:
    """int64 sums [n, oh, ow, O] of truncated data [n, h, w, c] and weights [O, kernel_h, kernel_w, ic]."""
    out_channels, ic = weights.shape[0], weights.shape[3]
    w = truncate_rows(weights.reshape(out_channels, -1), alpha)
    data = window.padded(truncate_data(x.astype(np.int64) - q.a_zero, beta))
    oh, ow = window.outputs(*x.shape[1:3])
    sums = np.zeros((len(x), oh, ow, out_channels), np.int64)
    for i in range(oh):
        for j in range(ow):
            seen = window.seen(data, i, j)
            for o in range(out_channels):
                first = o // (out_channels // groups) * ic
                sums[:, i, j, o] = seen[..., first : first + ic].reshape(len(x), -1) @ w[o]
    return sums


def requantize(sums: Array, bias: Array, scale: Array, q: Quantization) -> Array:
    return clamp((sums + bias).astype(np.float32) * scale.astype(np.float32), q)


def add(a: Array, b: Array, q: Quantization) -> Array:
    fa = (a.astype(np.int32) - q.a_zero).astype(np.float32) * np.float32(q.a_scale)
    fb = (b.astype(np.int32) - q.b_zero).astype(np.float32) * np.float32(q.b_scale)
    return clamp(fa + fb, q)


def multiply(a: Array, b: Array, q: Quantization) -> Array:
    product = (a.astype(np.int32) - q.a_zero) * (b.astype(np.int32) - q.b_zero)
    return clamp(product.astype(np.float32) * np.float32(q.a_scale), q)


def max_pool(x: Array, window: Window) -> Array:
    padded = window.padded(x, np.iinfo(x.dtype).min)
    oh, ow = window.outputs(*x.shape[1:3])
    rows = [np.stack([window.seen(padded, i, j).max(axis=(1, 2)) for j in range(ow)], 1) for i in range(oh)]
    return np.stack(rows, 1)


def average_pool(x: Array, window: Window, q: Quantization, count_pad: bool) -> Array:
    padded = window.padded(x.astype(np.int64) - q.a_zero)
    there = window.padded(np.ones_like(x, np.int64), int(count_pad))
    oh, ow = window.outputs(*x.shape[1:3])
    out = np.zeros((len(x), oh, ow, x.shape[3]), q.y_dtype)
    for i in range(oh):
        for j in range(ow):
            total = window.seen(padded, i, j).sum(axis=(1, 2)).astype(np.float32)
            count = window.seen(there, i, j).sum(axis=(1, 2)).astype(np.float32)
            out[:, i, j] = clamp(total * (np.float32(q.a_scale) / count), q)
    return out
