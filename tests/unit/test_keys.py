"""Chords and text become the right QEMU key codes, and what has no key is named."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmgym.actions.keys import CHARACTERS, KEY_NAMES, MODIFIERS, parse_chord, text_to_keys
from harmgym.errors import ActionError


@pytest.mark.parametrize(
    ("chord", "codes"),
    [
        ("ctrl+alt+t", ("ctrl", "alt", "t")),
        ("Return", ("ret",)),
        ("ENTER", ("ret",)),
        ("Ctrl+Shift+T", ("ctrl", "shift", "t")),
        ("ctrl+C", ("ctrl", "c")),
        ("A", ("shift", "a")),
        ("?", ("shift", "slash")),
        ("ctrl+?", ("ctrl", "shift", "slash")),
        ("ctrl+shift+?", ("ctrl", "shift", "slash")),
        ("ctrl++", ("ctrl", "shift", "equal")),
        ("+", ("shift", "equal")),
        ("ctrl+plus", ("ctrl", "shift", "equal")),
        ("ctrl+minus", ("ctrl", "minus")),
        ("alt + F4", ("alt", "f4")),
        ("super", ("meta_l",)),
        ("Page_Down", ("pgdn",)),
        ("kp_5", ("kp_5",)),
    ],
)
def test_chords(chord: str, codes: tuple[str, ...]) -> None:
    assert parse_chord(chord) == codes


@pytest.mark.parametrize(
    ("chord", "part", "hint"),
    [
        ("ctrl+retrun", "retrun", "return"),
        ("ctlr+c", "ctlr", "ctrl"),
        ("", "''", ""),
        ("ctrl+", "''", ""),
        ("é", "é", ""),
    ],
)
def test_unknown_keys_are_named(chord: str, part: str, hint: str) -> None:
    with pytest.raises(ActionError) as err:
        parse_chord(chord)
    assert part in str(err.value)
    assert hint in str(err.value)


def test_a_key_twice_is_refused() -> None:
    with pytest.raises(ActionError, match="twice"):
        parse_chord("ctrl+control+c")


def test_text_is_typed_a_chord_a_character() -> None:
    assert text_to_keys("Hi!\n") == [("shift", "h"), ("i",), ("shift", "1"), ("ret",)]


def test_a_character_without_a_key_is_named_with_its_place() -> None:
    with pytest.raises(ActionError, match=r"'€' \(U\+20AC, position 3\)"):
        text_to_keys("10 € and ü")


@given(st.text(alphabet=string.printable.replace("\r", "").replace("\x0b", "").replace("\x0c", "")))
def test_all_printable_ascii_can_be_typed(text: str) -> None:
    assert len(text_to_keys(text)) == len(text)


@given(st.text())
def test_text_is_typed_whole_or_refused(text: str) -> None:
    if all(c in CHARACTERS for c in text):
        assert len(text_to_keys(text)) == len(text)
    else:
        with pytest.raises(ActionError):
            text_to_keys(text)


def test_no_two_characters_share_a_chord() -> None:
    assert len(set(CHARACTERS.values())) == len(CHARACTERS)


def test_every_named_key_works_with_every_modifier() -> None:
    for modifier in MODIFIERS:
        for name in KEY_NAMES:
            assert parse_chord(f"{modifier}+{name}")
