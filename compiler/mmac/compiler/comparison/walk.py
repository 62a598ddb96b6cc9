"""One level of a program beside its reference, layer by layer, with only the live tensors in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mmac.compiler.comparison.errors import TINY, VARIANTS, Sums, distance
from mmac.compiler.comparison.stages import Stages
from mmac.compiler.comparison.steps import Piece, Step
from mmac.compiler.graph.call import Call
from mmac.compiler.graph.edit import Array
from mmac.compiler.graph.execute import session
from mmac.compiler.graph.layer_sums import LayerKernel, Products, Real
from mmac.isa.program import Program
from mmac.runtime import Session
from mmac.runtime.ports import dequantize

Feed = Mapping[str, Array]
Tick = Callable[[Step], None]

_COMPUTED = len(VARIANTS) - 1
"""Variants that are computed here; the last one is what the program gives."""


@dataclass
class Row:
    """What is known of one step at one level.

    Attributes:
        accumulated: the variants run from the model's inputs on, against the reference model.
        local: one layer, fed with the program's own tensors, against the reference's layer on these.
        uncorrected: Σ (y − reference)², where y is the layer on the program's own tensors with the model's constants.
        wrong: integers of the program that are not what the compiled model means.
        values: how many values there are.
    """

    accumulated: Sums = field(default_factory=Sums)
    local: Sums = field(default_factory=Sums)
    uncorrected: float = 0.0
    wrong: int = 0
    values: int = 0

    @property
    def uncorrected_noise(self) -> float:
        """`uncorrected` as a share of the power of the reference."""
        return self.uncorrected / max(self.accumulated.signal, TINY)


class LevelWalk:
    """Walks one level of a program.

    Args:
        stages: of the model.
        program: compiled from it.
        steps: of both, see `plan_steps`.
        level: position in the plan.
        chunk_bytes: what the program's tensors that wait to be compared may take.
    """

    def __init__(self, stages: Stages, program: Program, steps: Sequence[Step], level: int, chunk_bytes: int) -> None:
        self._stages, self._program, self._steps, self._level = stages, program, steps, level
        self._exact = stages.exact(level)
        self._nodes, self._full, self._calls = (
            {node.name or "": node for node in model.graph} for model in (self._exact, stages.full, stages.outlined)
        )
        self._session = Session(program)
        self._chunk_bytes = chunk_bytes
        self.rows = [Row() for _ in steps]

    def add(self, feeds: Sequence[Feed], tick: Tick = lambda step: None) -> None:
        """Some samples, each with all inputs of the model."""
        inputs = {name: np.stack([feed[name] for feed in feeds]) for name in feeds[0]}
        truth = self._true_outputs(feeds)
        variants: dict[str, list[Array]] = {name: [array] * len(VARIANTS) for name, array in inputs.items()}
        references = dict(inputs)
        last, last_there = _last_uses(self._steps)
        for number, (step, found) in enumerate(zip(self._steps, self._tensors(feeds), strict=True)):
            tick(step)
            theirs = Piece(self._stages.reference, step.reference_inputs, step.reference)
            reference = theirs.run([references[name] for name in step.reference_inputs])
            given = [
                _as_type(references[name], self._real(tensor, variants[tensor][-1]), variants[tensor][-1])
                for name, tensor in zip(step.reference_inputs, step.reference_tensors, strict=True)
            ]
            made, local, meant = self._compute(step, [variants[name] for name in step.inputs], found)
            row, local_reference = self.rows[number], theirs.run(given)
            row.values += found.size
            row.wrong += int(np.count_nonzero(found != meant)) if np.issubdtype(found.dtype, np.integer) else 0
            self._measure(row, step, truth.get(step.tensor, reference), [*made, found], local_reference, local)
            variants[step.tensor], references[step.reference] = [*made, found], reference
            for held, ends in ((variants, last), (references, last_there)):
                for name in [name for name in held if ends.get(name, -1) <= number]:
                    del held[name]

    def _measure(
        self,
        row: Row,
        step: Step,
        reference: Array,
        variants: Sequence[Array],
        local_reference: Array,
        local: Sequence[Array],
    ) -> None:
        reals: dict[int, Array] = {}

        def real(array: Array) -> Array:
            if id(array) not in reals:
                reals[id(array)] = self._real(step.tensor, array)
            return reals[id(array)]

        row.accumulated.add(real(reference), list(map(real, variants)))
        row.local.add(real(local_reference), [*map(real, local), real(variants[-1])])
        row.uncorrected += distance(real(local[-1]), real(reference))

    def _compute(
        self, step: Step, operands: Sequence[list[Array]], found: Array
    ) -> tuple[list[Array], list[Array], Array]:
        """What the variants make of their own operands, and of the program's; what the program ought to give."""
        if step.is_layer:
            (data,) = operands
            layer = _ArrayLayer(
                LayerKernel(Call(self._calls[step.layer], self._stages.outlined)),
                Products.of_exact(self._full[step.layer]),
                Products.of_exact(self._nodes[step.layer]),
            )
            made, (*local, meant) = layer.results(data[:-1]), layer.results(data[-1:] * len(VARIANTS))
            if not np.array_equal(found, meant):  # binary32 may have rounded a sum
                meant = Piece(self._exact, step.inputs, step.tensor).run([data[-1]])
            return made, local, meant
        exact = Piece(self._exact, step.inputs, step.tensor)
        done: dict[tuple[int, ...], Array] = {}
        results: list[Array] = []
        for arrays in zip(*operands, strict=True):
            key = tuple(map(id, arrays))
            if key not in done:
                done[key] = exact.run(arrays)
            results.append(done[key])
        *made, meant = results
        return made, [meant] * _COMPUTED, meant

    def _true_outputs(self, feeds: Sequence[Feed]) -> dict[str, Array]:
        """Outputs [samples, *shape] of the model as the user gave it."""
        names = [port.name for port in self._program.outputs]
        original = session(self._stages.original)  # not kept: it may hold two copies of the weights
        columns = zip(*(original.run(names, dict(feed)) for feed in feeds), strict=True)
        return {name: np.stack(column) for name, column in zip(names, columns, strict=True)}

    def _tensors(self, feeds: Sequence[Feed]) -> Iterator[Array]:
        """Of each step the program's tensor [samples, *shape]."""
        for chunk in self._chunks(len(feeds)):
            names = [step.tensor for step in chunk]
            columns = zip(*(self._session.run(names, feed, self._level) for feed in feeds), strict=True)
            for column in columns:
                yield np.stack(column)

    def _chunks(self, samples: int) -> Iterator[list[Step]]:
        """Consecutive steps whose tensors may be there at once; at least one."""
        chunk: list[Step] = []
        size = 0
        for step in self._steps:
            own = samples * step.size_bytes
            if chunk and size + own > self._chunk_bytes:
                yield chunk
                chunk, size = [], 0
            chunk.append(step)
            size += own
        yield chunk

    def _real(self, tensor: str, array: Array) -> Array:
        """A tensor of the program as float32."""
        info = self._program.tensor.get(tensor)
        if info is None or info.scale is None or not np.issubdtype(array.dtype, np.integer):
            return array.astype(np.float32, copy=False)
        return dequantize(array, info.scale, info.zero_point or 0)


