"""Numbers that others have published, each with its source, and what is accepted as agreement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ASPLOS, SC = "ASPLOS'21", "SC'20"


@dataclass(frozen=True)
class Claim:
    """A published ratio; `low` … `high` counts as agreement."""

    value: float
    source: str
    low: float
    high: float

    def holds(self, ratio: float) -> bool:
        """Whether `ratio` agrees."""
        return self.low <= ratio <= self.high

    def __str__(self) -> str:
        return f"{self.value:g}×"


def _about(value: float, source: str, tolerance: float = 0.2) -> Claim:
    return Claim(value, source, value * (1 - tolerance), value * (1 + tolerance))


BMAC_ENERGY = _about(3.1, f"{ASPLOS} §7.1")
"""Energy of a bit-serial cell over an mMAC's, mean over the eight budgets."""

PMAC_ENERGY = _about(5.6, f"{ASPLOS} §7.1")
"""The same of a bit-parallel cell."""

LEVEL_LATENCY = Claim(2.7, f"{ASPLOS} §7.2", 2.4, 3.0)
"""MobileNet-V2: latency at γ = 60 over latency at γ = 16."""

LEVEL_ENERGY = Claim(2.5, f"{ASPLOS} §7.2", 2.2, 2.8)
"""MobileNet-V2: the same of the energy."""

DESIGN_LATENCY = _about(1.7, f"{ASPLOS} §7.3")
"""Latency of other FPGA designs over the mMAC system's, at a fixed resolution."""

DESIGN_EFFICIENCY = _about(3.28, f"{ASPLOS} §7.3")
"""Frames per joule of the mMAC system over those of other FPGA designs."""


@dataclass(frozen=True)
class Design:
    """A published FPGA accelerator of ResNet-18-class networks."""

    name: str
    latency_ms: float
    frames_per_j: float
    source: str


DESIGNS = (
    Design("tMAC, α = 16 of 8, same board", 7.21, 25.22, f"{SC}, its own design"),
    Design("other 1", 5.88, 23.6, f"{SC}, table of other designs"),
    Design("other 2", 11.7, 8.39, f"{SC}, table of other designs"),
    Design("other 3", 17.3, 6.13, f"{SC}, table of other designs"),
    Design("other 4", 224.0, 0.46, f"{SC}, table of other designs"),
)

RELATIVE_ENERGY = {"own bus register": 60.0, "shared bus register": 43.4, "bare datapath": 19.5}
"""Switching energy of an mMAC per cycle, relative units. The second and the third are measured (gate level, 16-wide
cells of equal interface); the first is modelled: the mean over the eight budgets at which it is 0.96 × pMAC [measured],
between the two of `RELATIVE_BY_GAMMA`."""

RELATIVE_BY_GAMMA = {16: 63.7, 60: 54.3}
"""The same of a cell with its own bus register, by γ [measured]."""

RELATIVE_BASELINES = {"bmac": 27.3, "bmac_serial": 6.2, "pmac": 106.8}
"""The same of the baselines' cells; the pMAC's with its glitches (86.6 without)."""

DSP_PMAC_PJ = 7.5 + (8 + 25) * 0.060
"""pJ of a multiply-accumulate of a pMAC on a DSP48E1 [modelled: 7.5 pJ (assumed, 5…10) and 8 LUT + 25 FF (measured)
at 60 fJ each, the scale of vc707.toml]."""


@dataclass(frozen=True)
class TopOne:
    """Published ImageNet accuracy after post-training term quantization: percent by α, in groups of `group_size`."""

    network: str
    group_size: int
    beta: int
    percent: Mapping[int, float]
    source: str

    @property
    def terms_per_value(self) -> list[float]:
        """α over the group size, which is what compares between group sizes."""
        return [alpha / self.group_size for alpha in self.percent]


_RESNET = (8, 10, 12, 14, 16)
_MOBILENET = (12, 16, 20, 24)
_CODE = f"{SC}, the authors' code"

POST_TRAINING = (
    TopOne("ResNet-18", 8, 2, dict(zip(_RESNET, (67.55, 68.74, 69.05, 69.18, 69.09), strict=True)), _CODE),
    TopOne("ResNet-18", 8, 3, dict(zip(_RESNET, (67.92, 69.00, 69.50, 69.60, 69.59), strict=True)), _CODE),
    TopOne("MobileNet-V2", 8, 2, dict(zip(_MOBILENET, (59.46, 64.76, 65.93, 66.02), strict=True)), _CODE),
    TopOne("MobileNet-V2", 8, 3, dict(zip(_MOBILENET, (66.87, 70.83, 71.31, 71.40), strict=True)), _CODE),
)

ENOUGH_TERMS_PER_VALUE = 1.25
"""More terms than that per weight are said to gain little (α = 20 in groups of 16 is the paper's highest level)."""
