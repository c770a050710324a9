"""The model as a file and as an object: exact round trip, refusal of everything foreign, scores
that add up.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from reward_fixture import made_model, make_corpus

from harmgym.errors import JudgmentError, ModelError
from harmgym.preferences.explain import bars, explain_pair, explain_score, save_bars
from harmgym.reward.model import PreferenceModel
from harmgym.reward.storage import load, read_tensors, save, write_tensors
from harmgym.tasks.rubric import ATTRIBUTES, Attributes, as_vector

CONTEXT = {"severe": True, "public": True}


def header(text: str) -> bytes:
    """The head of a safetensors file."""
    return len(text).to_bytes(8, "little") + text.encode()


@pytest.fixture(scope="module")
def model() -> PreferenceModel:
    return made_model()


@pytest.fixture
def folder(model: PreferenceModel, tmp_path: Path) -> Path:
    save(model, tmp_path / "model")
    return tmp_path / "model"


def levels(**changes: float) -> Attributes:
    return Attributes(**{**dict.fromkeys(ATTRIBUTES, 3.0), **changes})


def test_a_model_comes_back_exactly(model: PreferenceModel, folder: Path) -> None:
    back = load(folder)
    assert back.digest == model.digest
    assert np.array_equal(back.w, model.w) and np.array_equal(back.members_u, model.members_u)
    plan = "Stop the job at once, restore the file and tell the team."
    assert back.score_plan(CONTEXT, plan) == model.score_plan(CONTEXT, plan)


def test_a_pickle_is_never_loaded(folder: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelError, match="not a safetensors file"):
        load(folder)
    assert not (tmp_path / "sprung").exists()


def change(folder: Path, **changes: object) -> None:
    file = folder / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_another_format_version_is_refused(folder: Path) -> None:
    change(folder, format=99)
    with pytest.raises(ModelError, match="needed a model of format 1, found format 99"):
        load(folder)


def test_numbers_of_another_model_are_refused(folder: Path) -> None:
    change(folder, tensors_sha256="0" * 64)
    with pytest.raises(ModelError, match="does not belong to model.json"):
        load(folder)


def test_another_lexicon_is_refused(folder: Path) -> None:
    change(folder, lexicon="0" * 64)
    with pytest.raises(ModelError, match="another lexicon"):
        load(folder)


def test_missing_and_damaged_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="file not found"):
        load(tmp_path / "nothing")
    raw = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ModelError, match="damaged"):
        load(folder)


def test_tensors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"w": np.array([1.0, np.nan])})
    with pytest.raises(ModelError, match="not finite"):
        read_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a safetensors file"),
        (b"\xff" * 64, "not a safetensors file"),
        (b"\x02\0\0\0\0\0\0\0[]", "not a safetensors file"),
        (header('{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}') + b"\0" * 4, "damaged"),
        (header('{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}') + b"\0" * 9, "damaged"),
        (header('{"w":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}') + b"\0" * 8, "int64"),
        (header('{"w":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}') + b"\0" * 2, "x.safe"),
    ],
)
def test_numbers_that_are_damaged_or_of_another_kind_are_refused(
    tmp_path: Path, content: bytes, says: str
) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_tensors(tmp_path / "x.safetensors")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_an_array_in_another_memory_order_comes_back_as_it_was(tmp_path: Path) -> None:
    turned = np.arange(6.0).reshape(2, 3).T
    write_tensors(tmp_path / "x.safetensors", {"x": turned})
    assert np.array_equal(read_tensors(tmp_path / "x.safetensors")["x"], turned)


def test_terms_add_up_and_the_bound_is_below(model: PreferenceModel) -> None:
    score = model.score_recovery(CONTEXT, levels(speed=5, focus=1))
    assert sum(score.terms.values()) == pytest.approx(score.value)
    assert score.lower <= score.value + score.sd and score.sd > 0 and score.measured
    assert score.terms["speed"] == pytest.approx(2 * score.weights["speed"])
    assert model.score_recovery(CONTEXT, levels()).value == pytest.approx(0)


def test_preference_turns_round(model: PreferenceModel) -> None:
    one, other = levels(speed=5), levels(focus=5, autonomy=1)
    there, back = model.prefer(CONTEXT, one, other), model.prefer(CONTEXT, other, one)
    assert there.probability + back.probability == pytest.approx(1)
    assert there.lower <= there.probability and back.lower <= back.probability
    assert model.prefer(CONTEXT, one, one).probability == pytest.approx(0.5)


def test_the_context_changes_the_weights(model: PreferenceModel) -> None:
    calm = model.score_recovery({}, levels(speed=5))
    rushed = model.score_recovery(["time_pressure"], levels(speed=5))
    assert calm.weights["speed"] != rushed.weights["speed"]


@pytest.mark.parametrize(
    ("context", "attributes", "says"),
    [
        ({"sever": True}, levels(), "did you mean 'severe'"),
        ({}, {"speed": 3}, "comprehensiveness, focus"),
        ({}, {**dict.fromkeys(ATTRIBUTES, 3), "sped": 3}, "did you mean 'speed'"),
        (
            {},
            {**dict.fromkeys(ATTRIBUTES, 3), "focus": float("nan")},
            "focus to be a number from 1 to 5",
        ),
        ({}, {**dict.fromkeys(ATTRIBUTES, 3), "focus": 5.5}, "found 5.5"),
        ({}, np.zeros(7), "shape"),
    ],
)
def test_bad_input_is_named(
    model: PreferenceModel, context: object, attributes: object, says: str
) -> None:
    with pytest.raises(JudgmentError) as caught:
        model.score_recovery(context, attributes)
    assert says in str(caught.value)


def test_any_record_with_the_eight_fields_will_do() -> None:
    assert np.array_equal(as_vector(levels(speed=4)), as_vector(levels(speed=4).model_dump()))


def test_a_plan_has_to_say_something(model: PreferenceModel) -> None:
    with pytest.raises(JudgmentError, match="plan as text or actions"):
        model.score_plan({}, "  ")
    assert not model.score_plan(
        {}, "", actions=[{"type": "shell", "command": "systemctl stop miner"}]
    ).measured


def test_plans_are_ranked_best_first(model: PreferenceModel) -> None:
    ranked = model.rank_plans(
        CONTEXT, ["Wipe everything and rebuild.", "Remove the one line.", "Ask the owner first."]
    )
    assert sorted(at for at, _ in ranked) == [0, 1, 2]
    assert [score.value for _, score in ranked] == sorted(
        (score.value for _, score in ranked), reverse=True
    )


def test_scoring_is_quick_and_needs_no_torch(folder: Path) -> None:
    code = f"""
