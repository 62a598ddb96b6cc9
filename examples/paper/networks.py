"""A network compiled once as far as it does not depend on the target, then mapped on as many targets as one likes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import as_file, files

import numpy as np
import onnx_ir as ir

from mmac.compiler.emit import Emit
from mmac.compiler.pipeline import PASS_NAMES, Options, passes, run_passes
from mmac.compiler.tile.ir import ArrayLayer, TileProgram
from mmac.isa.plan import Level
from mmac.isa.program import Program
from mmac.runtime.report import Report, summarize
from mmac.runtime.targets import CONSTANT_SETS, Target
from mmac.runtime.timing.analyse import Analysis, analyse

FIRST_PRINCIPLES, PAPER = CONSTANT_SETS

Rule = Callable[[ArrayLayer, tuple[Level, ...]], bool]
"""Whether a layer with these budgets may run on the multipliers."""


def anything(layer: ArrayLayer, budgets: tuple[Level, ...]) -> bool:
    """Whatever is faster there: what the compiler does."""
    return True


def depthwise(layer: ArrayLayer, budgets: tuple[Level, ...]) -> bool:
    """Convolutions of many groups, which cannot fill the array."""
    return layer.groups > 1


def all_terms(layer: ArrayLayer, budgets: tuple[Level, ...]) -> bool:
    """Layers that keep the same terms at every level: the first and the last one."""
    return len(set(budgets)) == 1


def depthwise_or_all_terms(layer: ArrayLayer, budgets: tuple[Level, ...]) -> bool:
    """What cannot gain from a lower level on the array."""
    return depthwise(layer, budgets) or all_terms(layer, budgets)


@dataclass(frozen=True)
class Network:
    """A network as the pass `terms` leaves it."""

    name: str
    model: ir.Model
    options: Options

    @classmethod
    def bundled(cls) -> Network:
        """The Fashion-MNIST classifier that comes with mmac."""
        folder = files("mmac.cli") / "data"
        with as_file(folder / "fashion_mnist_test.npz") as path, np.load(path) as data:
            images = data["calibration"][:16, None].astype(np.float32) / 255
        options = Options(calibration={"image": images})
        with as_file(folder / "fashion_mnist_cnn.onnx") as path:
            return cls("fashion_mnist_cnn", run_passes(path, options, after="terms")[0], options)

    @classmethod
    def benchmark(cls, name: str) -> Network:
        """One of `benchmarks.models`, calibrated on one sample: costs do not depend on data."""
        from benchmarks.models import calibration, load

        options = Options(calibration=calibration(name, 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return cls(name, run_passes(load(name), options, after="terms")[0], options)

    def program(self, target: Target, rule: Rule = anything) -> Program:
        """The program for a target; only layers that `rule` admits run on the multipliers."""
        tile, *rest, _ = passes(self.options, target)[PASS_NAMES.index("tile") :]
        module: TileProgram = tile.apply(self.model)
        if rule is not anything:
            without, *_ = passes(self.options, replace(target, multipliers=None))[PASS_NAMES.index("tile") :]
            module = _choose(module, without.apply(self.model), rule)
        state = module
        for step in (*rest, Emit(target, predict=False)):
            state = step.apply(state)
        if not isinstance(state, Program):
            raise TypeError(f"the last pass gave {state!r}")
        return state


def _choose(module: TileProgram, without: TileProgram, rule: Rule) -> TileProgram:
    """Of two mappings of a network, the first for what `rule` admits, the second (no multipliers) for all else."""

    def admitted(layer: ArrayLayer) -> bool:
        return rule(layer, tuple(module.plan.layers[layer.layer].levels))

    pairs = zip(module.operations, without.operations, strict=True)
    chosen = tuple(a if not isinstance(a, ArrayLayer) or admitted(a) else b for a, b in pairs)
    return replace(module, operations=chosen)


@dataclass(frozen=True)
class Costs:
    """A program on a target, analysed once per kind of cell."""

    name: str
    program: Program
    target: Target

    @cached_property
    def analysis(self) -> Analysis:
        """Timing with the target's own cells."""
        return analyse(self.program, self.target)

    @cached_property
    def report(self) -> Report:
        """Costs by first principles."""
        return summarize(self.analysis)

    def with_cell(self, mac: str, constants: str) -> Report:
        """Costs with another kind of cell in the same array."""
        own = mac == self.target.array.cell
        return summarize(self.analysis if own else analyse(self.program, self.target, mac), constants)

    @property
    def on_host(self) -> list[str]:
        """The kinds of nodes that run on the host, one entry per node."""
        return [node.split()[0] for segment in self.program.host for node, _ in segment.nodes]
