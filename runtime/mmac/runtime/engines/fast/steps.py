"""What a compiled segment does, one step after the other, and the buffers that it works in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mmac.runtime.engines.fast.kernels import Kernel
from mmac.runtime.engines.fast.regions import Access, Region
from mmac.runtime.memory import Array as Tensor
from mmac.runtime.memory import Bytes, Memory

Results = dict[str, Tensor]
Action = Callable[[Memory, Results], None]


@dataclass(eq=False)
class Array:
    """Bytes in a buffer of the engine; the buffer is known once all steps are (`assign`)."""

    size: int
    buffer: bytearray = field(default_factory=bytearray, repr=False)

    def numpy(self, shape: Sequence[int]) -> Bytes:
        """The buffer as an array."""
        return np.frombuffer(self.buffer, np.uint8).reshape(shape)


class Step(Protocol):
    """One action. `reads` and `writes` say what it needs while it runs."""

    @property
    def reads(self) -> Sequence[Array]:
        """Arrays that must still be there."""

    @property
    def writes(self) -> Sequence[Array]:
        """Arrays that it fills."""

    def bind(self) -> Action:
        """The action itself, on the buffers assigned."""


def assign(steps: Sequence[Step], pool: dict[int, list[bytearray]]) -> None:
    """Give every array a buffer, shared by arrays of one size that are never needed at the same time.

    Args:
        steps: in order.
        pool: all buffers by size, extended as needed.
    """
    last = {}
    for number, step in enumerate(steps):
        last.update({id(array): number for array in (*step.reads, *step.writes)})
    free = defaultdict(list, {size: list(buffers) for size, buffers in pool.items()})
    for number, step in enumerate(steps):
        ended = {id(array): array for array in (*step.reads, *step.writes) if last[id(array)] == number}
        if isinstance(step, Translate) and (source := ended.pop(id(step.source), None)):
            free[source.size].append(source.buffer)  # the output takes its place
        for array in step.writes:
            if free[array.size]:
                array.buffer = free[array.size].pop()
            else:
                array.buffer = bytearray(array.size)
                pool.setdefault(array.size, []).append(array.buffer)
        for array in ended.values():
            free[array.size].append(array.buffer)


def translate(source: Bytes, table: bytes | None) -> Bytes:
    """Each byte replaced by its entry in a table of 256 (faster in Python's own bytes than by numpy's indexing)."""
    if table is None:
        return source
    return np.frombuffer(source.tobytes().translate(table), np.uint8).reshape(source.shape)


@dataclass(frozen=True)
class _Elementwise:
    """All of an array into another, element by element."""

    source: Array
    output: Array

    @property
    def reads(self) -> Sequence[Array]:
        """The source."""
        return [self.source]

    @property
    def writes(self) -> Sequence[Array]:
        """The output."""
        return [self.output]


@dataclass(frozen=True)
class Translate(_Elementwise):
    """All of an array through a table, in its own place if nothing else reads it later."""

    table: bytes

    def bind(self) -> Action:
        """See `Step`."""
        source, target, table = self.source.buffer, self.output.numpy([-1]), self.table

        def run(memory: Memory, results: Results) -> None:
            target[...] = np.frombuffer(source.translate(table), np.uint8)

        return run


@dataclass(frozen=True)
class Part:
    """A window of an array (`channels` of it, if not all), through a table, into windows of another array."""

    source: Array
    shape: tuple[int, ...]
    pick: Access
    channels: npt.NDArray[np.intp] | None
    table: bytes | None
    places: tuple[Access, ...]

    def bind(self, target: Bytes) -> Callable[[], None]:
        """What moves it into the array `target`."""
        whole, table, channels = self.source.numpy(self.shape), self.table, self.channels
        source = self.pick(whole)
        places: list[npt.NDArray[Any]] = [place(target) for place in self.places]
        # few bytes: numpy is faster if they are one element
        row = np.dtype((np.void, source.shape[-1] if channels is None else len(channels)))
        rows_of = [place.view(row) for place in places if place.strides[-1] == 1]
        if channels is not None:
            places = rows_of

            def get() -> npt.NDArray[Any]:
                return translate(source.take(channels, axis=-1, mode="clip"), table).view(row)

        elif table is None and source.strides[-1] == 1 and len(rows_of) == len(places):
            places, rows = rows_of, source.view(row)

            def get() -> npt.NDArray[Any]:
                return rows

        elif table is not None and source.size == whole.size and source.flags.c_contiguous:
            buffer, shape = self.source.buffer, source.shape

            def get() -> npt.NDArray[Any]:
                return np.frombuffer(buffer.translate(table), np.uint8).reshape(shape)  # no copy before the table

        else:

            def get() -> npt.NDArray[Any]:
                return translate(source, table)

        def run() -> None:
            values = get()
            for place in places:
                place[...] = values

        return run


@dataclass(frozen=True)
class Assemble:
    """Fill an array from windows of others; `fill` goes where no part does."""

    parts: tuple[Part, ...]
    output: Array
    shape: tuple[int, ...]
    fill: np.uint8 | None

    @property
    def reads(self) -> Sequence[Array]:
        """Sources."""
        return [part.source for part in self.parts]

    @property
    def writes(self) -> Sequence[Array]:
        """The output."""
        return [self.output]

    def bind(self) -> Action:
        """See `Step`."""
        target, fill = self.output.numpy(self.shape), self.fill
        moves = [part.bind(target) for part in self.parts]

        def run(memory: Memory, results: Results) -> None:
            if fill is not None:
                target[...] = fill
            for move in moves:
                move()

        return run


@dataclass(frozen=True)
class Fetch:
    """DRAM to an array."""

    region: Region
    output: Array
    reads: Sequence[Array] = ()

    @property
    def writes(self) -> Sequence[Array]:
        """The output."""
        return [self.output]

    def bind(self) -> Action:
        """See `Step`."""
        target, region = self.output.numpy(self.region.shape), self.region

        def run(memory: Memory, results: Results) -> None:
            target[...] = region.window(memory.dram)

        return run


@dataclass(frozen=True)
class Put:
    """An array, through a table, to DRAM."""

    source: Array
    table: bytes | None
    region: Region
    writes: Sequence[Array] = ()

    @property
    def reads(self) -> Sequence[Array]:
        """The source."""
        return [self.source]

    def bind(self) -> Action:
        """See `Step`."""
        source, table, region = self.source.numpy(self.region.shape), self.table, self.region

        def run(memory: Memory, results: Results) -> None:
            region.window(memory.dram)[...] = translate(source, table)

        return run


@dataclass(frozen=True)
class Run:
    """A kernel."""

    kernel: Kernel
    inputs: tuple[Array, ...]
    output: Array

    @property
    def reads(self) -> Sequence[Array]:
        """Its operands."""
        return self.inputs

    @property
    def writes(self) -> Sequence[Array]:
        """Its result."""
        return [self.output]

    def bind(self) -> Action:
        """See `Step`."""
        session = self.kernel.session
        binding = session.io_binding()
        for i, (array, shape) in enumerate(zip(self.inputs, self.kernel.inputs, strict=True)):
            binding.bind_input(f"x{i}", "cpu", 0, self.kernel.dtype, shape, _address(array))
        binding.bind_output("y", "cpu", 0, np.uint8, self.kernel.output, _address(self.output))

        def run(memory: Memory, results: Results) -> None:
            session.run_with_iobinding(binding)

        return run


@dataclass(frozen=True)
class Values(_Elementwise):
    """Bytes to binary32 (four bytes each), by a table."""

    table: npt.NDArray[np.float32]

    def bind(self) -> Action:
        """See `Step`."""
        source, target, table = self.source.numpy([-1]), self.output.numpy([-1]).view(np.float32), self.table

        def run(memory: Memory, results: Results) -> None:
            table.take(source, mode="clip", out=target)

        return run


def _address(array: Array) -> int:
    return int(np.frombuffer(array.buffer, np.uint8).ctypes.data)


@dataclass(frozen=True)
class Replace:
    """Some channels of an array, in place."""

    source: Array
    shape: tuple[int, ...]
    target: Array
    channels: npt.NDArray[np.intp]
    writes: Sequence[Array] = ()

    @property
    def reads(self) -> Sequence[Array]:
        """Both: the other channels stay."""
        return [self.source, self.target]

    def bind(self) -> Action:
        """See `Step`."""
        source, channels = self.source.numpy(self.shape), self.channels
        target = self.target.numpy((*self.shape[:3], -1))

        def run(memory: Memory, results: Results) -> None:
            target[..., channels] = source

        return run


@dataclass(frozen=True)
class Keep:
    """A copy of an array for the caller, with ONNX's shape and dtype."""

    name: str
    source: Array
    shape: tuple[int, ...]
    dtype: str
    writes: Sequence[Array] = ()

    @property
    def reads(self) -> Sequence[Array]:
        """The source."""
        return [self.source]

    def bind(self) -> Action:
        """See `Step`."""
        source = self.source.numpy([-1])

        def run(memory: Memory, results: Results) -> None:
            results[self.name] = source.copy().view(self.dtype).reshape(self.shape)

        return run


@dataclass(frozen=True)
class Call:
    """Anything that works on DRAM only."""

    action: Action
    reads: Sequence[Array] = ()
    writes: Sequence[Array] = ()

    def bind(self) -> Action:
        """See `Step`."""
        return self.action
