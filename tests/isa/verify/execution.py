"""Running small programs on the reference machine, in program order or in any order that tokens allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmac.isa import table
from mmac.isa.program import Program
from mmac.isa.spec import Queue
from mmac.isa.structure import Node, Op, parse
from mmac.runtime.engines.reference import EXECUTES
from mmac.runtime.engines.reference.machine import Machine
from mmac.runtime.memory import Memory

Event = tuple[Op, tuple[int, ...]]
"""An instruction, and the loop indices that it executes at."""

Choice = Callable[[Sequence[Queue]], Queue]
"""Which of the queues that could go on does."""


def events(nodes: Sequence[Node], indices: tuple[int, ...] = ()) -> Iterator[Event]:
    """All executions of queue instructions, in program order."""
    for node in nodes:
        if not isinstance(node, Op):
            for index in range(node.count):
                yield from events(node.body, (*indices, index))
        elif isinstance(node.instr, table.Queued):
            yield node, indices


def run(program: Program, level: int, choose: Choice, seed: int = 0) -> npt.NDArray[np.uint8]:
    """DRAM after a run on random inputs. `host` segments do nothing."""
    memory = Memory(program)
    rng = np.random.default_rng(seed)
    for port in program.inputs:
        for name in port.tensors:
            info = program.tensor[name]
            memory.write(name, rng.integers(0, 128, info.shape).astype(info.dtype))
    machine = Machine(program)
    machine.start(memory, level)
    pending: dict[Queue, list[Event]] = {queue: [] for queue in Queue}
    for op, indices in events(parse(program.code)):
        pending[op.instr.queue].append((op, indices))
    for waiting in pending.values():
        waiting.reverse()
    tokens = [0] * table.SEMAPHORES
    with np.errstate(all="raise", over="ignore", under="ignore"):
        while ready := [queue for queue, waiting in pending.items() if waiting and _can_go_on(waiting[-1][0], tokens)]:
            _execute(machine, *pending[choose(ready)].pop(), tokens)
    assert not any(pending.values()), "a queue waits for ever"
    return memory.dram


def _can_go_on(op: Op, tokens: Sequence[int]) -> bool:
    waits = _queued(op).waits
    return all(tokens[s] >= waits.count(s) for s in waits)


def _execute(machine: Machine, op: Op, indices: tuple[int, ...], tokens: list[int]) -> None:
    for semaphore in _queued(op).waits:
        tokens[semaphore] -= 1
    machine.indices[:] = indices
    EXECUTES[type(op.instr)](machine, op)
    for semaphore in _queued(op).signals:
        tokens[semaphore] += 1


def _queued(op: Op) -> table.Queued:
    assert isinstance(op.instr, table.Queued)
    return op.instr


def prefer(*order: Queue) -> Choice:
    """The first of `order` that can go on."""
    return lambda ready: min(ready, key=order.index)


def at_random(seed: int) -> Choice:
    """Any queue, for stretches of random length."""
    rng = np.random.default_rng(seed)
    last: list[Any] = []

    def choose(ready: Sequence[Queue]) -> Queue:
        if not last or last[0] not in ready or rng.random() < 0.2:
            last[:] = [ready[int(rng.integers(len(ready)))]]
        chosen: Queue = last[0]
        return chosen

    return choose


EAGER = prefer(Queue.LOAD, Queue.WEIGHTS, Queue.COMPUTE, Queue.STORE)
LAZY = prefer(Queue.STORE, Queue.COMPUTE, Queue.WEIGHTS, Queue.LOAD)
COMPUTE_FIRST = prefer(Queue.COMPUTE, Queue.LOAD, Queue.WEIGHTS, Queue.STORE)
WEIGHTS_FIRST = prefer(Queue.WEIGHTS, Queue.STORE, Queue.LOAD, Queue.COMPUTE)
WEIGHTS_LAST = prefer(Queue.LOAD, Queue.COMPUTE, Queue.STORE, Queue.WEIGHTS)
