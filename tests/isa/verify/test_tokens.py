"""Each rule about semaphores and the length of a run."""

from __future__ import annotations

import pytest

from tests.isa import examples
from tests.isa.verify.rejection import Case

add = examples.addition

CASES = {
    "wait without signal": Case(
        add,
        (("sync.load wait=14\nloop", "sync.load wait=14,20\nloop"),),
        "instruction 33 (sync.load) of node 'add0': it waits for semaphore 20, which nothing before it has signalled",
    ),
    "signal that comes too late": Case(
        add,
        (
            ("sync.load wait=14\nloop", "loop"),
            (
                "sync.store signal=14\nsync.compute",
                "sync.store signal=14\nsync.load wait=15\nsync.store signal=15\nsync.compute",
            ),
        ),
        "waits for semaphore 15",
    ),
    "one credit too few": Case(
        add,
        (("sync.compute signal=0,0", "sync.compute signal=0"),),
        "it waits for semaphore 0, which nothing before it has signalled",
    ),
    "loop that loses a token": Case(
        add,
        (("wait=11 signal=10", "wait=11"),),
        "instruction 35 (loop) of node 'add0': an iteration changes semaphore 10 by -1 tokens",
    ),
    "loop that gains a token": Case(
        add, (("wait=11 signal=10", "wait=11 signal=10,20"),), "an iteration changes semaphore 20 by +1 tokens"
    ),
    "tokens left at the end": Case(
        add, (("sync.load wait=14\nhalt", "halt"),), "(halt): semaphore 14 holds 1 tokens; 0"
    ),
    "tokens left at a host segment": Case(
        examples.network,
        (("sync.load wait=14\nhost 0\nsync.compute signal=0,0", "host 0\nsync.load wait=14\nsync.compute signal=0,0"),),
        "(host) of node 'host6': semaphore 14 holds 1 tokens",
    ),
    "two producers": Case(
        add,
        (("sync.store signal=14\nsync.compute", "sync.compute signal=14\nsync.compute"),),
        "semaphore 14 is signalled by the compute queue; the store queue, as in instruction 7",
    ),
    "weights that the load queue waits for": Case(
        examples.convolution,
        (("sync.weights wait=3,3", "sync.load wait=3,3"),),
        "semaphore 3 is waited for by the load queue; the weights queue, as in instruction 44",
    ),
    "two consumers": Case(
        add,
        (("sync.load wait=14\nhalt", "sync.store wait=14\nhalt"),),
        "semaphore 14 is waited for by the store queue; the load queue, as in instruction 33",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refuses(name: str) -> None:
    CASES[name].check()
