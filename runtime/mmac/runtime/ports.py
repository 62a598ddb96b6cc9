"""Model inputs and outputs: checked, quantized on the way in and dequantized on the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.isa.errors import MalformedError, UsageError
from mmac.isa.program import Port, TensorInfo
from mmac.runtime.memory import Array

_ONNX_TYPES = {"float32": "float", "float64": "double"}
"""ONNX element types that are not called as in numpy."""


@dataclass(frozen=True)
class NodeArg:
    """A model input or output, described as onnxruntime does: `type` is such as ``tensor(float)``."""

    name: str
    shape: list[int]
    type: str


def describe(port: Port) -> NodeArg:
    """What a port looks like to the user."""
    return NodeArg(port.name, list(port.shape), f"tensor({_ONNX_TYPES.get(port.dtype, port.dtype)})")


def check_inputs(ports: Iterable[Port], inputs: Mapping[str, Array]) -> None:
    """Refuse inputs that are missing, unknown, or not of the declared shape and dtype.

    Raises:
        UsageError: a wrong name.
        MalformedError: a wrong shape or dtype.
    """
    known = {port.name: port for port in ports}
    for name in inputs:
        if name not in known:
            raise UsageError(f"input {name!r}", "no such input", *closest(name, known))
    for name, port in known.items():
        if name not in inputs:
            raise UsageError(f"input {name!r}", "missing", f"{port.dtype}{list(port.shape)}")
        array = inputs[name]
        if not isinstance(array, np.ndarray):
            raise MalformedError(f"input {name!r}", f"a {type(array).__name__}", "a numpy array")
        if array.dtype != port.dtype:
            raise MalformedError(f"input {name!r}", f"dtype {array.dtype}", port.dtype)
        if array.shape != port.shape:
            raise MalformedError(f"input {name!r}", f"shape {list(array.shape)}", str(list(port.shape)))


def closest(name: str, known: Iterable[str]) -> tuple[str, str]:
    """For an error about a wrong name: the names there are (a dozen at most), and a suggestion."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, 1, 0.5)
    return ", ".join(names[:12]) + (" …" if len(names) > 12 else ""), f"did you mean {near[0]}?" if near else ""


def into_tensor(port: Port, tensor: TensorInfo, array: Array) -> Array:
    """A checked input as its tensor holds it: quantized if the port is float and the tensor is not.

    Raises:
        MalformedError: NaN, which has no quantized value.
    """
    if array.dtype == tensor.dtype or tensor.scale is None:
        return array
    if np.isnan(array).any():
        raise MalformedError(f"input {port.name!r}", "contains NaN", "numbers, as it is quantized")
    return quantize(array, tensor.scale, tensor.zero_point or 0, tensor.dtype)


def from_tensor(port: Port, tensor: TensorInfo, array: Array) -> Array:
    """An output's tensor as the user gets it: dequantized if the port is float and the tensor is not."""
    if array.dtype == port.dtype or tensor.scale is None:
        return array
    return dequantize(array, tensor.scale, tensor.zero_point or 0)


def quantize(values: Array, scale: float, zero_point: int, dtype: str) -> Array:
    """``saturate(rint(x / scale) + zero_point)`` in binary32, half to even, as ONNX QuantizeLinear.

    Infinities saturate.
    """
    limits = np.iinfo(dtype)
    with np.errstate(over="ignore"):
        steps = np.divide(values, np.float32(scale), out=np.empty(values.shape, np.float32))
    np.rint(steps, out=steps)
    # clamped before the zero point is added: then every sum is a small integer, exact in binary32
    np.clip(steps, limits.min - zero_point, limits.max - zero_point, out=steps)
    steps += np.float32(zero_point)
    quantized: Array = steps.astype(dtype)
    return quantized


def dequantize(values: Array, scale: float, zero_point: int) -> npt.NDArray[np.float32]:
    """``(q - zero_point) · scale`` in binary32, as ONNX DequantizeLinear."""
    return np.multiply((values.astype(np.int32) - zero_point).astype(np.float32), np.float32(scale), dtype=np.float32)
