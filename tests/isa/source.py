"""Code as assembly text that tests can edit, and what the builders of such text share: slots, semaphores, loops."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmac.isa.asm import assemble_code
from mmac.isa.program import Program

Dims = tuple[int, int, int, int]

PADS = {"act": 1 << 14, "aux": 1 << 13, "out": 1 << 13, "wgt": 1 << 15, "prm": 1 << 12, "acc": 1 << 15}
SLOT = {"act": 1 << 13, "aux": 1 << 12, "out": 1 << 12, "wgt": 1 << 14, "prm": 1 << 10, "acc": 1 << 14, "table": 256}

ACT_FREE, ACT_READY, AUX_FREE, WGT_FREE, WGT_READY, PRM_FREE, PRM_READY, TABLE_FREE = range(8)
ACC_FREE, ACC_READY, OUT_FREE, OUT_READY, MOVE_READY, MOVE_DONE, DRAM, TABLE_READY = range(8, 16)

CREDITS = f"""\
sync.compute signal={ACT_FREE},{ACT_FREE}
sync.compute signal={AUX_FREE},{AUX_FREE}
sync.compute signal={WGT_FREE},{WGT_FREE}
sync.compute signal={TABLE_FREE},{TABLE_FREE}
sync.store signal={PRM_FREE},{PRM_FREE}
sync.store signal={ACC_FREE},{ACC_FREE}
sync.store signal={OUT_FREE},{OUT_FREE}
sync.store signal={DRAM}
"""

DEBITS = f"""\
sync.compute wait={ACC_FREE},{ACC_FREE}
sync.compute wait={OUT_FREE},{OUT_FREE}
sync.load wait={ACT_FREE},{ACT_FREE}
sync.load wait={AUX_FREE},{AUX_FREE}
sync.weights wait={WGT_FREE},{WGT_FREE}
sync.weights wait={TABLE_FREE},{TABLE_FREE}
sync.weights wait={PRM_FREE},{PRM_FREE}
sync.load wait={DRAM}
"""


@dataclass(frozen=True)
class Source:
    """A program whose code is text."""

    text: str
    rest: Program

    def edit(self, old: str, new: str, which: int | None = None) -> Source:
        """With a part of the text replaced: the only one like that, or number `which` of them."""
        parts = self.text.split(old)
        assert len(parts) == 2 or (which is not None and which < len(parts) - 1), f"{len(parts) - 1} times {old!r}"
        at = (which or 0) + 1
        return replace(self, text=old.join(parts[:at]) + new + old.join(parts[at:]))

    def change(self, **changes: Any) -> Source:
        """With fields of the program replaced."""
        return replace(self, rest=dataclasses.replace(self.rest, **changes))

    def program(self) -> Program:
        return dataclasses.replace(self.rest, code=assemble_code(self.text))


@dataclass(frozen=True)
class Tensor:
    """An activation in DRAM; `shape` and `strides` in (n, h, w, c) order."""

    name: str
    base: int
    shape: Dims
    strides: Dims


@dataclass(frozen=True)
class Loops:
    """Loops outside in, by name."""

    counts: dict[str, int]

    def depth(self, name: str) -> str:
        live = [name for name, count in self.counts.items() if count > 1]
        return f"d{live.index(name)}" if name in live else "none"

    def walk(self, name: str, extent: int, step: int | None = None, origin: int = 0) -> str:
        return f"origin={origin} extent={extent} step={extent if step is None else step} loop={self.depth(name)}"

    def wrap(self, names: Iterable[str], body: str) -> str:
        for name in reversed(list(names)):
            if self.counts[name] > 1:
                body = f"loop {self.counts[name]}\n{body}end\n"
        return body

    def mask(self, names: Sequence[str]) -> int:
        """Loops whose index changes the slot of a ring that is filled once per iteration of `names`."""
        mask, inside = 0, 1
        for name in reversed(names):
            if self.counts[name] > 1 and inside % 2:
                mask |= 1 << int(self.depth(name)[1:])
            inside *= self.counts[name]
        return mask
