"""Every element of the action space is an action, every action an element; texts of any script fit
the observation.
"""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from action_strategies import ACTIONS
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from harmgym import actions
from harmgym.actions import MAX_TEXT, Action, why_not
from harmgym.actions.keys import parse_chord
from harmgym.env.spaces import (
    KINDS,
    action_space,
    from_action,
    observation_space,
    to_action,
)
from harmgym.errors import ActionError, InputError
from harmgym.text import clean, is_clean


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=200)
def test_every_sample_is_a_valid_action(seed: int) -> None:
    space = action_space()
    space.seed(seed)
    element = space.sample()
    assert element in space
    action = to_action(element)
    assert why_not(action) is None
    index, fields = from_action(action)
    assert (index, fields) == element
    if action.type == "key":
        assert parse_chord(action.keys)


@given(ACTIONS)
def test_every_action_goes_round(action: Action) -> None:
    element = from_action(action)
    assert element in action_space()
    assert to_action(element) == action


def test_each_type_has_its_place() -> None:
    space = action_space()
    assert KINDS == tuple(actions.ACTION_CLASSES)
    for kind, part in zip(KINDS, space.spaces, strict=True):
        assert isinstance(part, spaces.Dict)
        assert set(part.keys()) == set(actions.ACTION_CLASSES[kind].model_fields) - {"type"}


@pytest.mark.parametrize(
    "element", [None, 3, (99, {}), (-1, {}), (0,), (0, 5), (0, {"txt": "a"}), (3, {"x": 1})]
)
def test_what_is_no_element_is_refused(element: object) -> None:
    with pytest.raises(ActionError):
        to_action(element)


@pytest.mark.parametrize(
    ("action", "word"),
    [
        (actions.TypeText(text="a\x00b"), "U+0000"),
        (actions.Message(text="bell \x07"), "U+0007"),
        (actions.Key(keys="ctrl+retrun"), "retrun"),
    ],
)
def test_what_no_machine_can_do_is_named(action: Action, word: str) -> None:
    with pytest.raises(ActionError, match=word.replace("+", r"\+")):
        from_action(action)


def test_sampling_is_repeatable_and_short() -> None:
    one, two = action_space(), action_space()
    one.seed(7)
    two.seed(7)
    for _ in range(50):
        a, b = to_action(one.sample()), to_action(two.sample())
        assert a == b
        assert getattr(a, "seconds", 0.0) <= 1.0
        assert getattr(a, "timeout_s", 0.0) <= 5.0


def test_observation_parts() -> None:
    assert set(observation_space().keys()) == {"screenshot", "terminal", "instruction"}
    space = observation_space(("terminal", "instruction"))
    assert {"terminal": "user@host:~$ echo 'ü → 漢字'\n\tok", "instruction": "Guten Tag"} in space
    assert {"terminal": "\x1b[31m", "instruction": ""} not in space
    assert space.sample() in space
    with pytest.raises(InputError, match="did you mean 'terminal'"):
        observation_space(("terminall",))
    with pytest.raises(InputError, match="found none"):
        observation_space(())


@given(st.text(max_size=100))
def test_cleaned_text_is_within_the_space(text: str) -> None:
    cleaned = clean(text, 16000)
    assert {"terminal": cleaned} in observation_space(("terminal",))
    assert len(cleaned) == len(text)
    assert is_clean(text) or cleaned != text


def test_long_text_is_cut_with_a_mark() -> None:
    assert clean("x" * 20000, 16000).endswith("\n…")
    assert len(clean("x" * 20000, 16000)) == 16000
    assert actions.Shell(command="x" * MAX_TEXT)


def test_spaces_copy_pickle_and_compare() -> None:
    for space in (action_space(), observation_space()):
        assert copy.deepcopy(space) == space == pickle.loads(pickle.dumps(space))
    assert observation_space(("terminal",)) != observation_space(("screenshot",))


def test_a_screenshot_of_another_shape_is_refused() -> None:
    space = observation_space(("screenshot",))
    assert {"screenshot": np.zeros((800, 1280, 3), np.uint8)} in space
    assert {"screenshot": np.zeros((600, 800, 3), np.uint8)} not in space
