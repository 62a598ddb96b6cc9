"""What is measured: top-1 and top-5 accuracy, or a function of the user's."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa.errors import MalformedError, MmacError, UsageError
from mmac.isa.program import Port

Array = npt.NDArray[Any]
Collected = dict[str, Array]
"""What is kept of each sample, by name: arrays [n, …]."""

Function = Callable[[list[Array], Array], Any]
"""A user's metric; `user_metric` has its contract."""

PREDICTED, RANK = "predicted", "rank"
"""Of a sample: the class of the largest score; how many classes come before the label."""

TOP = {"top1": 1, "top5": 5}
"""Built-in metrics: the label is among so many classes of largest score."""

MANY_CLASSES = 10
"""From so many classes on, top-5 accuracy says something and is shown by default."""


@dataclass(frozen=True)
class Metric:
    """A measure of all samples, in two steps.

    Attributes:
        names: of built-in metrics; empty for a user's function.
        outputs: positions of the model outputs that it needs.
        collect: what to keep of some samples, from these outputs [n, …] and the labels; a function of a module, as
            it may run in another process.
        summarize: what was kept of all samples, and their labels, to numbers by name.
    """

    names: tuple[str, ...]
    outputs: tuple[int, ...]
    collect: Callable[[list[Array], Array], Collected]
    summarize: Callable[[Collected, Array], dict[str, float]]


def load_metric(name: str | None, outputs: Sequence[Port], labels: Array) -> Metric:
    """The metric of that name for a program.

    Args:
        name: ``top1``, ``top5``, ``MODULE:FUNCTION`` (see `user_metric`; the module may lie in the current folder), or
            None for top-1 accuracy and, from ten classes on, top-5.
        outputs: of the program.
        labels: [n, …].

    Raises:
        UsageError: no such metric, module or function.
        MmacError: the module fails.
        UsageError, MalformedError: as `classification`.
    """
    if name is None or name in TOP:
        return classification(outputs, labels, (name,) if name else None)
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise UsageError(f"metric {name!r}", "no such metric", ", ".join([*TOP, "MODULE:FUNCTION"]))
    return user_metric(_function(module, function), name, len(outputs))


def classification(outputs: Sequence[Port], labels: Array, names: Sequence[str] | None = None) -> Metric:
    """Accuracy of a classifier whose first output has one score per class.

    Of equal scores that of the lower class comes first, as for `numpy.argmax`. A score that is not a number comes
    before all others.

    Args:
        outputs: of the program; the first is [batch, classes], perhaps with more axes of length 1.
        labels: [n] or [n, 1], numbers of the right classes.
        names: ``top1`` or ``top5``; None for top-1 and, from ten classes on, top-5.

    Raises:
        UsageError: an output that does not hold scores, or too few classes for top-5.
        MalformedError: labels that are not numbers of classes.
    """
    port = outputs[0]
    classes = max(port.shape[1:], default=0)
    if classes < 2 or classes != np.prod(port.shape[1:]):
        found = f"shape {list(port.shape)}, not a score for each of several classes"
        raise UsageError(f"output {port.name!r}", found, "[n, classes]", "measure with a metric of your own")
    chosen = tuple(names or ([*TOP] if classes >= MANY_CLASSES else ["top1"]))
    if "top5" in chosen and classes <= TOP["top5"]:
        raise UsageError("metric 'top5'", f"there are {classes} classes", "more than 5 classes", "use top1")
    _check_labels(labels, classes)

    def summarize(kept: Collected, labels: Array) -> dict[str, float]:
        return {name: float((kept[RANK] < TOP[name]).mean()) for name in chosen}

    return Metric(chosen, (0,), rank_labels, summarize)


def _check_labels(labels: Array, classes: int) -> None:
    if labels.dtype.kind not in "iu" or labels.shape[1:] not in ((), (1,)):
        found = f"{labels.dtype}{list(labels.shape)}"
        raise MalformedError(
            "labels", found, "one whole number for each sample", "or measure with a metric of your own"
        )
    extremes = [int(labels.min()), int(labels.max())]
    if wrong := [label for label in extremes if not 0 <= label < classes]:
        raise MalformedError("labels", f"class {wrong[0]} among them", f"0…{classes - 1}, as the model has {classes}")


def rank_labels(outputs: list[Array], labels: Array) -> Collected:
    """The predicted class of each sample, and the rank of its label, int64 [n] each; of scores in the only output."""
    (scores,) = outputs
    scores, right = scores.reshape(len(labels), -1), labels.astype(np.int64).reshape(-1, 1)
    score = np.take_along_axis(scores, right, 1)
    earlier = np.arange(scores.shape[1]) < right
    before = ~(scores <= score) | ((scores == score) & earlier)
    return {PREDICTED: scores.argmax(1), RANK: before.sum(1)}


def user_metric(function: Function, name: str, outputs: int = 1) -> Metric:
    """A metric computed by a function of the user's.

    It is called once for each level with all samples: a list of all model outputs, each an array [n, …], and the labels
    [n, …]. It returns a number, or an array [n] of numbers for the samples, which stands for their mean; or a dict with
    several of these by name. All outputs at all levels are in memory until then.

    Args:
        function: that function.
        name: what it is called in errors; the part after the last colon names a result that is not a dict.
        outputs: how many outputs the model has.
    """

    def summarize(kept: Collected, labels: Array) -> dict[str, float]:
        try:
            result = function([kept[str(number)] for number in range(outputs)], labels)
        except Exception as error:
            found = f"raised {type(error).__name__}: {' '.join(str(error).split())}"
            raise MmacError(f"metric {name}", found, hint="set MMAC_TRACEBACK=1 to see where") from error
        results = result if isinstance(result, Mapping) else {name.rpartition(":")[2]: result}
        return {str(key): _number(value, len(labels), f"metric {name}") for key, value in results.items()}

    return Metric((), tuple(range(outputs)), keep_outputs, summarize)


def keep_outputs(outputs: list[Array], labels: Array) -> Collected:
    """All outputs, by their position."""
    return {str(number): output for number, output in enumerate(outputs)}


def _number(value: object, samples: int, where: str) -> float:
    """A result, or the mean of one for each sample."""
    allowed = f"a finite number, {samples} of them (one for each sample), or a dict of these"
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise MalformedError(where, f"returned a {type(value).__name__}", allowed) from None
    if array.shape not in ((), (samples,)):
        raise MalformedError(where, f"returned an array of shape {list(array.shape)}", allowed)
    if not np.isfinite(mean := float(array.mean())):
        raise MalformedError(where, f"returned {mean}", allowed)
    return mean


def _function(module: str, name: str) -> Function:
    """A function by its module and name."""
    where = f"metric {module}:{name}"
    try:
        with _current_folder():
            loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise MmacError(where, f"needs {error.name}, which is not installed", hint="install it") from error
        raise UsageError(where, f"no module {module}", "one in the current folder, or an installed one") from error
    except Exception as error:
        found = f"importing {module} raised {type(error).__name__}: {' '.join(str(error).split())}"
        raise MmacError(where, found, hint="set MMAC_TRACEBACK=1 to see where") from error
    function = getattr(loaded, name, None)
    if not callable(function):
        there = ", ".join(sorted(key for key, value in vars(loaded).items() if callable(value) and key[0] != "_"))
        raise UsageError(where, f"no function {name} in {module}", there or "it has none")
    chosen: Function = function
    return chosen


@contextlib.contextmanager
def _current_folder() -> Iterator[None]:
    """Let modules of the current folder be found."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
