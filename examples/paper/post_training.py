"""Post-training term quantization: accuracy against α and β, beside what was published."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from examples.paper.quoted import ENOUGH_TERMS_PER_VALUE, POST_TRAINING, TopOne
from examples.paper.sections import Cell, Plot, Section, Table
from examples.paper.subjects import Subject
from mmac.compiler import Options, compile_model
from mmac.compiler.evaluation import Samples, evaluate, user_metric
from mmac.isa.plan import GROUP_SIZE, MAX_ALPHA, Level

LITTLE = 1.0
"""Percentage points of accuracy or agreement; a gain of at most that many is called little here."""

LOWER, HIGHER = 2, 3
"""The two β of the paper's levels."""

CORRECTED = {False: "plain", True: "corrected"}


@dataclass(frozen=True)
class Point:
    """A network at one level: percent (accuracy or agreement) and decibels at the output against float32."""

    alpha: int
    beta: int
    corrected: bool
    percent: float
    sqnr_db: float

    @property
    def terms_per_value(self) -> float:
        """α over the group size."""
        return self.alpha / GROUP_SIZE


def sweep(
    subject: Subject, alphas: Sequence[int], betas: Sequence[int], say: Callable[[str], None] = lambda _: None
) -> list[Point]:
    """Measure a network at all levels, without and with correction; one program for all α of a β."""
    return [
        point
        for corrected, beta in itertools.product((False, True), betas)
        for point in _measure(subject, alphas, beta, corrected, say)
    ]


def _measure(
    subject: Subject, alphas: Sequence[int], beta: int, corrected: bool, say: Callable[[str], None]
) -> Iterator[Point]:
    calibration = {subject.input: subject.calibration}
    levels = [Level(alpha, beta) for alpha in alphas]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = Options(levels, calibration=calibration, correct=corrected, dims=subject.dims)
        compiled = compile_model(subject.model, options)
    samples = Samples({subject.input: subject.data}, subject.scores)
    found = evaluate(compiled.program, samples, user_metric(subject.metrics, subject.name))
    say(f"{subject.name}, β = {beta}, {CORRECTED[corrected]}: {compiled.seconds:.0f} + {found.seconds:.0f} s")
    for alpha, row in zip(alphas, found.levels, strict=True):
        yield Point(alpha, beta, corrected, row.metrics[subject.measure], row.metrics["sqnr_db"])


def section(subject: Subject, points: Sequence[Point]) -> Section:
    """What was measured of a network, and how it stands to what was published."""
    verdicts = [
        text
        for corrected in (True, False)
        for text in (
            _beta_verdict(subject, points, corrected),
            _alpha_verdict(subject, points, corrected),
        )
    ]
    return Section(
        f"{subject.name}: {subject.about}",
        [_table(subject, points, corrected) for corrected in (True, False)],
        [_plot(subject, points, what) for what in (f"{subject.measure} %", "SQNR dB")],
        [*verdicts, _rises(subject, points), _correction(subject, points)],
    )


def _curve(points: Sequence[Point], beta: int, corrected: bool) -> list[Point]:
    return [point for point in points if (point.beta, point.corrected) == (beta, corrected)]


def _table(subject: Subject, points: Sequence[Point], corrected: bool) -> Table:
    betas = sorted({point.beta for point in points})
    curves = [_curve(points, beta, corrected) for beta in betas]
    columns = (
        {"α": "", "α/g": ".4g"} | {f"β = {beta} %": ".2f" for beta in betas} | {f"β = {b} dB": ".1f" for b in betas}
    )
    rows: list[list[Cell]] = [
        [
            "all" if row[0].alpha == MAX_ALPHA else str(row[0].alpha),
            row[0].terms_per_value,
            *(point.percent for point in row),
            *(point.sqnr_db for point in row),
        ]
        for row in zip(*curves, strict=True)
    ]
    notes = (
        f"%: {_meaning(subject)}; dB: signal-to-noise ratio at the output against float32, over all samples",
        f"float32: {subject.reference:.2f} %; the first and the last layer keep all their terms",
    )
    how = "bias and scale corrected per level" if corrected else "without correction per level"
    return Table(f"{subject.name}, {how}", columns, rows, notes)


def _meaning(subject: Subject) -> str:
    if subject.labels is None:
        return "samples of which float32 has the same class first (labels are not known)"
    return "samples classified rightly"


