"""Post-training quantization: the verdicts follow from the figures."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from examples.paper import quoted
from examples.paper.post_training import Point, published, section
from examples.paper.subjects import Subject, read_idx
from tests.test_examples import write_idx

ALPHAS, BETAS = (4, 16, 20, 32, 64), (1, 2, 3)


def subject(samples: int = 10000) -> Subject:
    scores = np.eye(10, dtype=np.float32)[np.arange(samples) % 10]
    data = np.zeros((samples, 1), np.float32)
    return Subject("net", "test images", Path("net.onnx"), "x", data, data, scores, np.arange(samples) % 10, {})


def points(percent: Callable[[int, int], float], gain_db: float = 1) -> list[Point]:
    """A curve: percent of α and β; decibels are α + β, more with correction."""
    return [
        Point(alpha, beta, corrected, percent(alpha, beta), alpha + beta + gain_db * corrected)
        for corrected, beta, alpha in itertools.product((False, True), BETAS, ALPHAS)
    ]


def verdicts(measured: list[Point], samples: int = 10000) -> list[str]:
    beta, alpha, *_, rises, correction = section(subject(samples), measured).verdicts
    return [beta, alpha, rises, correction]


def test_figures_as_published() -> None:
    """β = 3 gives a point more than β = 2, and α = 20 is half a point below all terms."""
    beta, alpha, rises, correction = verdicts(points(lambda a, b: 90 + b + min(a, 20) / 20 + 0.5 * (a > 20)))
    assert "β = 3 is above β = 2 at 4 of 4 α in accuracy, by +1.00 points in the mean" in beta
    assert beta.count("as published") == 2
    assert "NOT as published" not in beta
    assert "from 0.25 on: little, as claimed (up to 1 point)" in alpha
    assert "gain at most 0.50 points of accuracy (standard error 0.33) and +44.0 dB" in alpha
    assert "after +0.80 points and +16.0 dB from 0.25 on" in alpha
    assert "within 1 point of all terms from 1 terms per value on" in alpha
    assert "of 24 steps up in α, SQNR rises or stays in 24; of 20 steps up in β, SQNR rises or stays in 20" in rises
    assert "raises SQNR at 12 of 12 levels that drop terms of weights, by +1.0 dB in the mean" in correction


def test_figures_unlike_the_published_ones() -> None:
    beta, alpha, _, correction = verdicts(points(lambda a, b: 50 - 2 * b + a / 4, gain_db=-2))
    assert "by -2.00 points in the mean (-2.00 to -2.00; 0.70 is the standard error" in beta
    assert "with 10,000 samples): NOT as published" in beta
    assert "gain at most 11.00 points of accuracy" in alpha
    assert "on: NOT little, unlike what is claimed" in alpha
    assert "raises SQNR at 0 of 12 levels" in correction


def test_few_samples_decide_nothing() -> None:
    beta, alpha, *_ = verdicts(points(lambda a, b: 50 + b + a / 8), samples=50)
    assert "is the standard error of a difference with 50 samples): too close to tell." in beta
    assert "more than little, but by less than two standard errors" in alpha


def test_falls_are_counted() -> None:
    measured = points(lambda a, b: 50.0)
    measured[1] = Point(16, 1, False, 50.0, 2.0)
    (rises,) = [text for text in section(subject(), measured).verdicts if "steps up" in text]
    assert "of 24 steps up in α, SQNR rises or stays in 23, by 3.0 dB at most" in rises


def test_what_was_published_stands_beside_it() -> None:
    found = published([(subject(), points(lambda a, b: 90.0 + b))])
    assert "ResNet-18 +0.60 points past 1.25 terms per value, little, as claimed" in found.verdicts[0]
    assert "MobileNet-V2 +4.53 points past 1.5 terms per value, NOT little" in found.verdicts[0]
    (plot,) = found.plots
    assert plot.series["ResNet-18, β = 3 (quoted)"][0] == [1, 1.25, 1.5, 1.75, 2]
    assert max(plot.series["ResNet-18, β = 3 (quoted)"][1]) == 0
    assert set(plot.series["net, β = 2 (accuracy)"][1]) == {-1.0}


def test_published_figures_rise_with_beta() -> None:
    for low, high in itertools.pairwise(quoted.POST_TRAINING):
        if low.network == high.network:
            assert all(low.percent[alpha] < high.percent[alpha] for alpha in low.percent)


def test_metrics_of_a_subject() -> None:
    one = subject(20)
    found = one.scores.copy()
    found[:5] = np.roll(found[:5], 1, axis=1)
    results = one.metrics([found], one.scores)
    assert np.mean(results["accuracy"]) == np.mean(results["agreement"]) == 75
    assert results["sqnr_db"] == pytest.approx(10 * np.log10(20 / 10))
    assert one.reference == 100


def test_idx_files(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / "a.gz", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz"), array)
