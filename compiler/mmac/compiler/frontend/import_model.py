"""Pass `import`: an ONNX file becomes the graph IR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir

from mmac.compiler.frontend.checks import (
    check_nodes,
    check_operators,
    check_shapes,
    check_types,
    check_weights,
    memory_of_machine,
)
from mmac.compiler.frontend.dims import bind_dims
from mmac.compiler.frontend.growth import check_growth
from mmac.compiler.frontend.infer import infer_shapes
from mmac.compiler.frontend.read import read_model
from mmac.compiler.passes import Pass

NOTES = "mmac.notes"
"""Key of the model's metadata: sentences for the user, one a line."""


@dataclass(frozen=True)
class ImportModel(Pass[Path | str, ir.Model]):
    """Read an ONNX file and bind its dimensions.

    Needs: a file in ONNX's protobuf form, its external data (if any) inside its folder.

    Guarantees: opset 13…27, no functions, nodes in topological order with unique names and ``mmac.source``, weights
    finite, input shapes static, every other shape inferred as far as it can be known.

    Before: ``input: float[batch, 3, 224, 224]``, opset 9.  After: ``input: float[1, 3, 224, 224]``, opset 13, and
    ``mmac.notes`` says that ``batch`` became 1.

    Args:
        dims: number for each symbolic dimension, by its name or as ``input[axis]``.
        max_memory: most bytes that a value of the model may have; None for this machine's memory.
    """

    name: ClassVar[str] = "import"
    dims: Mapping[str, int] = field(default_factory=dict)
    max_memory: int | None = None

    def apply(self, path: Path | str, /) -> ir.Model:
        """The model in the file `path`.

        Raises:
            UsageError: no such file, or an unbound or unknown dimension.
            MalformedError: not a valid model, or NaN, infinite or empty tensors.
            UnsupportedError: an opset or operator that onnxruntime does not know, or inputs or outputs without numbers.
            ResourceError: a value larger than the memory, or work without end.
        """
        where = str(path)
        model = read_model(Path(path))
        check_operators(model, where)
        check_weights(model, where)
        notes = bind_dims(model, self.dims)
        memory_bytes = self.max_memory or memory_of_machine()
        check_growth(model, where, memory_bytes)
        infer_shapes(model, where)
        check_types(model, where)
        check_shapes(model, where, memory_bytes)
        check_nodes(model, where)
        if notes:
            model.metadata_props[NOTES] = "\n".join(notes)
        return model
