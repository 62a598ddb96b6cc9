"""Load, verify, execute and estimate `.mmac` programs. Needs nothing but the program and a target."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmac.runtime.governor import Policy as Policy
    from mmac.runtime.report import estimate as estimate
    from mmac.runtime.session import Session as Session
    from mmac.runtime.targets import load_target as load_target

_HOME = {
    "Policy": "mmac.runtime.governor",
    "Session": "mmac.runtime.session",
    "estimate": "mmac.runtime.report",
    "load_target": "mmac.runtime.targets",
}
"""Where each public name is defined; imported on first use, so that importing the package costs nothing."""

__all__ = ["Policy", "Session", "estimate", "load_target"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
