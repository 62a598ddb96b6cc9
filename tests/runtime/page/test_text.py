from __future__ import annotations

import html
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.runtime.page.text import label, markup, printable, script_json, shortened
from tests.runtime.page.pages import HOSTILE

ANY = st.text() | st.sampled_from(HOSTILE)
"""Halves of surrogate pairs and control characters included."""


@given(ANY)
def test_what_is_printed_is_left_alone_and_the_rest_can_be_seen(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    assert shown == text or not text.isprintable()
    assert len(shown) >= len(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\nb", r"a\nb"), ("\0", r"\x00"), ("\u202egnp.exe", r"\u202egnp.exe"), ("\ud800", r"\ud800"), ("α ×", "α ×")],
)
def test_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(ANY)
def test_markup_and_labels_are_read_back_as_the_text(text: str) -> None:
    for escaped in (markup(text), label(text, 10**6)):
        assert html.unescape(escaped) == printable(text)
        assert not set(escaped) & set("<>")
    assert not set(markup(text)) & set("\"'")


@given(ANY, st.integers(1, 30))
def test_what_is_too_long_keeps_its_end(text: str, limit: int) -> None:
    short = shortened(text, limit)
    assert len(short) <= limit
    assert short == text or (short[0] == "…" and text.endswith(short[1:]))
    assert html.unescape(label(text, limit)) == shortened(printable(text), limit)


@given(st.dictionaries(ANY, ANY | st.integers() | st.lists(ANY)))
def test_json_cannot_end_its_script(value: dict[str, object]) -> None:
    text = script_json(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert text.isascii()
    assert json.loads(text) == value
