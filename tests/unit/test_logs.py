"""What takes long is said: on the logger from one second, as a warning from five."""

from __future__ import annotations

import logging
import threading

import pytest

from harmgym import logs
from harmgym.logs import announced


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "NOTE_S", 0.05)
    monkeypatch.setattr(logs, "WARN_S", 0.1)


def waited(caplog: pytest.LogCaptureFixture, count: int) -> None:
    """Until so many lines were logged; the deadline is for a broken logger only."""
    seen, done = threading.Event(), 100
    while len(caplog.records) < count and done:
        seen.wait(0.05)
        done -= 1


def test_a_quick_thing_is_not_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "harmgym"), announced("nothing"):
        pass
    assert not caplog.records


def test_a_slow_thing_is_announced_while_it_lasts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shorten(monkeypatch)
    with caplog.at_level(logging.INFO, "harmgym"):
        with announced("setting up a state", "done once"):
            waited(caplog, 2)
            levels = [record.levelno for record in caplog.records]
            assert levels == [logging.INFO, logging.WARNING]
            assert caplog.records[1].getMessage() == "setting up a state takes a while: done once"
    assert "took" in caplog.records[-1].getMessage()


def test_it_is_said_also_when_it_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shorten(monkeypatch)
    with caplog.at_level(logging.INFO, "harmgym"), pytest.raises(ValueError):
        with announced("setting up"):
            waited(caplog, 2)
            raise ValueError
    assert len(caplog.records) == 3
