"""From the partitioned graph to operations on DRAM buffers (the first half of pass `tile`).

Every value of the graph that the device holds gets a `Layout`. Operators that only change shapes give their output
another layout on the same bytes; a concatenation makes its inputs write into slices of one buffer where it can.
Nodes of unit ``host`` are gathered into as few host segments as the order of the graph allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmac.compiler.frontend import NOTES
from mmac.compiler.graph import ALPHA, BETA, CALIBRATION, LEVELS, noted_sqnr
from mmac.compiler.graph.edit import all_operands
from mmac.compiler.tile import host
from mmac.compiler.tile.graph_values import (
    axis_of,
    constant_array,
    dtype_of,
    natural_order,
    quantization_of,
    shape_of,
    unit_of,
)
from mmac.compiler.tile.ir import Buffer, HostCall, Operation, Tensor, TileProgram, View
from mmac.compiler.tile.layout import Layout, elementwise_axes
from mmac.isa.errors import MalformedError, UnsupportedError
from mmac.isa.plan import LayerPlan, Level, Plan, parse_levels
from mmac.isa.program import HostSegment, Port

Handler = Callable[["Lowering", ir.Node], None]
HANDLERS: dict[tuple[str, str], Handler] = {}


def lowers(*names: str, domain: str = "") -> Callable[[Handler], Handler]:
    """Register the lowering of ONNX operators."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update({(domain, name): handler for name in names})
        return handler

    return register


def lower(model: ir.Model, target: str) -> TileProgram:
    """Lower a model as pass `terms` leaves it.

    Raises:
        UnsupportedError: something that partition should have given to the host.
    """
    return Lowering(model, target).run()


