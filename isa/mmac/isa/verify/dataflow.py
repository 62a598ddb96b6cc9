"""Proof that every DRAM byte that is read has been written before.

A map says of each byte whether it has been written: by the image, the inputs, a store, or the host. Top-level nodes
of the code go by one after the other: what a node loads must be there before it begins, and a node never stores
where it loads but in place, box by box, so the order inside it does not matter. (That later nodes wait for earlier
ones, is proved in `races`; what is in place, in `in_place`.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mmac.isa import table
from mmac.isa.errors import ResourceError, VerificationError
from mmac.isa.program import Program
from mmac.isa.verify.addresses import Accesses
from mmac.isa.verify.context import Context, Site
from mmac.isa.verify.in_place import rewrites
from mmac.isa.verify.reach import Reach, reach_of


def check_dataflow(context: Context, accesses: Accesses) -> None:
    """Check the whole program.

    Raises:
        VerificationError: bytes that are read before they are written, a node that stores where it loads, inputs or
            host outputs that overlap, an output that nothing writes.
        ResourceError: views that touch the same bytes too often.
    """
    flow = _Flow(context)
    flow.set_inputs()
    nodes: dict[int, list[Site]] = {}
    for site in context.sites:
        nodes.setdefault(site.node, []).append(site)
    for sites in nodes.values():
        flow.execute(sites, accesses)


class _Flow:
    """What has been written so far."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.program: Program = context.program
        try:
            self.written = np.zeros(self.program.dram_bytes, np.bool_)
        except MemoryError:
            raise ResourceError("DRAM", f"{self.program.dram_bytes} bytes", "what this machine has free") from None
        self.written[: self.program.image.size] = True
        self.hosted: set[str] = set()

    def set_inputs(self) -> None:
        """The host writes all inputs before the program starts."""
        tensors = [name for port in self.program.inputs for name in port.tensors]
        self._host_writes("inputs", 0, tensors)

    def execute(self, sites: Sequence[Site], accesses: Accesses) -> None:
        """One top-level node."""
        instr = sites[0].op.instr
        if isinstance(instr, table.Host):
            segment = self.program.host[instr.segment]
            where = self.context.where(sites[0].pc)
            self._host_reads(f"{where}, input", sites[0].pc, segment.inputs)
            self._host_writes(f"{where}, outputs", sites[0].pc, segment.outputs)
        elif isinstance(instr, table.Halt):
            names = [name for port in self.program.outputs for name in port.tensors]
            self._host_reads("output", sites[0].pc, names)
        else:
            self._access([(s, accesses.dram[s.pc]) for s in sites if s.pc in accesses.dram])

    def _access(self, touched: Sequence[tuple[Site, Reach]]) -> None:
        image = self.program.image.size
        reads = [(s, r) for s, r in touched if isinstance(s.op.instr, table.Load) and r.high > image]
        writes = [(s, r) for s, r in touched if not isinstance(s.op.instr, table.Load)]
        for site, reach in reads:
            if not self._is_written(reach, site.pc):
                found = f"it loads DRAM bytes {reach.low:#x} … {reach.high - 1:#x}, not all of which have been written"
                raise self.context.error(site.pc, found, "bytes of the image, an input, or something stored before")
            for other, target in writes:
                if target.low < reach.high and reach.low < target.high:
                    self._check_apart(site, reach, other, target)
        for site, reach in writes:
            self._write(reach, site.pc)

    def _check_apart(self, site: Site, read: Reach, other: Site, written: Reach) -> None:
        self.context.spend(read.work + written.work, site.pc)
        if read.meets(written) and not rewrites(other, site):
            raise self.context.error(other.pc, f"it stores to DRAM bytes that {self.context.where(site.pc)} loads",
                                     "different bytes inside one loop nest, or each box back in its place")  # fmt: skip

    # -------------------------------------------------------------------------------------------------------- host

    def _host_reads(self, what: str, pc: int, names: Iterable[str]) -> None:
        for name in names:
            place = reach_of(self.program.tensor[name])
            there = name in self.hosted if place is None else self._is_written(place, pc)
            if not there:
                raise VerificationError(f"{what} {name!r}", "not all of it has been written by then", "a whole tensor")

    def _host_writes(self, what: str, pc: int, names: Iterable[str]) -> None:
        """Tensors that the host writes together: above the image, and apart from each other."""
        done: list[tuple[str, Reach]] = []
        for name in dict.fromkeys(names):
            place = reach_of(self.program.tensor[name])
            if place is None:
                self.hosted.add(name)
                continue
            if place.low < self.program.image.size or place.overlaps_itself():
                raise VerificationError(
                    f"{what}: tensor {name!r}", "it overlaps itself or the read-only image", "bytes of its own"
                )
            for other, taken in done:
                if place.low < taken.high and taken.low < place.high:
                    self.context.spend(place.work + taken.work, pc)
                    if place.meets(taken):
                        raise VerificationError(
                            f"{what}: tensor {name!r}", f"it overlaps tensor {other!r}", "bytes of its own"
                        )
            done.append((name, place))
            self._write(place, pc)

    # --------------------------------------------------------------------------------------------------------- map

    def _is_written(self, reach: Reach, pc: int) -> bool:
        self.context.spend(reach.work, pc)
        return all(window.all() for window in reach.windows(self.written))

    def _write(self, reach: Reach, pc: int) -> None:
        self.context.spend(reach.work, pc)
        for window in reach.windows(self.written):
            window[...] = True
