"""Scratchpad rings and semaphores of the generated code: who fills, who drains, and how slots alternate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from mmac.compiler.tile.ir import PointerRegister, Repeat, Statement
from mmac.isa import table
from mmac.isa.spec import NONE_LOOP

SLOTS = 2
"""Every ring is double buffered."""

TABLE_BYTES = 256


class Token(IntEnum):
    """Semaphores. ``…_FREE`` carries slot credits back to whoever fills the ring, ``…_READY`` announces a full slot."""

    ACT_FREE = 0
    ACT_READY = 1
    AUX_FREE = 2
    WGT_FREE = 3
    WGT_READY = 4
    PRM_FREE = 5
    PRM_READY = 6
    TABLE_FREE = 7
    TABLE_READY = 8
    ACC_FREE = 9
    ACC_READY = 10
    OUT_FREE = 11
    OUT_READY = 12
    MOVE_READY = 13
    MOVE_DONE = 14
    DRAM_READY = 15  # the previous operation's results are in DRAM
    SMALL_WGT_FREE = 16
    SMALL_WGT_READY = 17
    SMALL_PRM_FREE = 18
    SMALL_PRM_READY = 19


def sync(
    queue: type[table.SyncLoad | table.SyncWeights | table.SyncCompute | table.SyncStore],
    *,
    wait: Sequence[Token] = (),
    signal: Sequence[Token] = (),
) -> list[Statement]:
    """`sync` instructions of a queue that wait and signal; as many as it takes."""
    count = max(-(-len(wait) // 2), -(-len(signal) // 2))
    return [queue(**tokens(wait[2 * i : 2 * i + 2], signal[2 * i : 2 * i + 2])) for i in range(count)]


def tokens(wait: Sequence[Token] = (), signal: Sequence[Token] = ()) -> dict[str, int]:
    """Token fields of an instruction, as keyword arguments."""
    fields = {f"wait{i}": int(t) for i, t in enumerate(wait)}
    return fields | {f"signal{i}": int(t) for i, t in enumerate(signal)}


_DRAINED_BY_COMPUTE = (Token.ACT_FREE, Token.AUX_FREE, Token.WGT_FREE, Token.SMALL_WGT_FREE, Token.TABLE_FREE)
_DRAINED_BY_STORE = (Token.PRM_FREE, Token.SMALL_PRM_FREE, Token.ACC_FREE, Token.OUT_FREE)

_FILLED_BY_LOAD = (Token.ACT_FREE, Token.AUX_FREE)
_FILLED_BY_WEIGHTS = (
    Token.WGT_FREE, Token.SMALL_WGT_FREE, Token.PRM_FREE, Token.SMALL_PRM_FREE, Token.TABLE_FREE,
)  # fmt: skip
_FILLED_BY_COMPUTE = (Token.ACC_FREE, Token.OUT_FREE)


def give_credits() -> tuple[Statement, ...]:
    """All rings empty: two credits each, and DRAM is up to date."""
    return (
        *sync(table.SyncCompute, signal=_credits(_DRAINED_BY_COMPUTE)),
        *sync(table.SyncStore, signal=[*_credits(_DRAINED_BY_STORE), Token.DRAM_READY]),
    )


def take_credits() -> tuple[Statement, ...]:
    """The inverse: wait until all rings are empty again and everything is in DRAM."""
    return (
        *sync(table.SyncCompute, wait=_credits(_FILLED_BY_COMPUTE)),
        *sync(table.SyncWeights, wait=_credits(_FILLED_BY_WEIGHTS)),
        *sync(table.SyncLoad, wait=[*_credits(_FILLED_BY_LOAD), Token.DRAM_READY]),
    )


def _credits(rings: Sequence[Token]) -> list[Token]:
    return [token for ring in rings for token in (ring,) * SLOTS]


@dataclass(frozen=True)
class Loops:
    """The loops of a nest from the outside in; a loop of one iteration is left out and has no depth."""

    counts: Mapping[str, int]

    @property
    def live(self) -> list[str]:
        """Names of the loops that exist."""
        return [name for name, count in self.counts.items() if count > 1]

    def depth(self, name: str) -> int:
        """Nesting depth for a `loop` field."""
        return self.live.index(name) if self.counts[name] > 1 else NONE_LOOP

    def wrap(self, names: Iterable[str], body: Sequence[Statement]) -> tuple[Statement, ...]:
        """Put `body` into the named loops (outside in)."""
        inner = tuple(body)
        for name in reversed(list(names)):
            if self.counts[name] > 1:
                inner = (Repeat(self.counts[name], inner),)
        return inner

    def total(self, names: Iterable[str]) -> int:
        """Number of iterations of the named loops together."""
        total = 1
        for name in names:
            total *= self.counts[name]
        return total

    def parity_mask(self, names: Sequence[str]) -> int:
        """Mask of a pointer whose slot alternates with every iteration of the named loops.

        The iteration number is a sum of index times iterations of the loops inside; its parity takes the loops whose
        inner iteration count is odd.
        """
        mask, inside = 0, 1
        for name in reversed(names):
            if self.counts[name] > 1 and inside % 2:
                mask |= 1 << self.depth(name)
            inside *= self.counts[name]
        return mask


@dataclass(frozen=True)
class WeightRings:
    """Where a layer's weights and constants go, and the semaphores of these rings."""

    weights: str
    constants: str
    wgt_free: Token
    wgt_ready: Token
    prm_free: Token
    prm_ready: Token


