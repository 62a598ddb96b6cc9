"""What a page is about: a program on a target, with all that the sections draw from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.isa.program import Program
from mmac.runtime.dataflow import Dataflow, dataflow
from mmac.runtime.page.figure import Tables, rounded
from mmac.runtime.report import BETWEEN, LayerReport, Report, summarize
from mmac.runtime.scratchpads import scratchpad_bytes
from mmac.runtime.targets import CONSTANT_SETS, Target, target_for
from mmac.runtime.timing.analyse import analyse


@dataclass(frozen=True)
class Subject:
    """A program on a target.

    Attributes:
        program: what was compiled.
        target: the hardware.
        reports: what it costs at all levels, by set of constants; the chosen set first.
        flow: what its parts hand to each other. The parts are those of `Report.layers`.
        pads: bytes of each scratchpad that each part uses, [parts].
        shown: positions of the parts that do something: not the configuration between layers.
    """

    program: Program
    target: Target
    reports: dict[str, Report]
    flow: Dataflow
    pads: dict[str, npt.NDArray[np.int64]]
    shown: list[int]

    @classmethod
    def of(
        cls,
        program: Program,
        target: Target | str | None,
        mac: str | None,
        constants: str,
        host_ms: Sequence[float] | None,
    ) -> Subject:
        """Analyse a program; arguments and errors as `mmac.runtime.page.write_page`."""
        target = target_for(program, target)
        target.energies(constants)  # refuses an unknown set
        analysis = analyse(program, target, mac)
        sets = sorted(CONSTANT_SETS, key=lambda name: name != constants)
        reports = {name: summarize(analysis, name) for name in sets}
        if host_ms is not None:
            reports = {name: report.with_host_ms(host_ms) for name, report in reports.items()}
        flow = dataflow(program)
        linked = {number for edge in flow.edges for number in edge}
        shown = [
            number
            for number, (part, share) in enumerate(zip(flow.parts, analysis.shares, strict=True))
            if part.entry or share.actions or number in linked
        ]
        return cls(program, target, reports, flow, scratchpad_bytes(program), shown)

    @property
    def report(self) -> Report:
        """Costs by the chosen set of constants."""
        return next(iter(self.reports.values()))

    @property
    def layers(self) -> list[LayerReport]:
        """Costs of the parts that are shown."""
        return [self.report.layers[number] for number in self.shown]

    @property
    def names(self) -> list[str]:
        """Names of the parts that are shown; untrusted text."""
        return [layer.name or BETWEEN for layer in self.layers]

    def tables(self) -> Tables:
        """Per quantity and level, one number for each part that is shown."""
        tables: Tables = {}
        for level in range(len(self.report.levels)):
            for quantity in ("latency_ms", "dram_bytes", "buffer_bytes", "weight_bytes", "cycles"):
                tables[f"{quantity}/{level}"] = rounded([getattr(layer, quantity)[level] for layer in self.layers])
            tables[f"utilization_percent/{level}"] = rounded([100 * layer.utilization[level] for layer in self.layers])
            for name, report in self.reports.items():
                layers = [report.layers[number] for number in self.shown]
                tables[f"energy_mj/{name}/{level}"] = rounded([layer.energy_mj[level] for layer in layers])
                for part in report.energy_split_mj:
                    split = [layer.energy_split_mj[part][level] for layer in layers]
                    tables[f"energy_mj/{name}/{level}/{part}"] = rounded(split)
        return tables
