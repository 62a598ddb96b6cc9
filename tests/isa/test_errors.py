"""Errors keep what they say when they come from another process."""

from __future__ import annotations

import pickle

import pytest

from mmac.isa import errors


@pytest.mark.parametrize("name", ["MmacError", "UsageError", "MalformedError", "ResourceError", "VerificationError"])
def test_pickled(name: str) -> None:
    error = getattr(errors, name)("file", "nothing in it", hint="look elsewhere")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error) == "file: nothing in it; look elsewhere"
    assert (copy.where, copy.found, copy.allowed, copy.hint) == ("file", "nothing in it", "", "look elsewhere")
