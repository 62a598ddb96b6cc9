"""Proof that queues never race: what is read has been written before, what is overwritten has been read before.

Executes the program abstractly, in program order, with vector clocks (`order`): each iteration of a loop until the
relative state repeats, which double-buffered code does after three or four. An iteration's effect depends only on
that state, on the parities of the loop indices (which select slots) and on whether an index is 0 (where sums start),
so from there on everything repeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmac.isa import table
from mmac.isa.errors import ResourceError, VerificationError
from mmac.isa.program import PARAM_DTYPE
from mmac.isa.spec import NONE_LOOP, Queue
from mmac.isa.structure import Node, Op, Repeat
from mmac.isa.table import Pad
from mmac.isa.verify.addresses import Accesses
from mmac.isa.verify.context import Context, Site
from mmac.isa.verify.in_place import check_wait
from mmac.isa.verify.order import QUEUES, START, DramUse, Order, Region, State, with_event
from mmac.isa.verify.uses import USES, Content, Use

MAX_STEPS = 1 << 20
"""Abstract executions of instructions in total, and what it takes to compare states: at most some seconds."""

MAX_ITERATIONS = 64
"""Iterations after which a loop must have settled."""

MAX_REGIONS = 1 << 10
"""Distinct pieces of one scratchpad that are tracked at a time."""


@dataclass(frozen=True)
class Handovers:
    """Who reads what from whom through a scratchpad, as pairs (reader, writer) of positions in the code.

    Attributes:
        tiles: `mmac` and the `load.terms` of its weight tile.
        sums: `store.acc` and the `mmac` of its accumulators.
        params: `store.acc` and the `load` or `load.params` of its channel constants.
    """

    tiles: set[tuple[int, int]] = field(default_factory=set)
    sums: set[tuple[int, int]] = field(default_factory=set)
    params: set[tuple[int, int]] = field(default_factory=set)


def check_races(context: Context, accesses: Accesses) -> Handovers:
    """Check the whole program; needs `check_tokens`.

    Raises:
        VerificationError: a read that is not ordered after the one write of all that it reads, an overwrite that is
            not ordered after the reads of the old content, a loop that does not settle.
        ResourceError: loops that need too many steps.
    """
    execution = _Execution(context, accesses)
    for number, node in enumerate(context.nodes):
        execution.top(number, node)
    return execution.handovers


class _Execution:
    """Abstract execution of the tree."""

    def __init__(self, context: Context, accesses: Accesses) -> None:
        self.context, self.accesses = context, accesses
        self.sites: Mapping[int, Site] = {site.pc: site for site in context.sites}
        self.order = Order()
        self.handovers = Handovers()
        self.indices: list[int] = []
        self.settled: dict[tuple[int, tuple[int, ...], State], State] = {}
        self.steps = 0
        self.node = 0

    def top(self, number: int, node: Node) -> None:
        """Execute a top-level node; afterwards DRAM accesses that all queues know of are forgotten."""
        self.node = number
        self._run(node)
        self.settled.clear()
        order = self.order
        order.dram = [use for use in order.dram if not order.knows(_peer(use.queue), use.queue, use.time)]

    def _run(self, node: Node) -> None:
        if isinstance(node, Repeat):
            self._repeat(node)
        elif isinstance(node.instr, table.Host):
            self.order.barrier()
        elif isinstance(node.instr, table.Queued):
            self._execute(node, node.instr)

    # ------------------------------------------------------------------------------------------------------- loops

    def _repeat(self, loop: Repeat) -> None:
        """All iterations; how the loop ends is remembered by how it is entered."""
        parities = tuple(index & 1 for index in self.indices)
        key = (loop.pc, parities, self._state(loop))
        if key in self.settled:
            self.order.restore(self.settled[key])
            return
        self.indices.append(0)
        self._iterate(loop)
        self.indices.pop()
        self.settled[key] = self._state(loop)

    def _iterate(self, loop: Repeat) -> None:
        seen: dict[tuple[int, State], int] = {}
        index, stop, searching = 0, loop.count, True
        while index < stop:
            if index and searching:
                key = (index & 1, self._state(loop))
                if key in seen:
                    # the iterations seen[key] … index-1 repeat to the end: only the rest of a period is left
                    stop = index + (loop.count - index) % (index - seen[key])
                    searching = False
                    continue
                seen[key] = index
                if index > MAX_ITERATIONS:
                    found = f"the use of scratchpads has not settled after {index} iterations"
                    raise self.context.error(loop.pc, found, "a loop whose iterations repeat")
            self.indices[-1] = index
            for child in loop.body:
                self._run(child)
            self._age(loop.depth)
            index += 1

    def _state(self, loop: Repeat) -> State:
        self._spend(self.order.size // 8, loop)
        return self.order.normalise()

    def _spend(self, steps: int, node: Node) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            where = self.context.where(node.pc)
            raise ResourceError(where, "loops up to here take too many steps to be proved", f"{MAX_STEPS}")

    def _age(self, depth: int) -> None:
        """A loop has gone on: sums whose box moves with it belong to the past."""
        pad = self.order.pads[Pad.ACC]
        for number, region in enumerate(pad):
            if region.pc is not None and not region.stale:
                steps = self.sites[region.pc].op.views["y"].walk
                if any(step.loop == depth for step in steps):
                    pad[number] = region._replace(stale=True)

    # ------------------------------------------------------------------------------------------------ instructions

    def _execute(self, op: Op, instr: table.Queued) -> None:
        self._spend(1, op)
        queue = _number(instr.queue)
        time = self.order.begin(queue, instr.waits)
        reach = self.accesses.dram.get(op.pc)
        if reach is not None and reach.high > self.context.program.image.size:
            self._touch_dram(op, queue, time)
        for use, size in zip(USES.get(type(instr), ()), self.accesses.sizes.get(op.pc, ()), strict=True):
            start = op.rings[use.ring].address(self.indices)
            if not use.writes:
                self._read(op, use, queue, time, start, size)
            elif isinstance(instr, table.Mmac) and instr.first != NONE_LOOP and self.indices[instr.first]:
                self._accumulate(op, use, queue, time, start, size)
            else:
                self._write(op, op.rings[use.ring].pad, Region(start, start + size, op.pc, queue, time))
        self.order.signal(queue, instr.signals)

    def _read(self, op: Op, use: Use, queue: int, time: int, start: int, size: int) -> None:
        pad = op.rings[use.ring].pad
        regions = self.order.pads[pad]
        stop = start + max(size, 1)  # a weight tile has one byte at least
        what = f"it reads bytes {start} … {stop - 1} of the {pad.name} scratchpad"
        for number, region in enumerate(regions):
            if region.pc is not None and region.start <= start and stop <= region.stop:
                if not self.order.knows(queue, region.queue, region.time):
                    raise self._unordered(op, what, region.pc)
                self._check_content(op, use, region, start)
                regions[number] = region._replace(reads=with_event(region.reads, queue, time))
                return
        raise self.context.error(op.pc, what, "bytes that one earlier instruction has written")

    def _accumulate(self, op: Op, use: Use, queue: int, time: int, start: int, size: int) -> None:
        """Add to sums: they must be the same instruction's, begun in iteration 0 of its innermost loop."""
        pad = op.rings[use.ring].pad
        for number, region in enumerate(self.order.pads[pad]):
            if (region.start, region.stop, region.pc, region.stale) == (start, start + size, op.pc, False):
                self._check_over(op, pad, region, queue)
                self.order.pads[pad][number] = region._replace(time=time, reads=START)
                return
        raise self.context.error(op.pc, f"it adds to bytes {start} … {start + size - 1} of the {pad.name} scratchpad",
                                 "sums that it has begun itself in iteration 0")  # fmt: skip

    def _write(self, op: Op, pad: Pad, new: Region) -> None:
        kept = []
        for region in self.order.pads[pad]:
            if region.stop <= new.start or new.stop <= region.start:
                kept.append(region)
                continue
            self._check_over(op, pad, region, new.queue)
            for start, stop in ((region.start, new.start), (new.stop, region.stop)):
                if start < stop:
                    kept.append(region._replace(start=start, stop=stop, pc=None))
        if new.start < new.stop:
            kept.append(new)
        if len(kept) > MAX_REGIONS:
            raise ResourceError(
                self.context.where(op.pc), f"{len(kept)} pieces of the {pad.name} scratchpad in use", f"{MAX_REGIONS}"
            )
        self._spend(len(kept) // 16, op)
        self.order.pads[pad] = sorted(kept, key=lambda region: region.start)

    def _check_over(self, op: Op, pad: Pad, old: Region, queue: int) -> None:
        """The present event may overwrite `old`."""
        what = f"it overwrites bytes {old.start} … {old.stop - 1} of the {pad.name} scratchpad"
        if not self.order.knows(queue, old.queue, old.time):
            raise self._unordered(op, what, old.pc)
        for reader, time in enumerate(old.reads):
            if not self.order.knows(queue, reader, time):
                name = QUEUES[reader].name.lower()
                raise self.context.error(op.pc, f"{what} while the {name} queue may still read them",
                                         f"a token from the {name} queue first")  # fmt: skip

    # ---------------------------------------------------------------------------------------------------- contents

    def _check_content(self, op: Op, use: Use, region: Region, start: int) -> None:
        """What is read is of the right kind and read from its beginning."""
        if use.content == Content.BYTES or region.pc is None:
            return
        writer, pair = self.sites[region.pc].op, (op.pc, region.pc)
        if region.start != start:
            found = f"{use.ring} points {start - region.start} bytes into what {self.context.where(writer.pc)} wrote"
            raise self.context.error(op.pc, found, f"the start of {use.content.value}")
        if use.content == Content.TILE:
            self.handovers.tiles.add(pair)
        elif use.content == Content.PARAMS:
            self._check_params(op, writer)
            self.handovers.params.add(pair)
        else:
            self._check_sums(op, writer, region)
            self.handovers.sums.add(pair)

    def _check_params(self, op: Op, writer: Op) -> None:
        if writer.views["t"].elem != PARAM_DTYPE.itemsize:
            found = f"its constants are elements of {writer.views['t'].elem} bytes, by {self.context.where(writer.pc)}"
            raise self.context.error(op.pc, found, f"elements of {PARAM_DTYPE.itemsize} bytes: bias and scale")

    def _check_sums(self, op: Op, writer: Op, region: Region) -> None:
        """Sums exist inside the view of y only, so the store must skip the same elements."""
        sums, stored = writer.views["y"], op.views["t"]
        if region.stale or (sums.walk, sums.shape) != (stored.walk, stored.shape):
            found = f"the box of t is not that of y in {self.context.where(writer.pc)}, whose sums it reads"
            raise self.context.error(op.pc, found, "the same sizes and walk, in the same iteration")

    def _unordered(self, op: Op, what: str, pc: int | None) -> VerificationError:
        writer = "another instruction" if pc is None else self.context.where(pc)
        return self.context.error(op.pc, f"{what}, which {writer} may still be writing", "a token from it first")

    # -------------------------------------------------------------------------------------------------------- DRAM

    def _touch_dram(self, op: Op, queue: int, time: int) -> None:
        """Loads wait for the stores of earlier top-level nodes, stores for their loads, where they share bytes.

        Within a node only stores in place share bytes with a load (`in_place`): with that of the same iteration.
        """
        own, kept = DramUse(op.pc, queue, time), []
        self._spend(len(self.order.dram) // 16, op)
        for use in self.order.dram:
            if use.pc == op.pc:
                continue
            kept.append(use)
            if use.queue == queue or self.order.knows(queue, use.queue, use.time):
                continue
            if self.sites[use.pc].node != self.node:
                self._check_apart(op, use)
            else:
                check_wait(self.context, self.sites[op.pc], self.sites[use.pc])
        self.order.dram = [*kept, own]

    def _check_apart(self, op: Op, use: DramUse) -> None:
        mine, other = self.accesses.dram[op.pc], self.accesses.dram[use.pc]
        self.context.spend(mine.work + other.work, op.pc)
        if mine.meets(other):
            verb = "loads" if isinstance(op.instr, table.Load) else "overwrites"
            found = f"it {verb} DRAM bytes of {self.context.where(use.pc)}, which may not be over"
            raise self.context.error(op.pc, found, "a token from it first")


def _number(queue: Queue) -> int:
    """Position of a queue in clocks."""
    return QUEUES.index(queue)


def _peer(queue: int) -> int:
    """The queue that must not run into a DRAM access of `queue` outside the image: loads against stores.

    The weights queue reads the image only, which nothing overwrites (`addresses`).
    """
    return _number(Queue.STORE if queue == _number(Queue.LOAD) else Queue.LOAD)