def _as_type(like: Array, real: Array, integers: Array) -> Array:
    """A tensor of the program as the reference model wants it: real if that is real."""
    return real if np.issubdtype(like.dtype, np.floating) else integers


def _last_uses(steps: Sequence[Step]) -> tuple[dict[str, int], dict[str, int]]:
    """Number of the last step that needs a tensor of the program, and a value of the reference model."""
    last: dict[str, int] = {}
    last_there: dict[str, int] = {}
    for number, step in enumerate(steps):
        last |= dict.fromkeys((*step.inputs, *step.reference_tensors), number)
        last_there |= dict.fromkeys(step.reference_inputs, number)
    return last, last_there


class _ArrayLayer:
    """One layer on the array in all variants: in turn more truncated, at last with the program's biases and scales."""

    def __init__(self, kernel: LayerKernel, whole: Products, own: Products) -> None:
        self._kernel = kernel
        same_weights, same_data = np.array_equal(own.weights, whole.weights), np.array_equal(own.data, whole.data)
        weights = whole if same_weights else replace(whole, weights=own.weights)
        data = weights if same_data else replace(weights, data=own.data)
        self._multiplied = (whole, weights, data, data)
        self._scaled = (whole, whole, whole, own)

    def results(self, data: Sequence[Array]) -> list[Array]:
        """Of the first variants, each on its own data; equal ones are the same array."""
        sums: dict[tuple[int, int], list[Real]] = {}
        done: dict[tuple[int, int, int], Array] = {}
        results: list[Array] = []
        for x, products, constants in zip(data, self._multiplied, self._scaled, strict=False):
            key = id(x), id(products)
            if key not in sums:
                sums = {key: self._kernel.sums(x, products)}
            if (*key, id(constants)) not in done:
                done[*key, id(constants)] = self._kernel.requantize(sums[key], constants)
            results.append(done[*key, id(constants)])
        return results
