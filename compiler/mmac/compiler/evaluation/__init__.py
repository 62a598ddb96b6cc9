"""How well a program does its task at each level, on a labelled dataset; what `mmac evaluate` does.

>>> from mmac.compiler.evaluation import evaluate, read_dataset
"""

from mmac.compiler.evaluation.dataset import Dataset, Samples, read_dataset
from mmac.compiler.evaluation.images import ImageFolder, Preprocessing
from mmac.compiler.evaluation.measure import Evaluation, LevelResult, evaluate
from mmac.compiler.evaluation.metrics import Metric, classification, load_metric, user_metric

__all__ = [
    "Dataset",
    "Evaluation",
    "ImageFolder",
    "LevelResult",
    "Metric",
    "Preprocessing",
    "Samples",
    "classification",
    "evaluate",
    "load_metric",
    "read_dataset",
    "user_metric",
]
