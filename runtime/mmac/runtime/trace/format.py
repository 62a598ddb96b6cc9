"""Chrome's JSON trace-event format, as far as Perfetto needs it.

Groups of tracks are processes, tracks are threads, what happens are slices (phase ``X``), numbers that change are
counters (``C``), names and order are metadata (``M``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

TRACKS_PER_GROUP = 10_000
"""Tracks are numbered through all groups: Perfetto may know a thread by its number alone."""


@dataclass(frozen=True)
class Track:
    """A row of slices that do not overlap."""

    group: int
    number: int


@dataclass
class TraceFile:
    """Slices and counters under way to a file; times are given in cycles."""

    mhz: float
    records: list[dict[str, Any]] = field(default_factory=list)
    sizes: dict[int, int] = field(default_factory=dict)

    def group(self, name: str) -> int:
        """Start a group of tracks and counters, shown below the groups before it."""
        number = len(self.sizes) + 1
        self.sizes[number] = 0
        self._name("process", number, number, name, len(self.sizes))
        return number

    def track(self, group: int, name: str) -> Track:
        """Start a track, shown below the tracks of its group before it."""
        self.sizes[group] += 1
        number = group * TRACKS_PER_GROUP + self.sizes[group]
        self._name("thread", group, number, name, self.sizes[group])
        return Track(group, number)

    def slice(self, track: Track, name: str, start: int, end: int, arguments: Mapping[str, Any]) -> None:
        """Something that takes from cycle `start` to cycle `end`."""
        first, last = self._ns(start), self._ns(end)
        self.records.append(
            {
                "ph": "X",
                "pid": track.group,
                "tid": track.number,
                "ts": first / 1000,
                "dur": (last - first) / 1000,
                "name": name,
                "args": {"start_cycle": start, "end_cycle": end, "cycles": end - start, **arguments},
            }
        )

    def counter(self, group: int, name: str, unit: str, steps: Iterable[tuple[int, float]]) -> None:
        """A number that has a value from each of some cycles on."""
        for cycle, value in steps:
            self.records.append(
                {
                    "ph": "C",
                    "pid": group,
                    "tid": group,
                    "ts": self._ns(cycle) / 1000,
                    "name": name,
                    "args": {unit: value},
                }
            )

    def document(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """The whole as JSON types; `about` is what a reader should know besides."""
        return {"displayTimeUnit": "ns", "otherData": dict(about), "traceEvents": self.records}

    def _name(self, kind: str, group: int, number: int, name: str, position: int) -> None:
        for key, value in (("name", name), ("sort_index", position)):
            arguments = {key: value}
            self.records.append(
                {"ph": "M", "pid": group, "tid": number, "ts": 0, "name": f"{kind}_{key}", "args": arguments}
            )

    def _ns(self, cycle: int) -> int:
        """Whole ns, so that a slice that begins where another ends does so after any rounding by the viewer too."""
        return round(cycle * 1000 / self.mhz)


def to_text(document: Mapping[str, Any]) -> str:
    """A trace as JSON, one record per line."""
    head = {key: value for key, value in document.items() if key != "traceEvents"}
    lines = ",\n".join(json.dumps(record, separators=(",", ":")) for record in document["traceEvents"])
    return f'{json.dumps(head)[:-1]}, "traceEvents": [\n{lines}\n]}}\n'