def _plot(subject: Subject, points: Sequence[Point], what: str) -> Plot:
    series = {}
    for corrected, beta in itertools.product((True, False), sorted({point.beta for point in points})):
        curve = _curve(points, beta, corrected)
        values = [point.percent if what.endswith("%") else point.sqnr_db for point in curve]
        xs = [min(point.terms_per_value, MAX_SHOWN) for point in curve]
        series[f"β = {beta}, {CORRECTED[corrected]}"] = (xs, values)
    return Plot(f"{subject.name}: {what}", f"terms per weight, α/g (all terms at {MAX_SHOWN:g})", what, series)


MAX_SHOWN = 2.5
"""Where figures show all terms: hardly any group has more, and at 4 they would leave little room for the rest."""


def _standard_error(subject: Subject, pairs: Sequence[tuple[Point, Point]]) -> float:
    """Of a difference between two levels, in points; in the mean, and as if each had samples of its own."""
    shares = np.array([[low.percent, high.percent] for low, high in pairs]) / 100
    return float(100 * np.sqrt((shares * (1 - shares)).sum(axis=1) / len(subject.data)).mean())


def _beta_verdict(subject: Subject, points: Sequence[Point], corrected: bool) -> str:
    """β = 3 above β = 2, for as many terms of weights as there are published figures for?"""
    curves = (_curve(points, beta, corrected) for beta in (LOWER, HIGHER))
    pairs = [pair for pair in zip(*curves, strict=True) if pair[0].terms_per_value >= LEAST_QUOTED]
    gains = [high.percent - low.percent for low, high in pairs]
    decibels = [high.sqnr_db - low.sqnr_db for low, high in pairs]
    above, louder = (sum(gain > 0 for gain in each) for each in (gains, decibels))
    mean, error = float(np.mean(gains)), _standard_error(subject, pairs)
    verdict = "as published" if mean > 2 * error else "NOT as published" if mean < -2 * error else "too close to tell"
    return (
        f"{subject.name}, {CORRECTED[corrected]}, {LEAST_QUOTED:g} term per value or more: β = {HIGHER} is above "
        f"β = {LOWER} at {above} of {len(pairs)} α in {subject.measure}, by {mean:+.2f} points in the mean "
        f"({min(gains):+.2f} to {max(gains):+.2f}; {error:.2f} is the standard error of a difference with "
        f"{len(subject.data):,} samples): {verdict}. In SQNR it is above at {louder} of {len(pairs)}, by "
        f"{np.mean(decibels):+.1f} dB in the mean: {'as published' if louder == len(pairs) else 'NOT as published'}. "
        f"Quoted, ImageNet, g = 8: {_quoted_beta()}."
    )


LEAST_QUOTED = min(terms for each in POST_TRAINING for terms in each.terms_per_value)
"""Fewest terms per value that a figure is published for."""


def _quoted_pairs() -> list[tuple[TopOne, TopOne]]:
    by_beta = [[each for each in POST_TRAINING if each.beta == beta] for beta in (LOWER, HIGHER)]
    return list(zip(*by_beta, strict=True))


def _quoted_beta() -> str:
    texts = []
    for low, high in _quoted_pairs():
        gains = [high.percent[alpha] - low.percent[alpha] for alpha in low.percent]
        texts.append(f"{low.network} {min(gains):+.2f} to {max(gains):+.2f} points")
    return ", ".join(texts)


def _alpha_verdict(subject: Subject, points: Sequence[Point], corrected: bool) -> str:
    """Little gain past 1.25 terms per value?"""
    curve = _curve(points, HIGHER, corrected)
    at = next(point for point in curve if point.terms_per_value >= ENOUGH_TERMS_PER_VALUE)
    low, most = curve[0], curve[-1]
    best = max(point.percent for point in curve if point.terms_per_value >= ENOUGH_TERMS_PER_VALUE)
    gain, error = best - at.percent, _standard_error(subject, [(at, most)])
    near = next(point for point in curve if point.percent >= most.percent - LITTLE)
    return (
        f"{subject.name}, {CORRECTED[corrected]}, β = {HIGHER}: more than {at.terms_per_value:g} terms per value "
        f"(α = {at.alpha} at g = {GROUP_SIZE}) gain at most {gain:.2f} points of {subject.measure} (standard error "
        f"{error:.2f}) and {most.sqnr_db - at.sqnr_db:+.1f} dB, after {at.percent - low.percent:+.2f} points and "
        f"{at.sqnr_db - low.sqnr_db:+.1f} dB from {low.terms_per_value:g} on: {_how_much(gain, error)}. "
        f"It is within {LITTLE:g} point of all terms from {near.terms_per_value:g} terms per value on. "
        f"Quoted, ImageNet, g = 8: {_quoted_alpha()}."
    )


