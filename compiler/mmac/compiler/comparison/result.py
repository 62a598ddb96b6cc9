"""What a comparison found, and which layer goes wrong first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mmac.compiler.comparison.errors import TINY, Errors, decibels
from mmac.isa.plan import Level

MUCH_DB, SOME_DB = 6.0, 1.0
"""Biases and scales do harm if a tensor has much more noise with them than with the model's own, or if it has some more
and the layer alone has much more. A correction may cost the layer alone a lot, but it makes good what layers before it
lost. (With 16 samples or more to fit it to, none was seen to cost the tensor more than 0.8 dB; with 4, 5 dB.)"""

COARSE_DB = 10.0
"""A layer in 8 bits, nothing dropped, that is worse than this has ranges that do not fit the data."""

KINDS = {
    "values": "the program is damaged, or was compiled from another model",
    "constants": "corrected with too few samples, or damaged",
    "range": "calibrated with other data",
}
"""What can be wrong with a layer, the gravest first, and why it may be so: integers that the compiled model does not
give, biases or scales that do harm, 8 bits that do not hold the data."""

_AUDIBLE = 1e-3
"""Noise below this share of the power of a tensor is not worth a finding about biases and scales."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a layer.

    Attributes:
        kind: one of `KINDS`.
        text: what was found, with figures.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class LayerErrors:
    """One tensor of the program at one level.

    Attributes:
        layer: node that makes the tensor.
        op: its operator; that of a fused cluster is the one that gives it its name.
        tensor: name in the program.
        reference: name of the value of the model that it is compared with, after fused activations.
        accumulated: the whole network up to here, against the model's own tensor.
        local: this layer alone, on the program's own operands, against the model's layer on these operands.
        wrong_values: integers that are not what the compiled model gives for the program's own operands.
        values: how many values were compared.
        finding: what is wrong with it, if anything.
    """

    layer: str
    op: str
    tensor: str
    reference: str
    accumulated: Errors
    local: Errors
    wrong_values: int
    values: int
    finding: Finding | None


@dataclass(frozen=True)
class OutputErrors:
    """One output of the model at one level."""

    output: str
    errors: Errors


@dataclass(frozen=True)
class LevelErrors:
    """A program at one level, beside its model.

    Attributes:
        level: which.
        outputs: against the model's own outputs, as onnxruntime gives them for the unchanged file.
        layers: in the order of the program.
    """

    level: Level
    outputs: tuple[OutputErrors, ...]
    layers: tuple[LayerErrors, ...]

    @property
    def first_wrong(self) -> LayerErrors | None:
        """The first layer with a finding of the gravest kind that there is."""
        return min((layer for layer in self.layers if layer.finding is not None), key=_gravity, default=None)

    def worst(self, count: int) -> list[LayerErrors]:
        """Layers with the largest local errors, worst first; exact ones are left out."""
        noisy = [layer for layer in self.layers if layer.local.sqnr_db is not None]
        return sorted(noisy, key=lambda layer: -layer.local.total_noise)[:count]


@dataclass(frozen=True)
class Comparison:
    """What `compare` gives.

    Attributes:
        model: name of the model.
        samples: how many were run.
        levels: in the order of the program.
    """

    model: str
    samples: int
    levels: tuple[LevelErrors, ...]

    @property
    def first_wrong(self) -> tuple[LevelErrors, LayerErrors] | None:
        """The layer that goes wrong first, of all levels, and the lowest level at which it does."""
        found = [(level, wrong) for level in self.levels if (wrong := level.first_wrong) is not None]
        return min(found, key=lambda pair: (_gravity(pair[1]), pair[0].layers.index(pair[1])), default=None)

    def below(self, least_db: float) -> Iterator[tuple[LevelErrors, OutputErrors]]:
        """Outputs whose SQNR is below a limit."""
        for level in self.levels:
            for output in level.outputs:
                if output.errors.sqnr_db is not None and output.errors.sqnr_db < least_db:
                    yield level, output

    def to_json(self) -> dict[str, Any]:
        """As JSON types; decibels are null where nothing differs."""
        return {
            "model": self.model,
            "samples": self.samples,
            "levels": [_level_json(level) for level in self.levels],
            "first_wrong": None if (first := self.first_wrong) is None else _wrong_json(*first),
        }


def _gravity(layer: LayerErrors) -> int:
    return list(KINDS).index(layer.finding.kind) if layer.finding else len(KINDS)


def _level_json(level: LevelErrors) -> dict[str, Any]:
    return {
        "level": str(level.level),
        "alpha": level.level.alpha,
        "beta": level.level.beta,
        "outputs": [{"output": output.output, **asdict(output.errors)} for output in level.outputs],
        "layers": [asdict(layer) for layer in level.layers],
        "first_wrong": None if (first := level.first_wrong) is None else _wrong_json(level, first),
    }


def _wrong_json(level: LevelErrors, layer: LayerErrors) -> dict[str, Any]:
    finding = layer.finding
    return {"level": str(level.level), "layer": layer.layer, "tensor": layer.tensor} | (
        asdict(finding) if finding else {}
    )


def judge(accumulated: Errors, local: Errors, uncorrected: float | None, wrong: int, values: int) -> Finding | None:
    """What is wrong with a layer.

    Args:
        accumulated, local: as in `LayerErrors`.
        uncorrected: noise, as a share of the power of the reference, if the layer had the model's own
            constants; None for what has none.
        wrong, values: as in `LayerErrors`.
    """
    if wrong:
        return Finding("values", f"{wrong:,} of {values:,} integers are not what the compiled model gives")
    more = 0.0 if uncorrected is None else _more_db(accumulated.total_noise, uncorrected)
    alone = _more_db(local.total_noise, local.total_noise - local.noise["constants"])
    if accumulated.total_noise > _AUDIBLE and (more > MUCH_DB or (more > SOME_DB and alone > MUCH_DB)):
        with_own = decibels(1, uncorrected or 0)
        own = "exact" if with_own is None else f"{with_own:.1f} dB"
        return Finding(
            "constants", f"{accumulated.sqnr_db:.1f} dB with its biases and scales, {own} with the model's own"
        )
    eight_bits = local.stages_db["calibration"]
    if eight_bits is not None and eight_bits < COARSE_DB:
        return Finding("range", f"in 8 bits, nothing dropped, {eight_bits:.1f} dB of the layer are left")
    return None


def _more_db(noise: float, other: float) -> float:
    """By how much one noise is above another."""
    return 10 * math.log10(max(noise, TINY) / max(other, TINY))
