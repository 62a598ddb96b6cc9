"""Runs samples through a program at several levels and through the model that it was compiled from."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cached_property, partial
from types import FrameType
from typing import Any

import numpy as np
import onnxruntime as ort

from mmac.compiler.evaluation.dataset import Array, Dataset
from mmac.compiler.evaluation.metrics import Collected
from mmac.isa.errors import MalformedError, ResourceError, UsageError
from mmac.isa.files import check_readable
from mmac.isa.program import Program
from mmac.runtime.arrays import Arrays
from mmac.runtime.session import Session

_SAMPLES_PER_PART = 64
"""So many samples, or one batch, are in memory at once."""


def batch_of(program: Program) -> int:
    """How many samples one run of a program takes: the first axis of all its inputs.

    Raises:
        UsageError: they have none in common.
    """
    batches = {port.shape[:1] for port in program.inputs}
    if len(batches) != 1 or batches == {()}:
        shapes = ", ".join(f"{port.name} {list(port.shape)}" for port in program.inputs)
        raise UsageError(f"inputs of {program.name}", shapes or "none", "a first axis for samples, the same for all")
    ((batch,),) = batches
    return batch


@dataclass(frozen=True)
class Runner:
    """What runs, and what is kept of it.

    Attributes:
        program: a verified program.
        levels: positions in its plan.
        outputs: positions of the model outputs that are needed.
        collect: what to keep of them (`Metric.collect`).
        original: file of the model that it was compiled from; None not to run it.
    """

    program: Program
    levels: tuple[int, ...]
    outputs: tuple[int, ...]
    collect: Callable[[list[Array], Array], Collected]
    original: str | None = None

    @property
    def names(self) -> list[str]:
        """Of the outputs that are needed."""
        return [self.program.outputs[position].name for position in self.outputs]

    def check(self) -> None:
        """Find out early what would fail at the first sample.

        Raises:
            UsageError: inputs or outputs without a first axis for samples; an original that cannot be read.
            MalformedError: an original that onnxruntime refuses, or that has other inputs and outputs.
        """
        batch = batch_of(self.program)
        for position in self.outputs:
            port = self.program.outputs[position]
            if port.shape[:1] != (batch,):
                found = f"shape {list(port.shape)}"
                raise UsageError(f"output {port.name!r}", found, f"a first axis of {batch} samples, as the inputs have")
        if self.original is not None:
            check_readable(self.original, "the ONNX model that the program was compiled from")
            known = [{value.name for value in values} for values in (self._peer.get_inputs(), self._peer.get_outputs())]
            ports = (self.program.inputs, [self.program.outputs[position] for position in self.outputs])
            for there, asked in zip(known, ports, strict=True):
                if missing := [port.name for port in asked if port.name not in there]:
                    found = f"has no {missing[0]!r}, as the program has"
                    raise MalformedError(self.original, found, ", ".join(sorted(there)), "give the model it is from")

    def run(self, samples: Dataset) -> list[Collected]:
        """What is kept of some samples at each level, and last of the original if there is one.

        Raises:
            MalformedError: a sample that cannot be read, or that a part of the model does not take.
        """
        inputs, count, batch = samples.inputs(), len(samples.labels), batch_of(self.program)
        feeds = [_padded(inputs, start, batch, count) for start in range(0, count, batch)]

        def joined(run: Callable[[Arrays], Sequence[Array]]) -> Collected:
            batches = [run(feed) for feed in feeds]
            return self.collect([np.concatenate(parts)[:count] for parts in zip(*batches, strict=True)], samples.labels)

        found = [joined(partial(self._session.run, self.names, level=level)) for level in self.levels]
        return found if self.original is None else [*found, joined(self._run_original)]

    @cached_property
    def _session(self) -> Session:
        return Session(self.program)

    @cached_property
    def _peer(self) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # without it, unsigned × signed kernels saturate at 16 bits on processors without VNNI
        options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            return ort.InferenceSession(self.original, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise self._refused(error) from error

    def _run_original(self, feed: Arrays) -> Sequence[Array]:
        try:
            results: Sequence[Array] = self._peer.run(self.names, feed)
        except Exception as error:
            raise self._refused(error) from error
        for name, result in zip(self.names, results, strict=True):
            if result.shape[:1] != (batch := batch_of(self.program),):
                raise MalformedError(f"{self.original}: output {name!r}", f"{result.shape}", f"{batch} samples in it")
        return results

    def _refused(self, error: Exception) -> MalformedError:
        return MalformedError(
            str(self.original),
            f"onnxruntime refuses it: {' '.join(str(error).split())}",
            hint="give the ONNX model that the program is from",
        )


def _padded(inputs: Arrays, start: int, batch: int, count: int) -> Arrays:
    """One batch; after the last sample there are more like it."""
    if start + batch <= count:
        return {name: array[start : start + batch] for name, array in inputs.items()}
    positions = np.minimum(np.arange(start, start + batch), count - 1)
    return {name: array[positions] for name, array in inputs.items()}


def run_all(runner: Runner, samples: Dataset, jobs: int = 1) -> Iterator[tuple[int, list[Collected]]]:
    """Run all samples, part by part in their order.

    Args:
        runner: what runs.
        samples: the dataset.
        jobs: processes; with 1 it is this one.

    Yields:
        How many samples have been run by then, and what was kept of the last of them (`Runner.run`).

    Raises:
        UsageError: no such number of jobs.
        ResourceError: a process was killed.
        MmacError: as `Runner.run`.
    """
    if jobs < 1:
        raise UsageError("jobs", f"{jobs}", "1 or more processes")
    count, batch = len(samples.labels), batch_of(runner.program)
    size = -(-_SAMPLES_PER_PART // batch) * batch
    bounds = [(start, min(start + size, count)) for start in range(0, count, size)]
    parts = (samples.take(np.arange(*bound)) for bound in bounds)
    if (jobs := min(jobs, len(bounds))) == 1:
        results: Iterator[list[Collected]] = map(runner.run, parts)
    else:
        results = _in_processes(replace(runner), parts, jobs)  # a copy without sessions
    yield from zip((stop for _, stop in bounds), results, strict=True)


def _in_processes(runner: Runner, parts: Iterator[Dataset], jobs: int) -> Iterator[list[Collected]]:
    """Results of the parts in their order; few parts at a time are in memory."""
    waiting: deque[Future[list[Collected]]] = deque()
    others = set(multiprocessing.active_children())
    # spawned: a fork would take over locks that other threads hold
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin, (runner,))
    try:
        for part in parts:
            with _uninterrupted():
                waiting.append(pool.submit(_run, part))
            if len(waiting) > 2 * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BaseException as error:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise ResourceError("jobs", "a process ended early", "memory for all of them", "give fewer jobs") from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the context. Processes that are started in it never notice it.

    Otherwise they show tracebacks of what they are just importing, or of the half of a runner that they were sent.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[tuple[int, FrameType | None]] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: pressed.append((number, frame)))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # which a new process inherits
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if pressed and callable(handler):
            handler(*pressed[0])


_RUNNERS: list[Runner] = []
"""Of a process that `run_all` has started, its one."""


def _begin(runner: Runner) -> None:
    _RUNNERS.append(runner)


def _run(samples: Dataset) -> list[Collected]:
    return _RUNNERS[0].run(samples)
