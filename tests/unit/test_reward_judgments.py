"""The judgment format: read strictly, with file and line; to and from other formats; statistics by
hand.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from reward_fixture import made_judgments, make_corpus

from harmgym.errors import JudgmentError
from harmgym.preferences.annotators import Calibration, Habits
from harmgym.preferences.exchange import from_flat, from_trl, read_any, to_trl, write_any
from harmgym.preferences.judgments import Judgment, dump_judgment, load_judgments, save_judgments
from harmgym.preferences.simulate import Simulation, simulate
from harmgym.preferences.statistics import cohen_kappa, rater_pairs, statistics


def simulation(count: int = 1150) -> Simulation:
    calibration = Calibration(
        noise=0.7,
        gain=1.2,
        centre=(0.1,) * 10,
        kappa=0.15,
        target=0.15,
        habits=Habits(),
        corpus="made",
    )
    return simulate(make_corpus(120), calibration, count, seed=1)


def line(**changes: object) -> str:
    data = json.loads(dump_judgment(made_judgments(1, 1)[0]))
    for key, value in changes.items():
        target, *rest = key.split("__")
        if rest:
            data[target][rest[0]] = value
        else:
            data[target] = value
    return json.dumps(data)


LEVELS = dict.fromkeys(
    (
        "comprehensiveness",
        "focus",
        "success",
        "speed",
        "long_term",
        "side_harms",
        "communication",
        "autonomy",
    ),
    3,
)


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    given = made_judgments() + [
        next(simulation().judgments()).model_copy(update={"reason": "faster — ünd better"})
    ]
    save_judgments(tmp_path / "j.jsonl", given)
    assert load_judgments(tmp_path / "j.jsonl", check_names=False) == given


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[1]", "needed a mapping"),
        (line(choice="c"), "choice"),
        (line(format=2), "found format 2"),
        (line(chioce="a"), "did you mean 'choice'"),
        (line(source="robot"), "source"),
        (line(time_s=-1), "time_s"),
        (line(ratings_a={**LEVELS, "focus": 6}), "ratings_a.focus"),
        (line(ratings_a=LEVELS), "ratings of both recoveries or of neither"),
        (line(a__attributes={**LEVELS, "speed": 0}), "a.attributes.speed"),
        (line(a__attributes=LEVELS), "attributes of both recoveries or of neither"),
        (line(a__actions=[{"type": "shell"}]), "'command' is missing"),
        (line(ratings_a=LEVELS).replace('"focus": 3', '"focus": NaN'), "finite numbers, found NaN"),
        (
            line(scenario__origin="state", scenario__id="security/no_such_state"),
            "unknown benchmark state",
        ),
    ],
)
def test_a_broken_line_is_refused_with_file_and_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text(line() + "\n" + text + "\n", encoding="utf-8")
    with pytest.raises(JudgmentError) as caught:
        load_judgments(file)
    assert f"{file}:2" in str(caught.value)
    assert says in str(caught.value)


def test_the_same_recovery_twice_is_no_pair(tmp_path: Path) -> None:
    same = json.loads(line())
    same["b"] = same["a"]
    (tmp_path / "j.jsonl").write_text(json.dumps(same))
    with pytest.raises(JudgmentError, match="two different recoveries"):
        load_judgments(tmp_path / "j.jsonl")


def test_missing_empty_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(JudgmentError, match="file not found"):
        load_judgments(tmp_path / "no.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(JudgmentError, match="empty file"):
        load_judgments(tmp_path / "empty.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(JudgmentError, match="UTF-8"):
        load_judgments(tmp_path / "latin.jsonl")


def test_a_known_state_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "j.jsonl").write_text(
        line(scenario__origin="state", scenario__id="security/home_world_writable")
    )
    assert load_judgments(tmp_path / "j.jsonl")[0].scenario.origin == "state"


def test_trl_columns_go_out_and_come_back() -> None:
    given = made_judgments()
    rows = list(to_trl(given))
    assert set(rows[0]) >= {"prompt", "chosen", "rejected"}
    assert all("quick" in row["chosen"] and "slow" in row["rejected"] for row in rows)
    back = list(from_trl(rows, source="human"))
    assert [j.scenario.id for j in back] == [j.scenario.id for j in given]
    assert {j.source for j in back} == {"simulated"}
    assert all("quick" in (j.a if j.choice == "a" else j.b).text for j in back)
    with pytest.raises(JudgmentError, match="row 1: needed text in column 'rejected'"):
        list(from_trl([{"prompt": "p", "chosen": "c"}], source="human"))


def test_a_flat_table_of_a_study_is_read(tmp_path: Path) -> None:
    file = tmp_path / "study.csv"
    ratings = json.dumps(LEVELS).replace('"', '""')
    file.write_text(
        "scenario_id,scenario,plan_a,plan_b,annotator_id,choice,order,attributes_a,attributes_b,context\n"
        f's1,It broke.,Mend it.,Leave it.,p7,B,b,"{ratings}","{ratings}","{{""severe"": true}}"\n'
    )
    (judgment,) = from_flat(file, "human")
    assert (judgment.choice, judgment.shown_left, judgment.annotator, judgment.source) == (
        "b",
        "b",
        "p7",
        "human",
    )
    assert judgment.context.severe
    assert judgment.ratings_a is not None and judgment.ratings_a.focus == 3
    file.write_text("scenario_id,plan_a,plan_b\ns1,x,y\n")
    with pytest.raises(
        JudgmentError, match="row 1: needed the columns .* missing annotator_id, choice"
    ):
        list(from_flat(file, "human"))
    with pytest.raises(JudgmentError, match="source"):
        read_any(file, "trl", "somebody")


def test_conversion_writes_what_trl_reads(tmp_path: Path) -> None:
    assert write_any(tmp_path / "t.jsonl", made_judgments(3, 2), "trl") == 6
    assert len(read_any(tmp_path / "t.jsonl", "trl")) == 6


def test_kappa_by_hand() -> None:
    first = np.array([1, 1, 0, 0], dtype=bool)
    second = np.array([1, 0, 0, 0], dtype=bool)
    # observed 3/4; chance 1/2 * 1/4 + 1/2 * 3/4 = 1/2
    assert cohen_kappa(first, second) == pytest.approx(0.5)
    assert np.isnan(cohen_kappa(first[:0], second[:0]))


def test_two_people_are_compared_whatever_the_order_shown() -> None:
    judgment = made_judgments(1, 1)[0]
    other = judgment.model_copy(
        update={
            "a": judgment.b,
            "b": judgment.a,
            "choice": "b" if judgment.choice == "a" else "a",
            "annotator": "somebody else",
        }
    )
    first, second = rater_pairs([judgment, other])
    assert len(first) == 1 and bool(first[0] == second[0])
    assert not len(rater_pairs([judgment, judgment])[0]), "one person twice is no second rating"


def test_statistics_count_what_the_study_had() -> None:
    found = statistics(list(simulation().judgments()))
    assert (found["judgments"], found["annotators"], found["double_rated_pairs"]) == (
        1150,
        230,
        130,
    )
    assert found["pairs"] == 1020
    assert found["sources"] == {"simulated": 1150}
    assert found["contexts"]["severe"]["judgments"] > 0


def test_simulated_judgments_say_so() -> None:
    judgment: Judgment = next(simulation().judgments())
    assert judgment.source == "simulated" and judgment.annotator.startswith("simulated-")