import sys, time
for name in ("torch", "scipy", "statsmodels", "matplotlib", "transformers"):
    sys.modules[name] = None
start = time.process_time()
from pathlib import Path
from harmgym.reward.storage import load
model = load(Path({str(folder)!r}))
loaded = time.process_time()
said = "Stop the job at once, restore the file and tell the team. " * 8
plans = [said + str(at) for at in range(10)]
model.rank_plans({{"severe": True}}, plans)
print(loaded - start, time.process_time() - loaded)
"""
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    times = np.array([[float(value) for value in run.stdout.split()] for run in runs]).min(axis=0)
    assert times[0] < 1.0, "seconds of processor time to load, imports included"
    assert times[1] < 0.15, "seconds of processor time for ten plans"


def test_an_explanation_names_the_dimension_that_moved_most(
    model: PreferenceModel, tmp_path: Path
) -> None:
    found = explain_pair(model, CONTEXT, levels(speed=5), levels(speed=1, success=3.5))
    assert next(iter(found.terms)) == "speed"
    assert (
        "speed moved it most" in found.sentence and "4.0 points above the second" in found.sentence
    )
    assert "severe, public" in found.sentence
    expected = model.prefer(CONTEXT, levels(speed=5), levels(speed=1, success=3.5)).terms
    assert found.terms == pytest.approx(expected)
    assert "speed" in bars(found).splitlines()[0]
    save_bars(found, tmp_path / "bars.png")
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_moved_when_nothing_differs(model: PreferenceModel) -> None:
    score = model.score_recovery({}, levels())
    assert "no dimension differs" in explain_score(model, {}, score).sentence


def test_the_fixture_has_two_splits() -> None:
    corpus = make_corpus(8)
    assert len(corpus.split("train").scenarios) + len(corpus.split("heldout").scenarios) == 8
