"""Passes on the graph IR, an ONNX model held in onnx_ir that plain onnxruntime can run after each of them."""

from mmac.compiler.graph.bodies import DOMAIN
from mmac.compiler.graph.budget import ALPHA, BETA, LEVELS, Budget
from mmac.compiler.graph.correct import Correct
from mmac.compiler.graph.edit import SOURCE
from mmac.compiler.graph.execute import run, session
from mmac.compiler.graph.fold import Fold
from mmac.compiler.graph.partition import REASON, UNIT, Partition
from mmac.compiler.graph.quality import noted_sqnr
from mmac.compiler.graph.quantize import CALIBRATION, Quantize
from mmac.compiler.graph.reorder import Reorder
from mmac.compiler.graph.terms import Terms

__all__ = [
    "ALPHA",
    "BETA",
    "CALIBRATION",
    "DOMAIN",
    "LEVELS",
    "REASON",
    "SOURCE",
    "UNIT",
    "Budget",
    "Correct",
    "Fold",
    "Partition",
    "Quantize",
    "Reorder",
    "Terms",
    "noted_sqnr",
    "run",
    "session",
]
