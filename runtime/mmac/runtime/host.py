"""Host segments: the parts of a model that onnxruntime executes between stretches of device code."""

from __future__ import annotations

import time
from typing import Any

from mmac.isa.errors import MalformedError
from mmac.isa.program import HostSegment, Program
from mmac.runtime.memory import Array, Memory


class Host:
    """Runs the host segments of a program; each segment's onnxruntime session is made when it is first needed."""

    def __init__(self, program: Program, threads: int = 1) -> None:
        self.program = program
        self.threads = threads
        self._sessions: dict[int, Any] = {}

    def run(self, segment: int, memory: Memory) -> float:
        """Run one segment on the tensors in `memory`, and write its outputs there.

        Returns:
            Milliseconds that onnxruntime took, without making its session and moving tensors.

        Raises:
            MalformedError: onnxruntime refuses the segment, or its outputs are not of the declared types.
        """
        host = self.program.host[segment]
        session = self._session(segment)
        feeds = {name: memory.read(name) for name in host.inputs}
        start = time.perf_counter()
        try:
            results = session.run(list(host.outputs), feeds)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise _refused(segment, host, error) from error
        elapsed_ms = (time.perf_counter() - start) * 1e3
        for name, array in zip(host.outputs, results, strict=True):
            self._check(segment, name, array)
            memory.write(name, array)
        return elapsed_ms

    def _session(self, segment: int) -> Any:
        if segment not in self._sessions:
            host = self.program.host[segment]
            try:
                self._sessions[segment] = _create(host.onnx, self.threads)
            except Exception as error:
                raise _refused(segment, host, error) from error
        return self._sessions[segment]

    def _check(self, segment: int, name: str, array: Array) -> None:
        tensor = self.program.tensor[name]
        if array.dtype != tensor.dtype or array.shape != tensor.shape:
            found = f"output {name} is {array.dtype}{list(array.shape)}"
            raise MalformedError(f"host segment {segment}", found, f"{tensor.dtype}{list(tensor.shape)}")


def _create(model: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # without it, unsigned × signed kernels saturate at 16 bits on processors without VNNI
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _refused(segment: int, host: HostSegment, error: Exception) -> MalformedError:
    nodes = ", ".join(name for name, _ in host.nodes[:3]) + (" …" if len(host.nodes) > 3 else "")
    return MalformedError(
        f"host segment {segment} ({nodes})", f"onnxruntime refuses it: {error}", hint="compile the model again"
    )
