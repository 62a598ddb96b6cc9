"""From an ONNX model to one program for all levels.

    >>> from mmac.compiler import Options, compile_model

`compile_model` does it all; `run_passes` stops after any pass; `check_model` says where each node of a model runs;
`search_budgets` chooses budgets; `evaluate` measures a program on a labelled dataset, `compare` says where it loses
accuracy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmac.compiler.comparison import Comparison as Comparison
    from mmac.compiler.comparison import compare as compare
    from mmac.compiler.evaluation import evaluate as evaluate
    from mmac.compiler.evaluation import read_dataset as read_dataset
    from mmac.compiler.fates import Fate as Fate
    from mmac.compiler.fates import check_model as check_model
    from mmac.compiler.files import read_arrays as read_arrays
    from mmac.compiler.files import read_budgets as read_budgets
    from mmac.compiler.files import read_calibration as read_calibration
    from mmac.compiler.passes import MmacWarning as MmacWarning
    from mmac.compiler.pipeline import PASS_NAMES as PASS_NAMES
    from mmac.compiler.pipeline import Compiled as Compiled
    from mmac.compiler.pipeline import Options as Options
    from mmac.compiler.pipeline import compile_model as compile_model
    from mmac.compiler.pipeline import run_passes as run_passes
    from mmac.compiler.pipeline import summary as summary
    from mmac.compiler.search import Goal as Goal
    from mmac.compiler.search import search_budgets as search_budgets

_HOME = {
    "Comparison": "comparison",
    "Compiled": "pipeline",
    "Fate": "fates",
    "Goal": "search",
    "MmacWarning": "passes",
    "Options": "pipeline",
    "PASS_NAMES": "pipeline",
    "check_model": "fates",
    "compare": "comparison",
    "compile_model": "pipeline",
    "evaluate": "evaluation",
    "read_arrays": "files",
    "read_budgets": "files",
    "read_calibration": "files",
    "read_dataset": "evaluation",
    "run_passes": "pipeline",
    "search_budgets": "search",
    "summary": "pipeline",
}
"""Module that defines each public name; imported on first use, because onnx and onnxruntime take a second to import."""

__all__ = [
    "PASS_NAMES",
    "Comparison",
    "Compiled",
    "Fate",
    "Goal",
    "MmacWarning",
    "Options",
    "check_model",
    "compare",
    "compile_model",
    "evaluate",
    "read_arrays",
    "read_budgets",
    "read_calibration",
    "read_dataset",
    "run_passes",
    "search_budgets",
    "summary",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
