"""Counters of the memories: bytes per second, and bytes in use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmac.isa import table
from mmac.isa.structure import Op
from mmac.runtime.timing.events import Batch, Event
from mmac.runtime.timing.machine import Machine
from mmac.runtime.trace.facts import TRAFFIC, Facts
from mmac.runtime.trace.occupancy import Extent, GlobalBuffer, Scratchpads
from mmac.runtime.trace.timeline import Timeline

Counter = tuple[str, str, Timeline]
"""Name, unit and values."""


class Memories:
    """What goes on in DRAM, the global buffer and the scratchpads; fed with all events, then asked for counters."""

    def __init__(self, machine: Machine, level: int) -> None:
        self.machine = machine
        self.traffic = {action: Timeline() for action in TRAFFIC}
        self.pads = Scratchpads(level)
        self.spans: dict[int, tuple[Op | None, int, int]] = {}

    def follow(self, batch: Batch) -> None:
        """Take the next events."""
        self.pads.follow(batch)
        for event in batch.events:
            if isinstance(self.machine.program.code[event.pc], table.Host):
                self.spans[event.pc] = None, event.end, event.end

    def moved(self, op: Op, facts: Facts, events: Sequence[Event]) -> None:
        """Executions of one instruction: what they move counts evenly over their time."""
        for action, sizes in facts.traffic.items():
            for event, size in zip(events, sizes.tolist(), strict=True):
                self.traffic[action].add(event.start, event.end, size / (event.end - event.start))
        start, end = events[0].start, events[-1].end
        if op.pc in self.spans:
            start = self.spans[op.pc][1]
        self.spans[op.pc] = op, start, end

    def counters(self, end: int) -> Iterator[Counter]:
        """All that there is to see, after the last event; the program ends at cycle `end`."""
        base, size = self.machine.program.buffer
        for action, name in TRAFFIC.items():
            if action.startswith("dram") or size:
                yield name, "GB/s", self._rate(self.traffic[action])
        if size:
            yield "buffer", f"bytes of {size:,}", self._buffer(base, size, end)
        self.pads.close()
        for pad, capacity in self.machine.program.scratchpads.items():
            yield pad, f"bytes of {capacity:,}", self.pads.occupied[table.Pad[pad.upper()]]

    def _rate(self, bytes_per_cycle: Timeline) -> Timeline:
        scale = self.machine.target.clock.mhz / 1000
        return Timeline({time: change * scale for time, change in bytes_per_cycle.changes.items()})

    def _buffer(self, base: int, size: int, end: int) -> Timeline:
        """Loads and stores in program order, in which they depend on each other."""
        program = self.machine.program
        buffer = GlobalBuffer(base, size, program.image.size)
        for pc in sorted(self.spans):
            op, start, stop = self.spans[pc]
            instr = program.code[pc]
            if op is not None and isinstance(instr, table.Load):
                buffer.read(Extent.of_view(op.views["t"]), stop)
            elif op is not None and isinstance(instr, table.Store | table.StoreAcc):
                buffer.written(Extent.of_view(op.views["t"]), start, stop)
            elif isinstance(instr, table.Host):
                segment = program.host[instr.segment]
                for place in self._placed(segment.inputs):
                    buffer.read(place, stop)
                for place in self._placed(segment.outputs):
                    buffer.written(place, stop, stop)
        for place in self._placed([name for port in program.outputs for name in port.tensors]):
            buffer.read(place, end)
        buffer.close(end)
        return buffer.occupied

    def _placed(self, names: Sequence[str]) -> list[Extent]:
        places = (Extent.of_tensor(self.machine.program.tensor[name]) for name in names)
        return [place for place in places if place is not None]
