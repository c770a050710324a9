"""Run folders: whole episodes only, refusals that lose nothing, and records that read back as
written.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import sample_run
from PIL import Image

from harmgym.errors import RunError
from harmgym.runs.folder import (
    FinishedEpisode,
    RunFolder,
    StepLine,
    episode_folders,
    read_episode,
    read_info,
    read_steps,
    read_verdict,
)


def test_an_episode_reads_back_as_it_was_written(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", sample_run.info()) as run:
        folder = sample_run.add_episode(run)
    steps = read_steps(folder)
    assert [step.index for step in steps] == [0, 1, 2, 3, 4, 5]
    assert (
        steps[1].action == sample_run.ACTIONS[0]
        and steps[2].error == "window not found"
        and not steps[2].ok
    )
    assert read_episode(folder).title == "Hidden miner with persistence"
    verdict = read_verdict(folder)
    assert verdict is not None and verdict.safe
    with Image.open(folder / steps[3].screenshot) as picture:
        assert picture.size == (1280, 800) and picture.format == "WEBP"


def test_pictures_show_what_was_on_the_screen(tmp_path: Path) -> None:
    import numpy as np

    screen = sample_run.screen("hello")
    with RunFolder.create(tmp_path / "run", sample_run.info()) as run:
        writer = run.start_episode()
        writer.step(StepLine(index=0, t_s=0.0), screen)
        folder = writer.finish(
            FinishedEpisode(index=0, task="a/b", title="t", agent="x", seed=0), None
        )
    with Image.open(folder / "step-000.webp") as picture:
        difference = np.abs(np.asarray(picture.convert("RGB")).astype(int) - screen).mean()
    assert difference < 6


def test_an_interrupted_episode_leaves_the_finished_ones(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with RunFolder.create(path, sample_run.info()) as run:
        sample_run.add_episode(run)
    (path / "episodes" / "001.partial").mkdir()  # as a kill -9 leaves it
    (path / "episodes" / "001.partial" / "steps.jsonl").write_text('{"index": 0, "t_')
    assert [f.name for f in episode_folders(path)] == ["000"]
    with RunFolder.create(path, sample_run.info()) as again:
        assert not (path / "episodes" / "001.partial").exists()
        assert len(again.episodes()) == 1
        assert again.start_episode().index == 1


def test_steps_are_on_disk_before_the_episode_ends(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", sample_run.info()) as run:
        writer = run.start_episode()
        writer.step(StepLine(index=0, t_s=0.0, terminal="first"), None)
        assert json.loads((writer.folder / "steps.jsonl").read_text())["terminal"] == "first"
        writer.abandon()
        assert not list((tmp_path / "run" / "episodes").iterdir())


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match=r"needed an empty or new folder.*--out"):
        RunFolder.create(tmp_path, sample_run.info())
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.tex"]


def test_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", sample_run.info()).__exit__()
    with pytest.raises(RunError, match=r"holds another run \(agent='reference', steps=15\)"):
        RunFolder.create(tmp_path / "run", sample_run.info(agent="nothing", steps=50))


def test_two_writers_do_not_share_a_run(tmp_path: Path) -> None:
    with (
        RunFolder.create(tmp_path / "run", sample_run.info()),
        pytest.raises(RunError, match="another process is writing"),
    ):
        RunFolder.create(tmp_path / "run", sample_run.info())


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(RunError, match="needed a folder for the run, found a file"):
        RunFolder.create(tmp_path / "run", sample_run.info())


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("run.json", "{", r"run.json: not valid JSON"),
        ("run.json", '{"format": 99}', r"needed format 1, found 99"),
        ("episodes/000/episode.json", '{"index": 0}', r"episode.json: key 'task' is missing"),
        (
            "episodes/000/steps.jsonl",
            '{"index": 0, "t_s": 0}\n{"t_ss": 2}\n',
            r"steps.jsonl:2: .*did you mean 't_s'",
        ),
    ],
)
def test_damage_is_named_with_its_file(tmp_path: Path, file: str, text: str, words: str) -> None:
    path = sample_run.make_run(tmp_path / "run")
    (path / file).write_text(text)
    with pytest.raises(RunError, match=words):
        read_info(path)
        folder = episode_folders(path)[0]
        read_episode(folder)
        read_steps(folder)


def test_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"needed a run folder with run.json, found none"):
        read_info(tmp_path)


def test_what_no_file_can_hold_does_not_end_a_run(tmp_path: Path) -> None:
    """Half a surrogate pair in whatever an agent said or a guest answered is written out, not lost;
    so is what JSON has no words for.
    """
    with RunFolder.create(tmp_path / "run", sample_run.info()) as run:
        writer = run.start_episode()
        said: dict[Any, Any] = {"type": "malformed", "text": "half a pair: \ud83d"}
        odd = {("a", 1): math.nan, "deep": nested(500), "\udce9": Unspeakable()}
        writer.step(StepLine(index=1, t_s=0.0).model_copy(update={"action": said}))
        writer.step(StepLine(index=2, t_s=0.0, terminal="two\x85lines"))
        writer.step(StepLine(index=3, t_s=0.0).model_copy(update={"shell": odd}))
        record = FinishedEpisode(index=0, task="a/b", title="t", agent="x", seed=0)
        folder = writer.finish(record.model_copy(update={"report": "caf\udce9"}), None)
    first, second, third = read_steps(folder)
    assert first.action == {"type": "malformed", "text": "half a pair: \\ud83d"}
    assert second.index == 2 and read_episode(folder).report == "caf\\udce9"
    assert third.shell is not None and third.shell["('a', 1)"] == "nan"
    assert "without a text" in third.shell["\\udce9"]


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize("content", ["[" * 100_000, '{"format": ' + "9" * 5000 + "}", "[]"])
def test_a_hostile_file_is_one_sentence(tmp_path: Path, content: str) -> None:
    path = sample_run.make_run(tmp_path / "run")
    (path / "run.json").write_text(content)
    (path / "episodes/000/verdict.json").write_text(content)
    with pytest.raises(RunError, match=r"run\.json: "):
        read_info(path)
    with pytest.raises(RunError, match=r"verdict\.json: "):
        read_verdict(path / "episodes/000")
