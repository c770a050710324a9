"""Text from elsewhere: what drives a terminal or deceives a reader never gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmgym.text import clean, is_clean


@given(st.text(alphabet=st.characters(codec=None)))
def test_cleaned_text_is_clean_and_keeps_the_rest(text: str) -> None:
    cleaned = clean(text)
    assert is_clean(cleaned) and len(cleaned) == len(text)
    assert is_clean(text) or cleaned != text
    assert all(new in (old, "\ufffd") for new, old in zip(cleaned, text, strict=True))
    cleaned.encode("utf-8")


@pytest.mark.parametrize(
    "char", ["\0", "\x1b", "\r", "\x7f", "\x9b", "\ud800", "\u2028", "\u202e", "\u2066"]
)
def test_what_drives_a_terminal_or_turns_text_round_is_replaced(char: str) -> None:
    assert clean(f"a{char}b") == "a\ufffdb"


@pytest.mark.parametrize(
    "text", ["a\n\tb", "10\u00a0000", "na\u00efve", "\U0001f469\u200d\U0001f4bb", "\u05d0"]
)
def test_text_of_any_script_stays(text: str) -> None:
    assert clean(text) == text


def test_long_text_is_cut_with_a_mark() -> None:
    assert clean("x" * 20, 10) == "x" * 8 + "\n…"
    assert clean("x" * 10, 10) == "x" * 10