LARGE = WeightRings("wgt", "prm", Token.WGT_FREE, Token.WGT_READY, Token.PRM_FREE, Token.PRM_READY)
SMALL = WeightRings(
    "small_wgt", "small_prm",
    Token.SMALL_WGT_FREE, Token.SMALL_WGT_READY, Token.SMALL_PRM_FREE, Token.SMALL_PRM_READY,
)  # fmt: skip
"""For layers with few weights, as depthwise ones: the weights of the layer after them can be fetched meanwhile."""

_SMALL_SHARE = {"wgt": 24, "prm": 8}
"""The slot of a small ring is this part of its pad."""


@dataclass
class Rings:
    """Slots of every ring and whose turn it is; operations advance it in program order.

    `scratchpads` gives pad sizes in bytes. A pad is one ring of two slots, but WGT and PRM hold a small ring after the
    large one, and PRM two tables at its end.
    """

    scratchpads: Mapping[str, int]
    phase: dict[str, int] = field(default_factory=dict)

    def slot_bytes(self, ring: str) -> int:
        """Bytes of one slot of ring act, aux, out, wgt, small_wgt, prm, small_prm, acc or table."""
        if ring == "table":
            return TABLE_BYTES
        pad = ring.removeprefix("small_")
        small = self.scratchpads[pad] // _SMALL_SHARE[pad] // 8 * 8 if pad in _SMALL_SHARE else 0
        if ring != pad:
            return small
        size = self.scratchpads[pad] - SLOTS * (small + (TABLE_BYTES if pad == "prm" else 0))
        return size // SLOTS // 8 * 8

    def take(self, ring: str, loops: Loops, names: Sequence[str]) -> PointerRegister:
        """Pointer for a ring that is filled once per iteration of the named loops; advances the ring."""
        pad = "prm" if ring == "table" else ring.removeprefix("small_")
        addr = 0
        if ring != pad:
            addr = SLOTS * (self.slot_bytes(pad) + (self.slot_bytes("small_prm") if ring == "table" else 0))
        phase = self.phase.get(ring, 0)
        self.phase[ring] = (phase + loops.total(names)) % SLOTS
        return PointerRegister(table.Pad[pad.upper()], addr, self.slot_bytes(ring), loops.parity_mask(names), phase)

    def of_weights(self, tile_bytes: int, constants_bytes: int) -> WeightRings:
        """The rings for weight tiles and constants of these sizes."""
        small = tile_bytes <= self.slot_bytes(SMALL.weights) and constants_bytes <= self.slot_bytes(SMALL.constants)
        return SMALL if small else LARGE
