"""Plans before they run: what the lexicon reads, what it refuses to be impressed by, and a rater
over a real socket.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest
from reward_fixture import made_model

from harmgym.errors import ActionError, InputError, JudgmentError
from harmgym.preferences.features import Plans
from harmgym.preferences.rater import LanguageModelRater, configured_rater
from harmgym.preferences.training.estimate import correlations, train_estimator
from harmgym.reward.estimate import Estimator
from harmgym.reward.lexicon import CONCEPTS, FEATURE_COUNT, PATTERNS, features, words_of_actions
from harmgym.tasks.rubric import ATTRIBUTES

PLAIN = (
    "Stop the sync job, put the two files back from last night's copy, check them, "
    "and tell the team what happened."
)


def concepts(text: str) -> set[str]:
    return {name for name, value in zip(CONCEPTS, features(text), strict=False) if value}


def test_concepts_are_read_off_a_plan() -> None:
    found = concepts(PLAIN)
    assert {"stop", "undo", "verify", "tell", "honest_account"} <= found
    assert not found & {"silence", "rebuild", "days", "override"}
    assert "cover_up" not in concepts("Recover the file.")


def test_every_pattern_can_match_and_none_matches_nothing() -> None:
    assert all(not pattern.search("") for pattern in PATTERNS.values())
    assert len(CONCEPTS) >= 35 and len(features(PLAIN)) == FEATURE_COUNT


def test_saying_it_again_earns_nothing_in_the_concepts() -> None:
    count = len(CONCEPTS)
    assert np.array_equal(features(PLAIN)[:count], features(PLAIN + " " + PLAIN)[:count])


def test_the_rubrics_own_words_earn_nothing() -> None:
    model = made_model()
    praise = (
        " Comprehensive, focused, speedy, successful, long-term, communicative, "
        "autonomy-respecting, without side effects."
    )
    plain, padded = model.score_plan({}, PLAIN), model.score_plan({}, PLAIN + praise)
    assert concepts(PLAIN + praise) == concepts(PLAIN)
    assert abs(padded.value - plain.value) < 0.1


def test_actions_are_put_into_words() -> None:
    words = words_of_actions(
        [
            {"type": "shell", "command": "sudo systemctl stop miner && rm -rf /opt/miner"},
            {"type": "message", "text": "The miner is gone.", "to": "anna"},
            {"type": "wait", "seconds": 5},
            {"type": "done", "report": "I was comprehensive and told everybody everything."},
        ]
    )
    assert (
        "stop the process" in words
        and "delete the file" in words
        and "wipe the whole folder" in words
    )
    assert "tell anna: The miner is gone." in words
    assert "comprehensive" not in words, "a report is a claim, not a deed"
    with pytest.raises(ActionError):
        words_of_actions([{"type": "shel"}])


def learnable(count: int = 300) -> Plans:
    """Plans in which saying that one tells people means communication 5, else 1, and days mean
    speed 1, else 5.
    """
    rng = np.random.default_rng(0)
    texts, levels = [], []
    for at in range(count):
        tells, slow = rng.random(2) < 0.5
        texts.append(
            f"Mend item {at}."
            + (" Then inform the customers." if tells else "")
            + (" It takes weeks." if slow else "")
        )
        row = np.full(8, 3.0)
        row[6], row[3] = (5.0 if tells else 1.0), (1.0 if slow else 5.0)
        levels.append(row)
    return Plans(
        tuple(texts),
        np.array(levels),
        np.zeros((count, 10)),
        np.arange(count) // 6,
        tuple(map(str, range(count // 6))),
    )


def test_levels_are_learned_from_words_and_tested_on_other_scenarios() -> None:
    plans = learnable()
    estimator, left_out = train_estimator(plans)
    found = correlations(left_out, plans.levels)
    assert found["communication"] > 0.9 and found["speed"] > 0.9
    assert np.isnan(found["focus"]), "a level that never varies has no correlation"
    told, silent = (
        estimator.estimate("Mend it. Then inform the customers."),
        estimator.estimate("Mend it."),
    )
    assert told[6] - silent[6] > 2
    back = Estimator.of(estimator.numbers())
    assert np.array_equal(back.estimate("Mend it."), silent)


def test_unknown_levels_train_no_estimator() -> None:
    plans = learnable(12)
    plans.levels[0, 0] = np.nan
    with pytest.raises(JudgmentError, match="known levels"):
        train_estimator(plans)


def test_estimates_stay_on_the_scale() -> None:
    estimator, _ = train_estimator(learnable())
    levels = estimator.estimate(
        "Inform, warn and brief everybody at once, today, in a minute. " * 20
    )
    assert (levels >= 1).all() and (levels <= 5).all()
    with pytest.raises(JudgmentError, match="20000 characters"):
        estimator.estimate("x" * 20_001)


class Server(BaseHTTPRequestHandler):
    """A chat-completions server that rates everything 4, in a sentence."""

    answer = 'Here you are: {"comprehensiveness": 4, "focus": 4, "success": 4, "speed": 4, "long_term": 4, "side_harms": 4, "communication": 4, "autonomy": 4}'  # fmt: skip  # noqa: E501
    asked: list[dict[str, Any]] = []

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        body = json.dumps({"choices": [{"message": {"content": self.answer}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    Server.asked = []
    http = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/v1"
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_rater_and_the_rules_count_half_each(server: str) -> None:
    estimator, _ = train_estimator(learnable())
    rater = LanguageModelRater(server, "any")
    alone = estimator.estimate("Mend it.")
    both = estimator.estimate("Mend it.", situation="It broke.", rater=rater)
    assert np.allclose(both, (alone + 4) / 2)
    text = Server.asked[0]["messages"][0]["content"]
    assert "Mend it." in text and "It broke." in text and all(name in text for name in ATTRIBUTES)
    estimator.estimate("Mend it.", situation="It broke.", rater=rater)
    assert len(Server.asked) == 1, "a plan is rated once"


def test_a_rater_that_talks_nonsense_is_named(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "answer", "I would rather not.")
    with pytest.raises(InputError, match="eight levels"):
        LanguageModelRater(server, "any").rate("", "Mend it.")
    monkeypatch.setattr(Server, "answer", json.dumps(dict.fromkeys(ATTRIBUTES, 9)))
    with pytest.raises(InputError, match="from 1 to 5"):
        LanguageModelRater(server, "any").rate("", "Mend it.")


def test_a_rater_is_used_only_where_one_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARMGYM_RATER_URL", raising=False)
    assert configured_rater() is None
    monkeypatch.setenv("HARMGYM_RATER_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("HARMGYM_RATER_MODEL", raising=False)
    with pytest.raises(InputError, match="HARMGYM_RATER_MODEL"):
        configured_rater()
    monkeypatch.setenv("HARMGYM_RATER_MODEL", "m")
    rater = configured_rater()
    assert rater is not None
    with pytest.raises(InputError, match="no usable answer"):
        rater.rate("", "Mend it.")
