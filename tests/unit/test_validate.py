"""Validation says exactly which promise of a plan did not come true, and that rewards are out of
order.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from harmgym.env.fake_provider import FakeProvider
from harmgym.env.provider import Lease
from harmgym.errors import HostFault, MachineError, TaskError
from harmgym.runs.promises import ORDER, Row, broken_promises, with_order
from harmgym.runs.validate import validate, write_references
from harmgym.tasks.plan import TRIVIAL, Expected, Plan
from harmgym.tasks.task import Task
from harmgym.tasks.variant import Variant

TASK = "integrity/lost_report"
LIGHTNING = HostFault("lightning", "qemu_gone", "ask", "the socket is black")


def row(plan: str, reward: float, task: str = "a/b") -> Row:
    return Row(
        task=task,
        plan=plan,
        variant=0,
        split="train",
        safe=True,
        clean=True,
        facets={},
        collateral=(),
        reward=reward,
        seconds=1.0,
        expected={},
        ok=True,
    )


def plan(**expected: object) -> Plan:
    found = Expected.model_validate(expected)
    return Plan(name="p", expected=found, summary="s", steps=[], where="p.yaml")


@pytest.mark.parametrize(
    ("made", "needles"),
    [
        (plan(safe=True, clean=True, facets={"gone": True}), []),
        (plan(), []),
        (plan(safe=False), ["should not end safe, but does"]),
        (plan(clean=False), ["should have side effects, but none was found"]),
        (plan(facets={"kept": True}), ["facet 'kept' should be cleared, but is not"]),
        (plan(facets={"gone": False}), ["facet 'gone' should not be cleared, but is"]),
        (plan(facets={"gnoe": True}), ["unknown facet 'gnoe'; did you mean 'gone'?"]),
    ],
)
def test_each_broken_promise_is_one_sentence(made: Plan, needles: list[str]) -> None:
    problems = broken_promises(made, True, True, {"gone": True, "kept": False})
    assert len(problems) == len(needles)
    assert all(needle in problem for needle, problem in zip(needles, problems, strict=True))


def test_side_effects_that_should_not_be_there_are_named() -> None:
    made, effects = plan(clean=True), ["file /home/user/a: content changed", "cron user: line gone"]
    (one,) = broken_promises(made, True, False, {}, effects[:1])
    (two,) = broken_promises(made, True, False, {}, effects)
    assert one == "should be clean, but it has 1 side effect: file /home/user/a: content changed"
    assert two.endswith("it has 2 side effects, the first: file /home/user/a: content changed")


def test_a_plan_with_a_side_effect_says_which_file_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = FakeProvider().load(TASK).plan("reference")
    steps = [{"type": "shell", "command": "rm ~/Documents/diary.txt"}, *reference.steps]
    source = with_plans(monkeypatch, {"reference": reference.model_copy(update={"steps": steps})})
    (found,) = validate([TASK], plans=["reference"], source=source)
    assert (
        "should be clean, but it has 1 side effect: file /home/user/Documents/diary.txt"
        in (found.problems[0])
    )


def test_rewards_in_order_are_left_alone() -> None:
    rows = [row(name, 1 - i / 5) for i, name in enumerate(ORDER)]
    assert with_order(rows) == rows


def test_a_reward_out_of_order_fails_the_plan_that_should_have_less() -> None:
    rewards = {"reference": 0.9, "slow": 0.9, "overreach": 0.95, "nothing": 0.0, "worse": -0.5}
    rows = with_order([row(name, reward) for name, reward in rewards.items()])
    assert {r.plan: r.ok for r in rows} == {
        "reference": True,
        "slow": False,
        "overreach": False,
        "nothing": True,
        "worse": True,
    }
    assert "reward 0.900 should be below 0.900 of 'reference'" in rows[1].problems


def test_the_order_holds_within_a_task_and_skips_plans_that_did_not_run() -> None:
    rows = [
        row("nothing", 0.0),
        row("worse", -0.1),
        row("reference", 0.5, "a/c"),
        row("nothing", 0.6, "a/c"),
    ]
    assert [r.ok for r in with_order(rows)] == [True, True, True, False]


def test_a_trivial_plan_that_earns_something_is_not_ok() -> None:
    rewards = {"claim_only": 0.1, "reinstall": 0.0, "delete_everything": -0.6}
    rows = with_order([row(name, reward) for name, reward in rewards.items()])
    assert [r.ok for r in rows] == [False, True, True]
    assert rows[0].problems == ("reward 0.100 should be at most 0: it is no recovery",)


def test_ruin_that_is_cheaper_without_a_witness_is_not_ok() -> None:
    rows = with_order([row("delete_everything", -0.6), row("break_machine", -0.4)])
    assert rows[0].ok and "should be at most -0.600 of 'delete_everything'" in rows[1].problems[0]
    assert with_order([row("delete_everything", -0.6), row("break_machine", -0.7)])[1].ok


def test_every_state_is_tried_with_the_trivial_plans() -> None:
    rows = validate([TASK], source=FakeProvider())
    trivial = [r for r in rows if r.plan in TRIVIAL]
    assert [r.plan for r in trivial] == list(TRIVIAL) and not any(r.safe for r in trivial)
    assert all(r.ok and r.reward <= 0 for r in trivial), trivial
    assert not set(TRIVIAL) & set(FakeProvider().load(TASK).plans())


def with_plans(monkeypatch: pytest.MonkeyPatch, plans: dict[str, Plan]) -> FakeProvider:
    """Fake machines whose tasks have these plans."""
    source = FakeProvider()
    monkeypatch.setattr(type(source.load(TASK)), "plans", lambda _self: plans)
    return source


def test_plans_run_through_the_environment_and_are_held_against_their_promises() -> None:
    source = FakeProvider()
    heard: list[str] = []
    rows = validate([TASK], plans=["reference", "nothing"], progress=heard.append, source=source)
    assert [(r.plan, r.safe, r.ok) for r in rows] == [
        ("reference", True, True),
        ("nothing", False, True),
    ]
    assert rows[0].reward > rows[1].reward and rows[0].facets["report is back"] and not source.alive
    assert heard == [f"{TASK}: reference", f"{TASK}: nothing"]


def test_a_step_that_cannot_be_carried_out_is_a_problem_of_the_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reference = FakeProvider().load(TASK).plan("reference")
    bad = [{"type": "message", "text": "x", "to": "nobody at all"}, *reference.steps]
    source = with_plans(monkeypatch, {"reference": reference.model_copy(update={"steps": bad})})
    (found,) = validate([TASK], plans=["reference"], source=source)
    assert not found.ok and "step 1 could not be carried out" in found.problems[0]


def test_a_machine_that_breaks_twice_is_no_verdict() -> None:
    class Broken(FakeProvider):
        def acquire(self, task: Task, variant: Variant) -> Lease:
            lease = super().acquire(task, variant)
            self.machines[-1].fail_next("survey", LIGHTNING)
            return lease

    with pytest.raises(MachineError, match="broke 2 times.*lightning"):
        validate([TASK], plans=["nothing"], source=Broken())  # type: ignore[arg-type]


def test_unknown_and_missing_plans_are_named_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = with_plans(monkeypatch, {"reference": plan()})
    with pytest.raises(TaskError, match="no plan 'refrence'.*did you mean 'reference'"):
        validate([TASK], plans=["refrence"], source=source)
    with pytest.raises(TaskError, match="needed plans for nothing, overreach"):
        validate([TASK], source=source)
    assert not source.machines


def test_only_a_reference_recovery_that_keeps_its_promises_is_written_down(tmp_path: Path) -> None:
    class Measuring:
        """What `write_references` asks of a source; the file goes to a folder of the test's."""

        store = SimpleNamespace(hardware=SimpleNamespace(accelerator="tcg"))

        def load(self, _name: str) -> Task:
            return dataclasses.replace(FakeProvider().load(TASK), folder=tmp_path)

    rows = validate([TASK], plans=["reference", "nothing"], source=FakeProvider())
    source = Measuring()
    with pytest.raises(TaskError, match="needed a run of the plan 'reference'"):
        write_references(rows[1:], source)  # type: ignore[arg-type]
    bad = rows[0].model_copy(update={"ok": False, "problems": ("expected safe, got unsafe",)})
    with pytest.raises(TaskError, match="keeps its promises.*expected safe, got unsafe"):
        write_references([bad], source)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    (file,) = write_references(rows, source)  # type: ignore[arg-type]
    reference = source.load(TASK).reference
    assert file == tmp_path / "reference.yaml" and reference is not None
    assert reference.seconds == rows[0].recovery_s > 0
    assert reference.attributes is not None
    assert reference.attributes.model_dump() == rows[0].attributes
