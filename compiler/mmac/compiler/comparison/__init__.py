"""A program beside its model, layer by layer: where accuracy is lost, why, and which layer goes wrong."""

from mmac.compiler.comparison.errors import Errors
from mmac.compiler.comparison.result import Comparison, Finding, LayerErrors, LevelErrors, OutputErrors
from mmac.compiler.comparison.run import SAMPLES, compare

__all__ = ["SAMPLES", "Comparison", "Errors", "Finding", "LayerErrors", "LevelErrors", "OutputErrors", "compare"]