class Lowering:
    """State of one lowering; handlers in `mmac.compiler.tile.operators` add to it."""

    def __init__(self, model: ir.Model, target: str) -> None:
        self.model, self.graph, self.target = model, model.graph, target
        self.layouts: dict[str, Layout] = {}
        self.homes: dict[str, Callable[[], Layout]] = {}
        self.buffers: list[Buffer] = []
        self.tensors: dict[str, Tensor] = {}
        self.data: dict[str, npt.NDArray[np.generic]] = {}
        self.operations: list[Operation] = []
        self.layers: list[LayerPlan] = []
        self.segments: list[HostSegment] = []
        self.levels = parse_levels(model.metadata_props[LEVELS])
        self.input_tensors: dict[str, list[str]] = {v.name or "": [] for v in self.graph.inputs}
        self.output_tensors: dict[str, str] = {}

    # ------------------------------------------------------------------------------------------------------ the walk

    def run(self) -> TileProgram:
        """Lower all nodes, device work first wherever there is a choice, so that host segments are few."""
        for value in self.graph.inputs:
            self._take_input(value)
        for node in self.graph:
            if node.op_type == "Concat" and unit_of(node) == "layout":
                self._plan_concat(node)
        pending = list(self.graph)
        while pending:
            before = len(pending)
            pending = self._lower_ready(pending)
            pending = self._call_host(pending)
            if len(pending) == before:
                raise MalformedError(pending[0].name or "graph", "its inputs are never computed")
        meta = self.model.metadata_props
        return TileProgram(
            name=self.graph.name or "model",
            target=self.target,
            plan=Plan(self.levels, tuple(self.layers)),
            tensors=tuple(self.tensors.values()),
            inputs=tuple(self._port(v, self.input_tensors[v.name or ""]) for v in self.graph.inputs),
            outputs=tuple(self._port(v, [self._output_tensor(v)]) for v in self.graph.outputs),
            buffers=tuple(self.buffers),
            operations=tuple(self.operations),
            host=tuple(self.segments),
            sqnr_db=noted_sqnr(self.model),
            notes={key.removeprefix("mmac."): meta[key] for key in (NOTES, CALIBRATION) if key in meta},
            data=self.data,
        )

    def _lower_ready(self, pending: list[ir.Node]) -> list[ir.Node]:
        left = []
        for node in pending:
            if unit_of(node) == "host" or not self._ready(node):
                left.append(node)
                continue
            handler = HANDLERS.get((node.domain, node.op_type))
            if handler is None:
                raise UnsupportedError(f"node {node.name}", f"no lowering for {node.domain}::{node.op_type}")
            handler(self, node)
        return left

    def _call_host(self, pending: list[ir.Node]) -> list[ir.Node]:
        chosen: list[ir.Node] = []
        made: set[str] = set()
        for node in pending:
            if unit_of(node) == "host" and self._ready(node, made):
                chosen.append(node)
                made |= {v.name or "" for v in node.outputs}
        if chosen:
            self._add_segment(chosen)
        return [node for node in pending if node not in set(chosen)]

    def _add_segment(self, nodes: Sequence[ir.Node]) -> None:
        segment, outputs = host.segment(self.model, nodes)
        index = len(self.segments)
        self.segments.append(segment)
        for value in outputs:
            wanted = any(unit_of(user) != "host" for user, _ in value.uses())
            if dtype_of(value) in ("uint8", "int8") and wanted:
                self.define(value, self.home(value))
            else:
                self.declare_host(value)
        reads, writes = (tuple(self._buffers(names)) for names in (segment.inputs, segment.outputs))
        self.operations.append(HostCall(f"host{index}", index, reads, writes))

    def _buffers(self, names: Sequence[str]) -> Iterator[str]:
        for name in names:
            buffer = self.tensors[name].buffer
            if buffer is not None:
                yield buffer

    def _ready(self, node: ir.Node, also: set[str] = frozenset()) -> bool:  # type: ignore[assignment]
        return all(
            v.const_value is not None or v.name in self.tensors or (v.name or "") in also for v in all_operands(node)
        )

    # ------------------------------------------------------------------------------------------------------- tensors

    def _take_input(self, value: ir.Value) -> None:
        """A graph input that the device or a host segment reads as it is (float ones arrive through their Q nodes)."""
        users = [node for node, _ in value.uses()]
        if all(node.op_type == "QuantizeLinear" and unit_of(node) == "io" for node in users) and users:
            self.declare_host(value)
            return
        if dtype_of(value) in ("uint8", "int8") and any(unit_of(node) != "host" for node in users):
            self.define(value, self.home(value))
        else:
            self.declare_host(value)
        self.input_tensors[value.name or ""].append(value.name or "")

    def _port(self, value: ir.Value, tensors: Sequence[str]) -> Port:
        return Port(value.name or "", dtype_of(value), shape_of(value), tuple(tensors))

    def _output_tensor(self, value: ir.Value) -> str:
        return self.output_tensors.get(value.name or "", value.name or "")

    def declare_host(self, value: ir.Value) -> None:
        """A tensor that only the host holds."""
        self.tensors[value.name or ""] = Tensor(value.name or "", dtype_of(value), shape_of(value))

    def define(self, value: ir.Value, layout: Layout) -> None:
        """`value` lies there."""
        name = value.name or ""
        self.layouts[name] = layout
        dtype, shape = dtype_of(value), shape_of(value)
        scale, zero = quantization_of(value)
        self.tensors[name] = Tensor(name, dtype, shape, layout.buffer, layout.offset, layout.strides, scale, zero)

    def home(self, value: ir.Value, order: Sequence[int] | None = None) -> Layout:
        """Where a value that an operation computes is to be written: a slice of a concatenation, or a new buffer.

        `order` lists axes from the outermost to the innermost in memory; by default channels last where a
        convolution or pooling is near.
        """
        name = value.name or ""
        if name in self.homes:
            return self.homes[name]()
        shape = shape_of(value)
        layout = Layout.dense(name, shape, order or natural_order(value))
        self.add_buffer(name, layout.size)
        return layout

    def add_buffer(self, name: str, size_bytes: int) -> None:
        """A new piece of DRAM for activations."""
        self.buffers.append(Buffer(name, size_bytes))

    def define_quantized(self, value: ir.Value, scale: ir.Value | None, zero: ir.Value | None) -> None:
        """A new home for a value that the host quantizes."""
        self.define(value, self.home(value))
        self.note_quantization(value, scale, zero)

    def note_quantization(self, value: ir.Value, scale: ir.Value | None, zero: ir.Value | None) -> None:
        """Remember what a tensor's integers mean."""
        name = value.name or ""
        self.tensors[name] = replace(
            self.tensors[name],
            scale=float(constant_array(scale)),
            zero_point=0 if zero is None else int(constant_array(zero)),
        )

    def constant(self, name: str, array: npt.NDArray[np.generic]) -> None:
        """Add an array to the program image."""
        self.data[name] = array
        self.buffers.append(Buffer(name, array.nbytes, constant=True))

    def _plan_concat(self, node: ir.Node) -> None:
        """Let the producers of a concatenation's inputs write into it directly, unless that is settled already."""
        output = node.outputs[0]
        inputs = [v for v in node.inputs if v is not None]
        axis = axis_of(node, len(shape_of(output)))
        made: list[Layout] = []

        def whole() -> Layout:
            if not made:
                made.append(self.home(output))
            return made[0]

        self.homes.setdefault(f"{output.name}\0concat", whole)
        start = 0
        for value in inputs:
            stop = start + shape_of(value)[axis]
            producer = value.producer()
            owned = producer is not None and unit_of(producer) in ("array", "vector", "host", "io")
            if owned and value.name not in self.homes and inputs.count(value) == 1:
                self.homes[value.name or ""] = lambda a=start, b=stop: slice_axis(whole(), axis, a, b)  # type: ignore[misc]
            start = stop

    def concat_home(self, value: ir.Value) -> Layout:
        """The buffer of a concatenation's output (see `_plan_concat`)."""
        return self.homes[f"{value.name}\0concat"]()

    # ---------------------------------------------------------------------------------------------- views and plans

    def layout(self, value: ir.Value | None) -> Layout:
        """Layout of an operand; constants are put into the program image when first asked for."""
        if value is None:
            raise MalformedError("graph", "an operand is missing")
        name = value.name or ""
        if name not in self.layouts:
            array = constant_array(value)
            self.constant(name, array)
            self.layouts[name] = Layout.dense(name, array.shape)
        return self.layouts[name]

    def views(self, layouts: Sequence[Layout], name: str) -> list[View]:
        """4-D views in which operands of one shape are walked together, the first one in memory order."""
        groups = elementwise_axes(layouts)
        if groups is None:
            raise UnsupportedError(f"node {name}", "its operands need more than four dimensions")
        views = [layout.view(groups) for layout in layouts]
        return [v for v in views if v is not None]

    def add_layer(self, node: ir.Node) -> int:
        """Add the node's budgets to the plan; its index there."""
        alphas = [int(a) for a in node.metadata_props[ALPHA].split(",")]
        betas = [int(b) for b in node.metadata_props[BETA].split(",")]
        self.layers.append(LayerPlan(node.name or "", tuple(map(Level, alphas, betas))))
        return len(self.layers) - 1


def slice_axis(layout: Layout, axis: int, start: int, stop: int) -> Layout:
    """Elements start…stop-1 along an axis."""
    return _forward(layout, tuple(slice(start, stop) if a == axis else slice(None) for a in range(len(layout.shape))))


def strided(layout: Layout, starts: Sequence[int], steps: Sequence[int]) -> Layout:
    """Every steps-th element from starts on, along each axis."""
    return _forward(layout, tuple(slice(start, None, step) for start, step in zip(starts, steps, strict=True)))


def _forward(layout: Layout, index: tuple[slice, ...]) -> Layout:
    part = layout.map(lambda a: a[index])
    if part is None:
        raise ValueError("a forward slice never needs a copy")
    return part
