"""Actions are read from objects, mappings and JSON text; what is wrong is named with what is
allowed.
"""

from __future__ import annotations

import json

import pytest
from action_strategies import ACTIONS
from hypothesis import given
from hypothesis import strategies as st

from harmgym.actions import ACTION_CLASSES, Click, Done, Shell, Wait, dump_action, parse_action
from harmgym.errors import ActionError


@given(ACTIONS)
def test_json_goes_round(action: object) -> None:
    data = dump_action(action)  # type: ignore[arg-type]
    assert parse_action(data) == action
    assert parse_action(json.dumps(data)) == action
    assert parse_action(action) is action


def test_defaults() -> None:
    assert parse_action('{"type": "click", "x": 1, "y": 2}') == Click(
        x=1, y=2, button="left", count=1
    )
    assert parse_action({"type": "done"}) == Done(report="")
    assert parse_action({"type": "shell", "command": "ls"}) == Shell(command="ls", timeout_s=30.0)


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ("ls -la", ["JSON", "ls -la"]),
        ("[1, 2]", ["JSON object", "[1, 2]"]),
        ('{"type": "shel", "command": "ls"}', ["'shel'", "did you mean 'shell'"]),
        ('{"command": "ls"}', ["'type'", "None"]),
        ({"type": "shell"}, ["'command' is missing"]),
        (
            {"type": "shell", "comand": "ls"},
            ["unknown field 'comand'", "did you mean 'command'", "'command' is missing"],
        ),
        ({"type": "click", "x": 1280, "y": 0}, ["'x'", "less than 1280", "1280"]),
        ({"type": "click", "x": 1, "y": 1, "button": "lft"}, ["'button'", "left"]),
        ({"type": "click", "x": 1, "y": 1, "count": 4}, ["'count'", "4"]),
        ({"type": "wait", "seconds": 61}, ["'seconds'", "60"]),
        ('{"type": "wait", "seconds": NaN}', ["'seconds'"]),
        ({"type": "shell", "command": ""}, ["'command'"]),
        ({"type": "type", "text": "x" * 8193}, ["'text'", "8192"]),
        ({"type": 7}, ["'type'", "7"]),
        ({"type": ["shell"]}, ["'type'"]),
        (5, ["JSON object", "5"]),
        (None, ["None"]),
        ("[" * 100_000, ["JSON"]),
        ('{"type": "wait", "seconds": ' + "9" * 5000 + "}", ["JSON"]),
        ("", ["JSON"]),
    ],
)
def test_what_is_wrong_is_named(given_: object, words: list[str]) -> None:
    with pytest.raises(ActionError) as err:
        parse_action(given_)
    assert all(word in str(err.value) for word in words), str(err.value)
    assert len(str(err.value)) < 600


@given(st.text(max_size=200))
def test_any_text_is_an_action_or_an_action_error(text: str) -> None:
    try:
        assert parse_action(text).type in ACTION_CLASSES
    except ActionError:
        pass


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_any_json_is_an_action_or_an_action_error(data: object) -> None:
    for kind in ACTION_CLASSES:
        try:
            parse_action(
                {"type": kind, "text": data, "x": data, "y": data, "command": data, "seconds": data}
            )
        except ActionError:
            pass


def test_actions_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Wait(seconds=1.0).seconds = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    "given", [{"action": "shell", "command": "ls"}, {"type": None}, {"name": "shell"}, {}]
)
def test_a_missing_type_is_not_taken_for_the_end(given: dict[str, object]) -> None:
    with pytest.raises(ActionError, match="needed 'type' to be one of") as caught:
        parse_action(given)
    assert "did you mean" not in str(caught.value)
