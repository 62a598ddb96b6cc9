"""`Session`: run a program, in the way that onnxruntime's InferenceSession runs a model."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from mmac.isa import structure
from mmac.isa.errors import ResourceError, UsageError
from mmac.isa.plan import Level
from mmac.isa.program import Port, Program
from mmac.runtime import engines, ports
from mmac.runtime.governor import Governor, Policy
from mmac.runtime.host import Host
from mmac.runtime.memory import Array, Memory
from mmac.runtime.ports import NodeArg

if TYPE_CHECKING:
    from mmac.runtime.report import Report
    from mmac.runtime.targets import Target

_VERIFIED: weakref.WeakValueDictionary[int, Program] = weakref.WeakValueDictionary()
"""Programs that the verifier has passed, by identity: a second session need not prove it again."""


class Session:
    """A verified program, ready to run at any of its levels.

    Args:
        program: path of a `.mmac` file, or a program in memory.
        engine: ``fast`` (whole layers by integer kernels), ``reference`` (term pair by term pair) or ``cell`` (every
            register of every cell, for small programs); all give the same bits.
        threads: most threads that the engine and host segments use.
        target: the hardware that `report` and the engine ``cell`` are about; default: what the program was compiled
            for.
        mac: kind of cell that they are about; default: the target's.
        policy: limits by which `run` chooses the level if it is given none; may be replaced between runs
            (`session.policy = …`); None for the highest level.

    Raises:
        MalformedError: not a program, or damaged.
        VerificationError: the verifier could not prove that the program is safe.
        UsageError: no such engine, target or cell.
        ResourceError: not enough memory for the program's DRAM.
    """

    def __init__(
        self,
        program: str | os.PathLike[str] | Program,
        engine: str = "fast",
        threads: int = 1,
        *,
        target: Target | str | None = None,
        mac: str | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.program = program if isinstance(program, Program) else _load(program)
        _verify(self.program)
        self._segments = engines.split(self.program, structure.parse(self.program.code))
        self._hardware = (target, mac)
        self._engine = engines.create(engine, self.program, self._segments, threads, target, mac)
        self._host = Host(self.program, threads)
        try:
            self._memory = Memory(self.program)
        except MemoryError as error:
            raise ResourceError(
                self.program.name, f"its DRAM has {self.program.dram_bytes} bytes", str(error)
            ) from error
        self._outputs = {port.name: port for port in self.program.outputs}
        self._lock = threading.Lock()
        self.host_ms = [0.0] * len(self.program.plan.levels)
        """Milliseconds that onnxruntime spent on host segments in the last run at each level; 0 if none was made."""
        self.policy = policy
        self.last_level: int | None = None
        """Position of the level of the last run; None before it."""

    def get_inputs(self) -> list[NodeArg]:
        """Name, shape and type of each model input."""
        return [ports.describe(port) for port in self.program.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """Name, shape and type of each model output."""
        return [ports.describe(port) for port in self.program.outputs]

    @property
    def report(self) -> Report:
        """Latency, energy and traffic at every level, on the session's target.

        They are predicted and do not depend on data; only the host's time is measured (`host_ms`).
        """
        return self._estimate.with_host_ms(self.host_ms)

    @cached_property
    def governor(self) -> Governor:
        """What chooses levels by `policy`: from predictions for the session's target, of device time and energy."""
        target, mac = self._hardware
        return Governor.of_program(self.program, target, mac)

    @cached_property
    def _estimate(self) -> Report:
        from mmac.runtime.compiled_for import machine_for
        from mmac.runtime.report import estimate

        target, mac = self._hardware
        return estimate(self.program, machine_for(self.program, target), mac=mac)

    def run(
        self,
        output_names: Sequence[str] | None,
        inputs: Mapping[str, Array],
        level: int | str | Level | None = None,
    ) -> list[Array]:
        """Run once.

        Args:
            output_names: model outputs, or any tensors of the program (given as they are stored, not dequantized);
                None for all outputs. Asking for a tensor changes no other result.
            inputs: every model input by name, with the declared shape and dtype. Float inputs of quantized tensors
                are quantized as by ONNX QuantizeLinear; NaN is refused there.
            level: position in the plan, or a `Level`, or its name such as ``8x2`` or ``full``; None for the one that
                `policy` chooses, or without a policy the highest.
                Consecutive runs may use different levels, nothing is loaded again.

        Returns:
            Arrays in the order of `output_names`.

        Raises:
            UsageError: a name or level that the program does not have, or a policy that no level keeps to.
            MalformedError: an input of the wrong shape or dtype, or a host segment that does not run.
        """
        names = list(self._outputs) if output_names is None else list(output_names)
        for name in names:
            if name not in self._outputs and name not in self.program.tensor:
                raise UsageError(
                    f"output {name!r}", "no such tensor", *ports.closest(name, {**self._outputs, **self.program.tensor})
                )
        number = self._level(level)
        ports.check_inputs(self.program.inputs, inputs)
        with self._lock:
            kept = self._execute(number, inputs, {name for name in names if name not in self._outputs})
            return [self._result(name, kept) for name in names]

    def _execute(self, level: int, inputs: Mapping[str, Array], keep: set[str]) -> dict[str, Array]:
        """Run all segments; returns those of `keep` that later code may overwrite."""
        kept: dict[str, Array] = {}
        host_ms = 0.0
        for port in self.program.inputs:
            self._feed(port, inputs[port.name])
            self._keep(kept, keep, port.tensors)
        for number, segment in enumerate(self._segments):
            kept.update(self._engine.run(number, self._memory, level, keep))
            if segment.host is not None:
                self._keep(kept, keep, self.program.host[segment.host].inputs)
                host_ms += self._host.run(segment.host, self._memory)
                self._keep(kept, keep, self.program.host[segment.host].outputs)
        self.host_ms[level] = host_ms
        self.last_level = level
        return kept

    def _feed(self, port: Port, array: Array) -> None:
        for name in port.tensors:
            self._memory.write(name, ports.into_tensor(port, self.program.tensor[name], array))

    def _keep(self, kept: dict[str, Array], keep: set[str], names: Sequence[str]) -> None:
        kept.update({name: self._memory.read(name) for name in names if name in keep})

    def _result(self, name: str, kept: dict[str, Array]) -> Array:
        if port := self._outputs.get(name):
            (source,) = port.tensors
            return ports.from_tensor(port, self.program.tensor[source], self._memory.read(source))
        return kept[name] if name in kept else self._memory.read(name)

    def _level(self, level: int | str | Level | None) -> int:
        plan = self.program.plan
        if level is None:
            policy = self.policy
            return len(plan.levels) - 1 if policy is None else self.governor.choose(policy)
        return plan.index(str(level))


def _load(path: str | os.PathLike[str]) -> Program:
    from mmac.isa.container import load

    return load(path)


def _verify(program: Program) -> None:
    if _VERIFIED.get(id(program)) is program:
        return
    from mmac.isa.verify import verify

    verify(program)
    _VERIFIED[id(program)] = program
