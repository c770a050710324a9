"""The skeleton that ``harmgym tasks new`` writes, and the state that envs/README.md shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harmgym import paths
from harmgym.cli import app
from harmgym.cli.new_state import write_skeleton
from harmgym.disk import MemoryView, Node, diff
from harmgym.errors import TaskError
from harmgym.runs.validate import broken_promises
from harmgym.statekit.case import Case
from harmgym.statekit.checks import declared
from harmgym.statekit.findings import Facet
from harmgym.statekit.scene import GuestFile
from harmgym.tasks.catalogue import CATEGORIES, load_task
from harmgym.tasks.episode import Episode
from harmgym.tasks.task import REQUIRED_PLANS, Task


def nodes(files: list[GuestFile]) -> dict[str, Node]:
    return {file.path: Node((file.text or "").encode(), mode=file.mode) for file in files}


def made(task: Task, edits: dict[str, Node | None]) -> Case:
    """Return the case of variant 0, as its set-up says and then edited."""
    code, variant = task._module("setup", "setup"), task.variant(0)
    meta = code.layout(variant)
    before = nodes(code.files(meta))
    now = {path: node for path, node in {**before, **edits}.items() if node is not None}
    views = MemoryView(before), MemoryView(now)
    episode = Episode(variant=variant.values, meta=meta)
    return Case(*views, changes=diff(*views).changes, episode=episode)


def facets(task: Task, case: Case) -> dict[str, Facet]:
    return {one.name: one.look(case) for one in declared(task.checks, task.id).facets}


def test_a_new_state_loads_at_once_with_every_plan_that_is_needed(tmp_path: Path) -> None:
    asked = ["tasks", "new", "integrity", "diary_lost", "--envs", str(tmp_path)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    task = load_task("integrity/diary_lost", tmp_path)
    assert "diary lost" in task.title and set(REQUIRED_PLANS) <= set(task.plans())
    variant = task.variant(0)
    assert variant.values["owner"]["name"] in task.instruction(variant)
    case = made(task, {})
    assert not facets(task, case)["harm_gone"].cleared
    gone = made(task, {case.meta["harm"]: None})
    assert facets(task, gone)["harm_gone"].evidence == "the harmful file is gone"


def test_a_new_state_is_red_and_says_what_is_missing(tmp_path: Path) -> None:
    write_skeleton("integrity", "diary_lost", tmp_path)
    task = load_task("integrity/diary_lost", tmp_path)
    found = {name: one.cleared for name, one in facets(task, made(task, {})).items()}
    for name, said in {
        "reference": "should end safe, but does not",
        "overreach": "should have side effects, but none was found",
        "worse": "should have side effects, but none was found",
    }.items():
        plan = task.plan(name)
        assert len(plan.actions(task.variant(0))) == 1, "there is nothing but done in it yet"
        assert said in broken_promises(plan, False, True, found)


@pytest.mark.parametrize(
    ("category", "name", "said"),
    [
        ("securty", "new_one", "did you mean 'security'"),
        ("security", "New-One", "small letters, digits and _"),
        ("security", "../new", "small letters, digits and _"),
        ("security", "taken", "security/taken exists already"),
    ],
)
def test_what_cannot_be_a_state_is_refused_and_nothing_is_written(
    tmp_path: Path, category: str, name: str, said: str
) -> None:
    kept = tmp_path / "security" / "taken" / "mine.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    with pytest.raises(TaskError, match=said):
        write_skeleton(category, name, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_every_category_takes_a_new_state(tmp_path: Path) -> None:
    for category in CATEGORIES:
        write_skeleton(category, "one", tmp_path)
        assert load_task(f"{category}/one", tmp_path).category == category


# The state in the README
@pytest.fixture
def shown(tmp_path: Path) -> Task:
    """The state that envs/README.md shows, written out as it stands there."""
    text = (paths.content("envs") / "README.md").read_text(encoding="utf-8")
    section = text.split("## One state in full")[1].split("\n## ")[0]
    blocks = re.findall(r"`([\w/.]+)`[^\n]*:\n\n```\w+\n(.*?)```", section, re.DOTALL)
    assert [name for name, _ in blocks] == [
        "integrity/list_cut_short/task.yaml",
        "setup.py",
        "checks.py",
        "plans/reference.yaml",
    ]
    folder = tmp_path / "integrity" / "list_cut_short"
    (folder / "plans").mkdir(parents=True)
    for name, body in blocks:
        (folder / name.removeprefix("integrity/list_cut_short/")).write_text(body)
    return load_task("integrity/list_cut_short", tmp_path)


def test_the_state_in_the_readme_sees_the_harm_and_both_ways_to_end(shown: Task) -> None:
    start = made(shown, {})
    assert {name for name, one in facets(shown, start).items() if one.cleared} == {
        "later_kept",
        "nothing_invented",
    }
    night, later = "".join(start.meta["night"]), start.meta["later"]
    right = made(shown, {start.meta["path"]: Node((night + later).encode())})
    assert all(one.cleared for one in facets(shown, right).values())
    rolled_back = facets(shown, made(shown, {start.meta["path"]: Node(night.encode())}))
    assert (
        not rolled_back["later_kept"].cleared
        and "none before noon" in rolled_back["later_kept"].evidence
    )
    invented = made(shown, {start.meta["path"]: Node((night + later + "bed 9: 1\n").encode())})
    assert not facets(shown, invented)["nothing_invented"].cleared
    (first, *_) = shown.plan("reference").actions(shown.variant(0), start.meta)
    assert start.meta["copy"] in str(first)
