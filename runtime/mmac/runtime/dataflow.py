"""Who reads what others have written, and how many bytes are alive when: followed byte by byte, from the program alone.

A map says of each byte of DRAM (the on-chip buffer is a window of it) which part of the program has written it last
and which has read it last. The last writer of a byte hands it to its readers, whatever tensor it once belonged to: so
reused memory, views, concatenations in place and slices are all seen as what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.errors import ResourceError
from mmac.isa.program import DebugEntry, Program, TensorInfo
from mmac.isa.verify.addresses import check_addresses
from mmac.isa.verify.context import Context, Site
from mmac.isa.verify.reach import Reach, reach_of

Int64 = npt.NDArray[np.int64]

INPUTS = -1
"""The writer of the model's inputs."""

MEMORIES = ("buffer", "dram")


@dataclass(frozen=True)
class Part:
    """Neighbouring top-level instructions and loops that belong to the same ONNX node, or to none.

    `nodes` has the instructions of each loop nest (or single instruction) outside loops.
    """

    entry: DebugEntry | None
    nodes: tuple[tuple[Site, ...], ...]


@dataclass(frozen=True)
class Dataflow:
    """What the parts of a program hand to each other.

    Attributes:
        parts: in program order, one for each share of `mmac.runtime.timing.analyse`.
        edges: (writer, reader), positions in `parts`, to the bytes handed over. `INPUTS` has written the model's
            inputs, ``len(parts)`` reads its outputs.
        live: per memory (``buffer``, ``dram``) the bytes, int64 [parts], that a part finds or leaves there and that it
            or a later one uses. The program's image does not count.
    """

    parts: tuple[Part, ...]
    edges: Mapping[tuple[int, int], int]
    live: Mapping[str, Int64]


def parts_of(context: Context) -> tuple[Part, ...]:
    """Split a program by its debug map."""
    sites: list[list[Site]] = [[] for _ in context.nodes]
    for site in context.sites:
        sites[site.node].append(site)
    parts: list[tuple[DebugEntry | None, list[tuple[Site, ...]]]] = []
    for node, found in zip(context.nodes, sites, strict=True):
        entry = context.program.entries[node.pc]
        if not parts or parts[-1][0] != entry:
            parts.append((entry, []))
        parts[-1][1].append(tuple(found))
    return tuple(Part(entry, tuple(nodes)) for entry, nodes in parts)


def dataflow(program: Program) -> Dataflow:
    """Follow the data of a verified program.

    Raises:
        ResourceError: more DRAM than this machine can keep a map of.
    """
    context = Context(program)
    reaches = check_addresses(context).dram
    parts = parts_of(context)
    flow = _Flow(program, len(parts))
    flow.host(INPUTS, (), [name for port in program.inputs for name in port.tensors])
    for number, part in enumerate(parts):
        for sites in part.nodes:
            instr = sites[0].op.instr if sites else None
            if isinstance(instr, table.Host):
                segment = program.host[instr.segment]
                flow.host(number, segment.inputs, segment.outputs)
            else:
                flow.access(number, sites, reaches)
    flow.host(len(parts), [name for port in program.outputs for name in port.tensors], ())
    return Dataflow(parts, dict(sorted(flow.edges.items())), flow.live())


