"""From the events of a program to the tracks of its trace."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmac.isa import table
from mmac.isa.errors import ResourceError
from mmac.isa.files import write_file
from mmac.isa.plan import Level
from mmac.isa.program import Program
from mmac.isa.spec import Instr, Queue
from mmac.isa.structure import parse
from mmac.runtime.targets import Target, target_for
from mmac.runtime.timing.events import Batch, Event, Group, batches, executions
from mmac.runtime.timing.machine import Machine
from mmac.runtime.trace.facts import Facts
from mmac.runtime.trace.format import TraceFile, Track, to_text
from mmac.runtime.trace.layers import Layer, layers_of
from mmac.runtime.trace.memories import Memories
from mmac.runtime.trace.timeline import Timeline

MAX_EVENTS = 1 << 16
"""Executed instructions that a trace may have; each takes about 0.5 KB of the file."""


def write_trace(
    program: Program,
    path: str | os.PathLike[str],
    target: Target | str | None = None,
    level: int | str | Level | None = None,
    mac: str | None = None,
) -> None:
    """Write `trace` to a file. Raises as `trace` and `mmac.isa.files.write_file`."""
    write_file(path, to_text(trace(program, target, level, mac)))


def trace(
    program: Program,
    target: Target | str | None = None,
    level: int | str | Level | None = None,
    mac: str | None = None,
) -> dict[str, Any]:
    """What every queue, unit, block and memory does during one inference, as a JSON trace-event document.

    Args:
        program: a verified program.
        target: the hardware, or its name or file; default: the target that the program was compiled for.
        level: position of the level in the plan, or the level or its name; default: the highest.
        mac: kind of cell; default: the target's own.

    Raises:
        UsageError: a target, level or cell that does not exist.
        ResourceError: more than `MAX_EVENTS` instructions are executed, or the program does not fit the target.
    """
    target = target_for(program, target)
    levels = program.plan.levels
    number = len(levels) - 1 if level is None else program.plan.index(str(level))
    machine = Machine(program, target, mac or target.array.cell)
    if (count := executions(parse(program.code))) > MAX_EVENTS:
        found = f"{count} instructions are executed, loops counted"
        raise ResourceError(f"trace of {program.name}", found, f"at most {MAX_EVENTS}", "trace a smaller model")
    builder = _Builder(machine, number)
    for batch in batches(machine, number):
        builder.add(batch)
    builder.finish()
    chosen = levels[number]
    about = {"model": program.name, "target": target.name, "mac": machine.mac, "level": str(chosen)}
    budgets = {"alpha": chosen.alpha, "beta": chosen.beta, "gamma": chosen.gamma}
    return builder.file.document(about | budgets | {"clock_mhz": target.clock.mhz, "cycles": builder.done})


@dataclass
class _Span:
    """Neighbours on a track that are shown as one slice."""

    layer: Layer
    name: str
    start: int
    end: int


@dataclass(frozen=True)
class _Dealt:
    """An `mmac` on the array: how many parts each block gets (int64 [blocks] as bytes), in how many rounds."""

    name: str
    start: int
    end: int
    parts: bytes
    rounds: int


class _Builder:
    """Takes batches of events in order; writes what is clear at once, and at the end what needs the whole."""

    def __init__(self, machine: Machine, level: int) -> None:
        self.machine, self.level = machine, level
        self.layers = layers_of(machine.program)
        self.memories = Memories(machine, level)
        self.done = 0
        self.shares: list[_Span] = []
        self.dispatched: list[_Span] = []
        self.dealt: list[_Dealt] = []
        self.file = TraceFile(machine.target.clock.mhz)
        shown = sorted(Queue, key=lambda queue: (queue in (Queue.COMPUTE, Queue.STORE), queue))
        queues = self.file.group("queues")
        self.queues = {queue: self.file.track(queues, queue.name.lower()) for queue in shown}
        self.layer_group = self.file.group("layers")
        self.unit_group = self.file.group("units")
        names = ("array", "multipliers", "vector unit", "requantizer")
        self.units = {name: self.file.track(self.unit_group, name) for name in names}

    def add(self, batch: Batch) -> None:
        """Take the next events."""
        for event in batch.events:
            self._account(event)
        for group in batch.groups:
            self._executions(group, [batch.events[position] for position in group.positions])
        self.memories.follow(batch)

    def finish(self) -> None:
        """All events are there."""
        share_track = self.file.track(self.layer_group, "share of the latency")
        for track, spans in ((self.queues[Queue.SEQUENCER], self.dispatched), (share_track, self.shares)):
            for span in spans:
                self.file.slice(track, span.name, span.start, span.end, span.layer.about)
        self._activity()
        self._blocks()
        memories = self.file.group("memories")
        for name, unit, timeline in self.memories.counters(self.done):
            self.file.counter(memories, name, unit, timeline.steps())

    def _account(self, event: Event) -> None:
        """The sequencer's time, and by how much each layer moves the end of the program."""
        layer, code = self.layers[event.pc], self.machine.program.code
        self.done = max(self.done, event.end)
        if event.queue != Queue.SEQUENCER:
            layer.works(event)
            return
        instr = code[event.pc]
        name = f"dispatch {layer.label}"
        if isinstance(instr, table.Host):
            name = f"wait for all queues, host segment {instr.segment}"
        elif isinstance(instr, table.Halt):
            name = "wait for all queues, halt"
        _extend(self.dispatched, _Span(layer, name, event.start, event.end))
        _extend(self.shares, _Span(layer, layer.label, self.shares[-1].end if self.shares else 0, self.done))

    def _executions(self, group: Group, events: Sequence[Event]) -> None:
        """The slices of one instruction's executions, on its queue and its unit."""
        op, label = group.op, self.layers[group.op.pc].label
        facts = Facts(group, self.level, [event.end - event.start for event in events])
        self.memories.moved(op, facts, events)
        unit = self._unit(op.instr)
        for event, row, busy in zip(events, facts.rows(), facts.busy(), strict=True):
            about = {"pc": op.pc, "layer": label, "waited_cycles": event.waited, **row}
            self.file.slice(self.queues[event.queue], f"{label} {op.instr.mnemonic}", event.start, event.end, about)
            if unit is not None:
                self.file.slice(unit, label, event.start, event.start + busy, about)
        for event, way in zip(events, facts.way.tolist(), strict=False):
            self.dealt.append(_Dealt(label, event.start, event.end, facts.parts[way].tobytes(), facts.rounds))

    def _unit(self, instr: Instr) -> Track | None:
        if isinstance(instr, table.Mmac):
            return self.units[instr.unit(self.level).name.lower()]
        if isinstance(instr, table.StoreAcc):
            return self.units["requantizer"]
        vector = instr.queue == Queue.COMPUTE and not isinstance(instr, table.SyncCompute)
        return self.units["vector unit"] if vector else None

    def _activity(self) -> None:
        """Layers from their first to their last execution, on as few tracks as do without overlaps."""
        layers = {id(layer): layer for layer in self.layers if layer.name and layer.first >= 0}
        lanes: list[tuple[Track, int]] = []
        for layer in sorted(layers.values(), key=lambda layer: layer.first):
            number = next((n for n, (_, end) in enumerate(lanes) if end <= layer.first), len(lanes))
            if number == len(lanes):
                lanes.append((self.file.track(self.layer_group, f"at work ({number + 1})"), 0))
            track = lanes[number][0]
            lanes[number] = track, layer.last
            self.file.slice(track, layer.label, layer.first, layer.last, layer.about)

    def _blocks(self) -> None:
        """Blocks work in lock step: a track for each set of blocks that get the same parts of everything."""
        if not self.dealt:
            return
        kinds = {parts: number for number, parts in enumerate(sorted({each.parts for each in self.dealt}))}
        parts = np.stack([np.frombuffer(each, np.int64) for each in kinds])
        alike: dict[bytes, list[int]] = {}
        for block, column in enumerate(parts.T):
            alike.setdefault(column.tobytes(), []).append(block)
        group = self.file.group("blocks of the array")
        for blocks in alike.values():
            track = self.file.track(group, _ranges(blocks))
            for each in self.dealt:
                if count := int(parts[kinds[each.parts], blocks[0]]):
                    about = {"parts": count, "rounds": each.rounds}
                    self.file.slice(track, each.name, each.start, each.end, about)
        in_use = Timeline()
        for each in self.dealt:
            in_use.add(each.start, each.end, int((parts[kinds[each.parts]] > 0).sum()))
        self.file.counter(self.unit_group, "array", f"blocks of {parts.shape[1]}", in_use.steps())


def _extend(spans: list[_Span], span: _Span) -> None:
    """Append a span that begins where the last one ends, or lengthen that one if it is the same."""
    if spans and spans[-1].layer is span.layer and spans[-1].name == span.name:
        spans[-1].end = span.end
    else:
        spans.append(span)


def _ranges(numbers: Sequence[int]) -> str:
    """``blocks 0-3, 8`` for 0, 1, 2, 3, 8."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    return f"{'block' if len(numbers) == 1 else 'blocks'} {', '.join(texts)}"
