"""Programs that the tests of traces share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.compiler import nets
from tests.runtime.trace.documents import TARGET, Case, compiled


@pytest.fixture(scope="session", params=["residual vc707", "branches array", "sequence tiny", "hosted vc707"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Small networks: on multipliers, on the array, in many tiles on a tiny array, with a host segment."""
    name, kind = request.param.split()
    target = nets.tiny_target() if kind == "tiny" else TARGET
    target = replace(target, multipliers=None) if kind != "vc707" else target
    return Case(compiled(name, target, tmp_path_factory.mktemp("nets")), target)
