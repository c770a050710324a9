"""Hypothesis strategies for typed actions that a machine can carry out."""

from __future__ import annotations

from hypothesis import strategies as st

from harmgym import actions
from harmgym.actions import Action
from harmgym.actions.keys import CHARACTERS, KEY_NAMES
from harmgym.text import is_clean

X, Y = st.integers(0, 1279), st.integers(0, 799)
TYPED = st.text(st.sampled_from(sorted(CHARACTERS)), max_size=200)
TEXT = st.text(max_size=200).filter(is_clean)
BUTTON = st.sampled_from(["left", "middle", "right"])
CHORD = st.builds(
    lambda held, key: "+".join([*held, key]),
    st.lists(st.sampled_from(["ctrl", "alt", "shift", "super"]), unique=True),
    st.sampled_from(KEY_NAMES),
)
ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.builds(actions.TypeText, text=TYPED),
    st.builds(actions.Key, keys=CHORD),
    st.builds(actions.Move, x=X, y=Y),
    st.builds(actions.Click, x=X, y=Y, button=BUTTON, count=st.integers(1, 3)),
    st.builds(actions.Drag, x=X, y=Y, to_x=X, to_y=Y, button=BUTTON),
    st.builds(actions.Scroll, x=X, y=Y, dy=st.integers(-20, 20), dx=st.integers(-20, 20)),
    st.builds(
        actions.Shell, command=TEXT.filter(bool), timeout_s=st.floats(0, 120, exclude_min=True)
    ),
    st.builds(actions.Wait, seconds=st.floats(0, 60)),
    st.builds(actions.Message, text=TEXT.filter(bool), to=TEXT.map(lambda t: t[:100])),
    st.builds(actions.Done, report=TEXT),
)
