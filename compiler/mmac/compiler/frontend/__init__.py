"""From an ONNX file to the graph IR."""

from mmac.compiler.frontend.import_model import NOTES, ImportModel
from mmac.compiler.frontend.infer import infer_shapes, is_numeric, static_shape, type_name

__all__ = ["NOTES", "ImportModel", "infer_shapes", "is_numeric", "static_shape", "type_name"]
