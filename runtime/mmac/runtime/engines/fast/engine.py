"""The engine itself: caches, and what surrounds a segment."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Set
from functools import cached_property

import numpy as np

from mmac.isa import table
from mmac.isa.program import Program, TensorInfo
from mmac.runtime.engines import Segment
from mmac.runtime.engines.fast import dataflow
from mmac.runtime.engines.fast.layers import Layer, Opaque
from mmac.runtime.engines.fast.lift import byte_region, lift
from mmac.runtime.engines.fast.nests import Nest, cut, leaves
from mmac.runtime.engines.fast.regions import Region
from mmac.runtime.engines.fast.schedule import Cache, Schedule
from mmac.runtime.engines.fast.steps import Action, Results, assign
from mmac.runtime.engines.reference import ReferenceEngine
from mmac.runtime.memory import Array, Memory


class FastEngine:
    """Executes whole layers (see `mmac.runtime.engines.Engine`).

    Everything is translated when it is first needed: a segment when it first runs, a level of it when it first runs at
    that level.
    """

    def __init__(self, program: Program, segments: tuple[Segment, ...], threads: int = 1) -> None:
        self.program, self.segments, self.threads = program, segments, threads
        self._actions: dict[tuple[int, int, frozenset[str]], list[Action]] = {}
        self._kernels: dict[int, Cache] = {}
        self._buffers: dict[int, list[bytearray]] = {}
        self._lock = threading.Lock()

    def run(self, segment: int, memory: Memory, level: int, keep: Set[str]) -> dict[str, Array]:
        """Execute one segment at one level; returns the kept tensors that it completes."""
        if not self._is_separable:
            return self._reference.run(segment, memory, level, keep)
        names = {name for completed in self.segments[segment].completed for name in completed}
        key = (segment, level, frozenset(names & keep))
        results: Results = {}
        with self._lock:
            if key not in self._actions:
                self._actions[key] = self._translate(*key)
            for action in self._actions[key]:
                action(memory, results)
        return results

    @cached_property
    def lifted(self) -> tuple[tuple[Layer, ...], ...]:
        """Per segment its layers; those of class `Opaque` run on the reference engine and say why."""
        return tuple(
            tuple(lift(self.program, segment.nodes[a:b]) for a, b in self._nests(segment)) for segment in self.segments
        )

    @cached_property
    def _is_separable(self) -> bool:
        """False if some opaque nest takes over scratchpad contents from an earlier one: then nothing can be lifted."""
        return all(
            Nest(tuple(leaves(layer.nodes))).is_closed()
            for layer in itertools.chain(*self.lifted)
            if isinstance(layer, Opaque)
        )

    @cached_property
    def _reference(self) -> ReferenceEngine:
        return ReferenceEngine(self.program, self.segments, self.threads)

    @staticmethod
    def _nests(segment: Segment) -> Iterator[tuple[int, int]]:
        return itertools.pairwise([0, *cut(segment.nodes)])

    def _translate(self, segment: int, level: int, keep: frozenset[str]) -> list[Action]:
        layers = self.lifted[segment]
        completed = self.segments[segment].completed
        kept = [
            {name: _placed(self.program.tensor[name]) for names in completed[a:b] for name in names if name in keep}
            for a, b in self._nests(self.segments[segment])
        ]
        flow = dataflow.analyse(layers, kept, list(self._live(segment)), self.program.dram_bytes)
        cache = self._kernels.setdefault(segment, {})
        steps = Schedule(self.program, layers, flow, level, cache, self.threads, self._execute(level)).run()
        assign(steps, self._buffers)
        return [step.bind() for step in steps]

    def _live(self, segment: int) -> Iterator[Region]:
        """What is read from DRAM after a segment: by the host, by later segments, and as model outputs."""
        tensors = {name for port in self.program.outputs for name in port.tensors}
        for later in self.segments[segment:]:
            if later.host is not None:
                tensors.update(self.program.host[later.host].inputs)
        for name in sorted(tensors):
            tensor = self.program.tensor[name]
            if tensor.place is not None:
                yield _placed(tensor)
        for later in self.segments[segment + 1 :]:
            for leaf in leaves(later.nodes):
                if isinstance(leaf.op.instr, table.Load):
                    yield byte_region(leaf.op.views["t"])

    def _execute(self, level: int) -> Callable[[Opaque], Action]:
        """Makes the action that executes an opaque layer on DRAM."""

        def execute(layer: Opaque) -> Action:
            alone = Segment(layer.nodes, ((),) * len(layer.nodes), None)
            engine = ReferenceEngine(self.program, (alone,), self.threads)
            return lambda memory, results: results.update(engine.run(0, memory, level, frozenset()))

        return execute


def _placed(tensor: TensorInfo) -> Region:
    """The bytes of a tensor in DRAM, in ONNX's order of elements."""
    if tensor.place is None:
        raise ValueError(f"{tensor.name} does not lie in DRAM")
    item = np.dtype(tensor.dtype).itemsize
    if item == 1:
        return Region(tensor.place.base, tensor.shape, tensor.place.strides)
    return Region(tensor.place.base, (*tensor.shape, item), (*tensor.place.strides, 1))