class _Flow:
    """The maps, with a writer and a reader per byte: 0 for none, else the part + 2, so that `INPUTS` is 1."""

    def __init__(self, program: Program, parts: int) -> None:
        self.program = program
        self.count = parts
        self.edges: dict[tuple[int, int], int] = {}
        self.held: dict[str, int] = {}  # writers of tensors that only the host holds
        # how many bytes begin to be alive in each part, and are alive for the last time
        self.born = {memory: np.zeros(parts + 3, np.int64) for memory in MEMORIES}
        self.died = {memory: np.zeros(parts + 3, np.int64) for memory in MEMORIES}
        kind = np.min_scalar_type(parts + 2)
        try:
            # a system gives zeros without memory behind them until they are touched: the image never is
            self.writer = np.zeros(program.dram_bytes, kind)
            self.reader = np.zeros(program.dram_bytes, kind)
            self.touched = np.zeros(program.dram_bytes, np.bool_)
        except MemoryError:
            raise ResourceError("DRAM", f"{program.dram_bytes} bytes", "what this machine has free") from None

    def access(self, part: int, sites: Sequence[Site], reaches: Mapping[int, Reach]) -> None:
        """One top-level instruction or loop: it stores where it loads only in place, so all it loads is from before."""
        found = [(site.op.instr, reaches[site.pc]) for site in sites if site.pc in reaches]
        for instr, reach in found:
            if isinstance(instr, table.Load) and reach.high > self.program.image.size:
                self._read(part, reach)
        for instr, reach in found:
            if isinstance(instr, table.Store | table.StoreAcc):
                self._write(part, reach)

    def host(self, part: int, inputs: Iterable[str], outputs: Iterable[str]) -> None:
        """The host reads tensors, then writes others."""
        for tensor in map(self.program.tensor.__getitem__, inputs):
            reach = reach_of(tensor)
            if reach is not None:
                self._read(part, reach)
            elif tensor.name in self.held:
                self._edge(self.held[tensor.name], part, _size(tensor))
        for tensor in map(self.program.tensor.__getitem__, dict.fromkeys(outputs)):
            reach = reach_of(tensor)
            if reach is not None:
                self._write(part, reach)
            else:
                self.held[tensor.name] = part

    def live(self) -> dict[str, Int64]:
        """`Dataflow.live`; to be asked for once, at the end."""
        self._retire(slice(self.program.image.size, None), np.ones(len(self.writer), np.bool_))
        return {m: np.cumsum(self.born[m] - self.died[m])[2 : self.count + 2] for m in MEMORIES}

    def _edge(self, writer: int, reader: int, size: int) -> None:
        self.edges[writer, reader] = self.edges.get((writer, reader), 0) + size

    def _read(self, part: int, reach: Reach) -> None:
        for window in reach.windows(self.touched):
            window[...] = True
        cells = slice(reach.low, reach.high)
        # what the part has read or written before is not handed to it again
        new = self.touched[cells] & (self.reader[cells] != part + 2)
        writers, counts = np.unique(self.writer[cells][new], return_counts=True)
        for writer, size in zip(writers.tolist(), counts.tolist(), strict=True):
            if writer:
                self._edge(writer - 2, part, size)
        self.reader[cells][new] = part + 2
        self.touched[cells] = False

    def _write(self, part: int, reach: Reach) -> None:
        for window in reach.windows(self.touched):
            window[...] = True
        cells = slice(reach.low, reach.high)
        self._retire(cells, self.touched)
        mask = self.touched[cells]
        self.writer[cells][mask] = part + 2
        self.reader[cells][mask] = part + 2
        self.touched[cells] = False

    def _retire(self, cells: slice, chosen: npt.NDArray[np.bool_]) -> None:
        """The present contents of the chosen bytes among `cells` are at their end: count their lifetimes."""
        for memory, there in self._memories(cells):
            mask = chosen[there] & (self.writer[there] > 0)
            length = self.count + 3
            self.born[memory] += np.bincount(self.writer[there][mask], minlength=length)
            self.died[memory][1:] += np.bincount(self.reader[there][mask], minlength=length)[:-1]

    def _memories(self, cells: slice) -> Iterator[tuple[str, slice]]:
        """The memories that a range of addresses lies in, with its share in each."""
        low, high, _ = cells.indices(len(self.writer))
        base, size = self.program.buffer
        cuts = [low, min(max(base, low), high), min(max(base + size, low), high), high]
        for memory, start, stop in zip(("dram", "buffer", "dram"), cuts[:-1], cuts[1:], strict=True):
            if start < stop:
                yield memory, slice(start, stop)


def _size(tensor: TensorInfo) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
