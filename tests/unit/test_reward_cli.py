"""harmgym preference and harmgym judgments from the outside: what they print, write and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from reward_fixture import made_calibration, made_judgments, made_model, make_corpus
from typer.testing import CliRunner

from harmgym.cli import judgments as judgments_cli
from harmgym.cli import preference as preference_cli
from harmgym.errors import InputError, JudgmentError, ModelError
from harmgym.preferences import annotators, corpus
from harmgym.preferences.judgments import load_judgments, save_judgments
from harmgym.reward.storage import load, save
from harmgym.tasks.rubric import ATTRIBUTES

RUN = CliRunner()
PREFERENCE, JUDGMENTS = preference_cli.app, judgments_cli.app
LEVELS = json.dumps(dict.fromkeys(ATTRIBUTES, 4))


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_corpus(40)
    monkeypatch.setattr(corpus, "default_corpus", lambda: made)
    monkeypatch.setattr(annotators, "calibrate", made_calibration)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    save(made_model(400), place)
    return place


def ok(app: object, *words: str) -> str:
    result = RUN.invoke(app, list(words), catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("app", [PREFERENCE, JUDGMENTS])
def test_every_command_has_help_with_an_example(app: object) -> None:
    for command in app.registered_commands:  # type: ignore[attr-defined]
        assert "Example: harmgym" in (command.callback.__doc__ or "")


def test_simulated_judgments_are_written_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    said = ok(JUDGMENTS, "simulate", "--out", str(file), "--count", "200")
    assert "200 SIMULATED judgments by 40 simulated people" in said
    assert len(load_judgments(file, check_names=False)) == 200


def test_train_then_load_then_eval_on_a_file(tmp_path: Path) -> None:
    data = tmp_path / "labels.jsonl"
    judgments = made_judgments(12, 6)
    rated = [
        j.model_copy(
            update={
                "ratings_a": made_levels(j.choice == "a"),
                "ratings_b": made_levels(j.choice == "b"),
            }
        )
        for j in judgments
    ]
    save_judgments(data, rated[:-6] + [flip(j) for j in rated[-6:]])
    out = tmp_path / "mine"
    assert "simulated judgments" in ok(
        PREFERENCE, "train", "--judgments", str(data), "--out", str(out)
    )
    model = load(out)
    assert model.info.trained_on["file"] == "labels.jsonl" and model.info.source == "simulated"
    report = json.loads(
        ok(PREFERENCE, "eval", "--model", str(out), "--judgments", str(data), "--json")
    )
    assert {"accuracy", "ceiling", "ratio", "ece", "rows", "effects", "source"} <= set(report)
    assert report["accuracy"] > 0.8
    assert str(out / "card.md") in ok(
        PREFERENCE, "card", "--model", str(out), "--judgments", str(data)
    )
    assert "Main effects" in ok(PREFERENCE, "card", "--model", str(out), "--show")


def made_levels(good: bool) -> object:
    from harmgym.tasks.rubric import Attributes

    return Attributes(**{**dict.fromkeys(ATTRIBUTES, 3.0), "speed": 4.0 if good else 2.0})


def flip(judgment: object) -> object:
    return judgment.model_copy(update={"choice": "b" if judgment.choice == "a" else "a"})  # type: ignore[attr-defined]


def test_score_of_a_plan_and_of_a_recovery(folder: Path) -> None:
    plan = json.loads(
        ok(
            PREFERENCE,
            "score",
            "--model",
            str(folder),
            "--plan",
            "Stop it and tell them.",
            "--context",
            "severe",
            "--json",
        )
    )
    assert plan["measured"] is False and plan["digest"] == load(folder).digest
    ran = json.loads(
        ok(PREFERENCE, "score", "--model", str(folder), "--attributes", LEVELS, "--json")
    )
    assert ran["measured"] is True and ran["attributes"]["speed"] == 4
    assert "lower bound" in ok(PREFERENCE, "score", "--model", str(folder), "--attributes", LEVELS)


def test_explain_draws_and_compares(folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "bars.svg"
    said = ok(
        PREFERENCE,
        "explain",
        "--model",
        str(folder),
        "--attributes",
        LEVELS,
        "--picture",
        str(picture),
    )
    assert (
        "moved it most" in said and "│" in said and picture.read_text().lstrip().startswith("<?xml")
    )
    other = json.dumps({**json.loads(LEVELS), "speed": 1})
    assert "speed moved it most" in ok(
        PREFERENCE, "explain", "--model", str(folder), "--attributes", LEVELS, "--than", other
    )


def test_analyse_prints_both_tables(tmp_path: Path) -> None:
    file, picture = tmp_path / "s.jsonl", tmp_path / "a.png"
    ok(JUDGMENTS, "simulate", "--out", str(file), "--count", "300", "--split", "all")
    text = file.read_text().replace('"origin": "corpus"', '"origin": "own"')
    file.write_text(text)
    said = ok(JUDGMENTS, "analyse", str(file), "--picture", str(picture))
    assert (
        "300 simulated judgments" in said
        and "Conditional logistic regression" in said
        and "Moderation by topic" in said
    )
    assert picture.stat().st_size > 10_000
    assert "double rated" in ok(JUDGMENTS, "stats", str(file))
    assert (
        ok(JUDGMENTS, "convert", str(file), str(tmp_path / "t.jsonl"), "--to", "trl")
        .strip()
        .endswith("300 judgments")
    )


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (["score"], InputError, "either --plan"),
        (["score", "--attributes", "{"], JudgmentError, "not valid JSON"),
        (
            ["score", "--attributes", LEVELS, "--context", "sever"],
            JudgmentError,
            "did you mean 'severe'",
        ),
        (["score", "--attributes", LEVELS, "--model", "/no/such"], ModelError, "file not found"),
        (["eval", "--judgments", "/no/such.jsonl"], JudgmentError, "file not found"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    folder: Path, words: list[str], error: type[Exception], says: str
) -> None:
    given = words if "--model" in words else [*words, "--model", str(folder)]
    result = RUN.invoke(PREFERENCE, given)
    assert isinstance(result.exception, error) and says in str(result.exception)
