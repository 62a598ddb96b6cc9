"""Pass `fold`: everything that can be known or merged before the first input arrives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from mmac.compiler.frontend import infer_shapes
from mmac.compiler.graph.canonical import CANONICAL
from mmac.compiler.graph.edit import Editor, remove_unused
from mmac.compiler.graph.fold_constants import fold_constants, lift_constants
from mmac.compiler.graph.fuse import FUSIONS
from mmac.compiler.passes import Pass

_MAX_ROUNDS = 20
"""Each round removes nodes, so this only bounds what cannot happen."""


@dataclass(frozen=True)
class Fold(Pass[ir.Model, ir.Model]):
    """Compute constants, merge linear operators into their neighbours, and spell each operator one way.

    Needs: an imported model.

    Guarantees: constants are initializers; batch norm and constant factors and offsets of channels are part of the
    Conv, Gemm or MatMul before them, zero padding part of the Conv after it; pools have explicit padding and no
    ceil_mode; Gemm has alpha = beta = 1 and constant operands untransposed; no Identity, Dropout or constant Shape
    arithmetic is left.  DequantizeLinear of weights stays.  The results stay within rounding of the float kernels.

    Before: ``y = Relu(BatchNormalization(Conv(Pad(x), w), …))``.  After: ``y = Relu(Conv(x, w', b'))``.
    """

    name: ClassVar[str] = "fold"

    def apply(self, model: ir.Model, /) -> ir.Model:
        """The folded model."""
        result = model.clone()
        editor = Editor(result)
        lift_constants(editor)
        for _ in range(_MAX_ROUNDS):
            changed = fold_constants(editor)
            for rules in (CANONICAL, FUSIONS):
                for node in list(result.graph):
                    key = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
                    # An earlier rule of this round may have removed the node.
                    if node.graph is not None and (rule := rules.get(key)) is not None:
                        changed |= rule(editor, node)
            remove_unused(result)
            if not changed:
                break
            infer_shapes(result, "fold")
        return result
