"""Accuracy by definition, and what is refused of labels, outputs and functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmac.compiler.evaluation import classification, load_metric, user_metric
from mmac.compiler.evaluation.metrics import rank_labels
from mmac.isa.errors import MalformedError, MmacError, UsageError
from mmac.isa.program import Port


def output(*shape: int) -> list[Port]:
    return [Port("scores", "float32", shape, ("t",))]


@given(
    arrays(np.float32, (4, 7), elements=st.sampled_from([-1, 0, 0.5, 1])),
    arrays(np.int64, 4, elements=st.integers(0, 6)),
)
def test_ranks_are_positions_in_a_stable_order(scores: np.ndarray, labels: np.ndarray) -> None:
    kept = rank_labels([scores], labels)
    order = np.argsort(-scores, axis=1, kind="stable")
    np.testing.assert_array_equal(kept["rank"], np.argmax(order == labels[:, None], axis=1))
    np.testing.assert_array_equal(kept["predicted"], order[:, 0])


def test_what_is_not_a_number_is_never_right() -> None:
    scores = np.array([[np.nan, 0, 0], [0, np.nan, 1]], np.float32)
    assert list(rank_labels([scores], np.array([0, 2]))["rank"]) == [3, 1]


@pytest.mark.parametrize(
    ("shape", "names", "expected"),
    [
        ((1, 9), None, ("top1",)),
        ((1, 10), None, ("top1", "top5")),
        ((8, 1000, 1, 1), None, ("top1", "top5")),
        ((1, 6), "top5", ("top5",)),
        ((1, 6), "top1", ("top1",)),
    ],
)
def test_which_metrics(shape: tuple[int, ...], names: str | None, expected: tuple[str, ...]) -> None:
    assert load_metric(names, output(*shape), np.array([0, 5])).names == expected


def test_scores_with_axes_of_length_one() -> None:
    scores = np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1)
    metric = classification(output(1, 4, 1, 1), labels := np.array([[0], [1], [2], [0]]))
    assert metric.summarize(metric.collect([scores], labels), labels) == {"top1": 0.75}


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 5, 2)])
def test_outputs_that_are_no_scores(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"output 'scores': shape .*, not a score for each of several classes; \[n, c"):
        classification(output(*shape), np.zeros(3, int))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(3), r"labels: float64\[3\]; one whole number for each sample"),
        (np.zeros((3, 2), int), r"labels: int64\[3, 2\]; one whole number"),
        (np.array([0, -1]), r"labels: class -1 among them; 0…5, as the model has 6"),
        (np.array([6, 0]), r"labels: class 6 among them; 0…5, as the model has 6"),
    ],
)
def test_labels_that_are_no_classes(labels: np.ndarray, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        classification(output(1, 6), labels)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("top2", "metric 'top2': no such metric; top1, top5, MODULE:FUNCTION"),
        ("top5", "metric 'top5': there are 5 classes; more than 5 classes; use top1"),
        (":f", "metric ':f': no such metric"),
        ("no_such_module:f", "metric no_such_module:f: no module no_such_module; one in the current folder"),
        ("json:f", "metric json:f: no function f in json; JSONDecodeError, JSONDecoder, JSONEncoder, detect_encoding"),
        ("json:__doc__", "metric json:__doc__: no function __doc__ in json"),
    ],
)
def test_metrics_that_there_are_not(name: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        load_metric(name, output(1, 5), np.zeros(3, int))
    assert str(raised.value).startswith(message)


def test_a_module_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine_good.py").write_text("def half(outputs, labels): return outputs[0][:, 0] / 2\n")
    Path("mine_broken.py").write_text("1 / 0\n")
    Path("mine_needs.py").write_text("import no_such_module\n")
    metric = load_metric("mine_good:half", output(1, 5), np.zeros(2))
    assert metric.summarize({"0": np.array([[1.0], [5.0]])}, np.zeros(2)) == {"half": 1.5}
    for name, message in (
        ("mine_broken:f", "metric mine_broken:f: importing mine_broken raised ZeroDivisionError: division by zero; "),
        ("mine_needs:f", "metric mine_needs:f: needs no_such_module, which is not installed"),
    ):
        with pytest.raises(MmacError) as raised:
            load_metric(name, output(1, 5), np.zeros(2))
        assert str(raised.value).startswith(message)
        assert raised.value.exit_code == 1


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ("good", "returned a str"),
        (None, "returned nan"),
        ({"a": np.zeros(3)}, r"returned an array of shape \[3\]"),
        (np.array([1, np.inf]), "returned inf"),
        ([object(), 1], "returned a list"),
    ],
)
def test_functions_that_return_something_else(result: object, found: str) -> None:
    metric = user_metric(lambda outputs, labels: result, "mine")
    with pytest.raises(
        MalformedError, match=rf"metric mine: {found}; a finite number, 2 of them \(one for each sample\)"
    ):
        metric.summarize({"0": np.zeros((2, 4))}, np.zeros(2))