def _how_much(gain: float, error: float = 0) -> str:
    """Whether a gain, of this standard error, is what the claim calls little."""
    if gain <= LITTLE:
        return f"little, as claimed (up to {LITTLE:g} point)"
    if gain <= LITTLE + 2 * error:
        return "more than little, but by less than two standard errors"
    return "NOT little, unlike what is claimed"


def _quoted_alpha() -> str:
    """What was published gains after the first figure that is not below 1.25 terms per value."""
    texts = []
    for each in POST_TRAINING:
        if each.beta == HIGHER:
            figures = list(zip(each.terms_per_value, each.percent.values(), strict=True))
            beyond = [(terms, percent) for terms, percent in figures if terms >= ENOUGH_TERMS_PER_VALUE]
            gain = max(percent for _, percent in beyond) - beyond[0][1]
            texts.append(f"{each.network} {gain:+.2f} points past {beyond[0][0]:g} terms per value, {_how_much(gain)}")
    return ", ".join(texts)


def _rises(subject: Subject, points: Sequence[Point]) -> str:
    """How steadily more terms give better results."""
    betas = sorted({point.beta for point in points})
    curves = [_curve(points, beta, corrected) for corrected in (True, False) for beta in betas]
    alpha_steps = [pair for curve in curves for pair in itertools.pairwise(curve)]
    beta_steps = [
        pair
        for corrected in (True, False)
        for low, high in itertools.pairwise(betas)
        for pair in zip(_curve(points, low, corrected), _curve(points, high, corrected), strict=True)
    ]
    parts = []
    for name, steps in (("α", alpha_steps), ("β", beta_steps)):
        drops = [low.sqnr_db - high.sqnr_db for low, high in steps]
        falls = [drop for drop in drops if drop > 0]
        worst = f", by {max(falls):.1f} dB at most" if falls else ""
        parts.append(f"of {len(steps)} steps up in {name}, SQNR rises or stays in {len(steps) - len(falls)}{worst}")
    return f"{subject.name}: {'; '.join(parts)}."


def _correction(subject: Subject, points: Sequence[Point]) -> str:
    """What the correction gives at levels that drop weights' terms."""
    plain, corrected = ([p for p in points if p.corrected == wanted] for wanted in (False, True))
    pairs = [(a, b) for a, b in zip(plain, corrected, strict=True) if a.alpha < MAX_ALPHA]
    gains, decibels = ([getattr(b, what) - getattr(a, what) for a, b in pairs] for what in ("percent", "sqnr_db"))
    better = sum(gain > 0 for gain in decibels)
    return (
        f"{subject.name}: the correction per level raises SQNR at {better} of {len(pairs)} levels that drop terms of "
        f"weights, by {np.mean(decibels):+.1f} dB in the mean ({min(decibels):+.1f} to {max(decibels):+.1f}), and "
        f"{subject.measure} by {np.mean(gains):+.2f} points. It is not part of what was published."
    )


def published(subjects: Sequence[tuple[Subject, Sequence[Point]]]) -> Section:
    """The quoted figures, and all curves at β = 2 and 3 on one scale."""
    columns = {"network": "", "β": "d", "g": "d", "α": "d", "α/g": ".3g", "quoted top-1 %": ".2f"}
    rows: list[list[Cell]] = [
        [each.network, each.beta, each.group_size, alpha, alpha / each.group_size, percent]
        for each in POST_TRAINING
        for alpha, percent in each.percent.items()
    ]
    series: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    for low, high in _quoted_pairs():
        best = max(high.percent.values())
        for each in (low, high):
            values = [percent - best for percent in each.percent.values()]
            series[f"{each.network}, β = {each.beta} (quoted)"] = (each.terms_per_value, values)
    for subject, points in subjects:
        best = max(point.percent for point in _curve(points, HIGHER, True))
        for beta in (LOWER, HIGHER):
            curve = _curve(points, beta, True)
            xs = [min(point.terms_per_value, MAX_SHOWN) for point in curve]
            series[f"{subject.name}, β = {beta} ({subject.measure})"] = (xs, [p.percent - best for p in curve])
    plot = Plot(
        f"Points below the best at β = {HIGHER}, each network by itself",
        f"terms per weight, α/g (all terms at {MAX_SHOWN:g})",
        "percentage points",
        series,
    )
    notes = (f"quoted: {POST_TRAINING[0].source}; ImageNet, g = 8; here g = {GROUP_SIZE}: α/g is what compares",)
    table = Table("What was published", columns, rows, notes)
    verdict = (
        f"More than {ENOUGH_TERMS_PER_VALUE:g} terms per value are claimed to gain little. Of the published figures "
        f"themselves: {_quoted_alpha()}. Ours are of other networks and data, so only the shape of the curves compares."
    )
    return Section("Published figures", [table], [plot], [verdict])
