"""The library of attacks as data: every state has enough of them, their templates fill, and a
broken one is refused with a sentence.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from statistics import median

import pytest

from harmgym.actions import Done, Shell
from harmgym.errors import TaskError
from harmgym.judging.attacks import library
from harmgym.judging.attacks.library import (
    AUDITS,
    Attack,
    AttackFile,
    actions_of,
    fields_of,
    load_attacks,
    report_of,
    slots_of,
)
from harmgym.records import parse_record
from harmgym.tasks.catalogue import list_tasks, load_task
from harmgym.tasks.task import Task
from harmgym.tasks.templates import render

TASKS = list_tasks()
HOME = "security/home_world_writable"


def row(**more: object) -> Attack:
    keys = {"attack": "a", "class": "logic", "kind": "k", "what": "w", "alive": "true", **more}
    return parse_record(keys, Attack, "row")


def home() -> tuple[Task, dict[str, object]]:
    """A state whose layout is a function of the variant alone."""
    task = load_task(HOME)
    module = task._module("setup", "setup")
    return task, {**module.layout(task.variant()), "modes": {}}


def test_every_state_has_sixty_attacks_and_more_of_all_kinds() -> None:
    counts = {task: len(load_attacks(load_task(task))) for task in TASKS}
    assert median(counts.values()) >= 60 and min(counts.values()) >= 60, counts
    for task in TASKS:
        found = load_attacks(load_task(task))
        assert {attack.audit for attack in found} == set(AUDITS), task
        assert len({attack.attack for attack in found}) == len(found)


def test_every_state_says_what_harm_would_come_back() -> None:
    common = slots_of(Task(id="x/y", folder=Path("/nowhere"), spec=load_task(HOME).spec))
    for task in TASKS:
        words = slots_of(load_task(task))
        assert words["harm"] != common["harm"] and words["victim"] != common["victim"], task


def test_all_scripts_of_a_state_fill_and_are_shell() -> None:
    task, meta = home()
    variant = task.variant()
    for attack in load_attacks(task):
        base, own, probe = actions_of(attack, task, variant, meta)
        assert not any(isinstance(action, Done) for action in [*base, *own])
        assert report_of(attack, task, variant, meta)
        scripts = [probe]
        fields = fields_of(task, variant, meta)
        for step in attack.own_steps():
            scripts += [render(step[k], fields, "") for k in ("user", "root") if k in step]
        for script in scripts:
            done = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True)
            assert done.returncode == 0, (attack.attack, done.stderr)


def test_a_script_reaches_the_shell_as_it_is_written(tmp_path: Path) -> None:
    task, meta = home()
    target = tmp_path / "out"
    script = f"""printf '%s\\n' "it's" 'a "b"' '$HOME' '{{{{ project.folder }}}}' > {target}"""
    _, own, _ = actions_of(row(after="nothing", user=script), task, task.variant(), meta)
    assert isinstance(own[0], Shell)
    subprocess.run(["bash", "-c", own[0].command], check=True)
    folder = task.variant()["project"]["folder"]
    assert target.read_text() == f'it\'s\na "b"\n$HOME\n{folder}\n'


def test_root_is_asked_for_by_password_and_nothing_else() -> None:
    task, meta = home()
    _, own, _ = actions_of(row(after="nothing", root="id"), task, task.variant(), meta)
    assert isinstance(own[0], Shell) and own[0].command.startswith("echo password | sudo -S ")


def test_the_line_that_does_harm_again_has_no_quotes() -> None:
    task, meta = home()
    again = str(fields_of(task, task.variant(), meta)["again"])
    assert not set("'\"$%\\\n") & set(again) and again.endswith("| sh")
    shown = subprocess.run(["sh", "-c", again[: -len("| sh")]], capture_output=True, text=True)
    assert shown.stdout == slots_of(task)["harm"]


@pytest.mark.parametrize(
    ("after", "is_played"),
    [("reference", True), ("nothing", False), ("first", True), ("fake", True), ("worse", True)],
)
def test_what_comes_first_is_the_plan_without_its_end(after: str, is_played: bool) -> None:
    task, meta = home()
    base, own, _ = actions_of(row(after=after, user="true"), task, task.variant(), meta)
    assert bool(base) == is_played and len(own) == 1
    if after == "first":
        plan = task.plan("reference").actions(task.variant(), meta)
        assert base == [action for action in plan if action.type == "shell"][:1]
    elif is_played:
        assert base == task.plan(after).actions(task.variant(), meta)[:-1]


def test_steps_come_before_the_plan_and_after_it_in_order() -> None:
    task, meta = home()
    attack = row(
        before=[{"user": "one"}], user="two", steps=[{"type": "wait", "seconds": 1}], after="first"
    )
    base, own, _ = actions_of(attack, task, task.variant(), meta)
    assert len(base) == 2 and [action.type for action in own] == ["shell", "wait"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"class": "logics"}, "class"),
        ({"attack": "With Spaces"}, "attack"),
        ({"after": "referenz"}, "after"),
        ({"alive": ""}, "alive"),
        ({"aliv": "true"}, "unknown key 'attacks.0.aliv'"),
    ],
)
def test_a_broken_row_is_refused_with_its_key(keys: dict[str, object], said: str) -> None:
    given = {"attack": "a", "class": "logic", "kind": "k", "what": "w", "alive": "true", **keys}
    with pytest.raises(TaskError, match=said):
        parse_record({"attacks": [given]}, AttackFile, "file", TaskError)


def test_an_unknown_field_is_named_with_its_attack() -> None:
    task, meta = home()
    with pytest.raises(TaskError, match="attack 'a' on security.*nosuch"):
        actions_of(row(user="{{ nosuch }}"), task, task.variant(), meta)


def test_a_step_of_neither_user_nor_root_is_refused() -> None:
    task, meta = home()
    with pytest.raises(TaskError, match="expected a step of 'user' or 'root'"):
        actions_of(row(steps=[{"rot": "id"}]), task, task.variant(), meta)


def test_attacks_go_only_where_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slots.yaml").write_text("slots: {harm: x, survivor: y, app_unit: ''}\n")
    common = "class: logic, kind: k, what: w, alive: 'true'"
    (tmp_path / "some.yaml").write_text(
        f"attacks:\n- {{attack: everywhere, {common}}}\n"
        f"- {{attack: elsewhere, for: ['misuse/*'], {common}}}\n"
        f"- {{attack: with_app, needs: [app_unit], {common}}}\n"
    )
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    generic = [a.attack for a in load_attacks(load_task(HOME)) if a.kind == "k"]
    assert generic == ["everywhere"]
    mail = [a.attack for a in load_attacks(load_task("misuse/smear_mail_blast")) if a.kind == "k"]
    assert mail == ["everywhere", "elsewhere", "with_app"]


def test_two_attacks_of_one_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slots.yaml").write_text("slots: {}\n")
    line = "- {attack: key_exchanged, class: logic, kind: k, what: w, alive: 'true'}\n"
    (tmp_path / "some.yaml").write_text(f"attacks:\n{line}")
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    with pytest.raises(TaskError, match="different names, found 'key_exchanged' twice"):
        load_attacks(load_task(HOME))


def test_the_digest_of_an_attack_changes_with_its_words() -> None:
    assert row(user="a").digest == row(user="a").digest != row(user="b").digest
