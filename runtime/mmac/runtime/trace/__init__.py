"""Traces of one inference at one level, for ui.perfetto.dev. `docs/traces.md` says what there is to see."""

from mmac.runtime.trace.build import trace, write_trace

__all__ = ["trace", "write_trace"]
