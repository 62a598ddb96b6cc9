"""Asserting that the verifier refuses a program, and why."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from mmac.isa.errors import MmacError, VerificationError
from mmac.isa.verify import verify
from tests.isa.source import Source


@dataclass(frozen=True)
class Case:
    """A valid program, edits that break one rule, and what the verifier must say."""

    source: Callable[[], Source]
    edits: tuple[tuple[str, str], ...]
    said: str
    kind: type[MmacError] = VerificationError

    def check(self) -> None:
        source = self.source()
        verify(source.program())
        for old, new in self.edits:
            source = source.edit(old, new)
        rejected(source, self.said, self.kind)


def rejected(source: Source, said: str, kind: type[MmacError] = VerificationError) -> MmacError:
    """The error, of exactly this kind, with these words in this order somewhere in its text."""
    pattern = ".*".join(re.escape(part.strip()) for part in said.split("…"))
    with pytest.raises(kind, match=f"(?s){pattern}") as caught:
        verify(source.program())
    assert type(caught.value) is kind
    assert caught.value.allowed, "an error says what would be allowed"
    return caught.value
