"""Every harm state proves itself on a real machine: all plans of all states end as they promise,
rewards in order.
"""

from __future__ import annotations

import json
import os

import pytest

from harmgym.env.qemu_provider import QemuProvider
from harmgym.runs.promises import ORDER, Row
from harmgym.runs.validate import validate
from harmgym.tasks.catalogue import list_tasks, load_task
from harmgym.tasks.plan import TRIVIAL
from harmgym.tasks.task import REQUIRED_PLANS
from harmgym.tasks.variant import SPLITS, Split

TASKS = list_tasks()
QUICK = (
    "honest_python honest_terse honest_urllib honest_atomic_rename honest_root_awk "
    "honest_python_all honest_root_mask honest_python_dry_run honest_shell_loop"
).split()
"""Of the honest alternatives those that take some seconds; `harmgym tasks validate` plays all."""


def played(task: str) -> list[str]:
    plans = load_task(task).plans()
    return [name for name in plans if not name.startswith("honest_") or name in QUICK]


PLANS = [(task, plan) for task in TASKS for plan in played(task)]
SEED = int(os.environ.get("HARMGYM_VARIANT", "0"))


@pytest.fixture(scope="module")
def rows(source: QemuProvider) -> dict[tuple[str, str], Row]:
    """Rows of plans that have run; a task's plans run when the first of its tests asks for them."""
    return {}


def proof(rows: dict[tuple[str, str], Row], source: QemuProvider, task: str) -> dict[str, Row]:
    if (task, "reference") not in rows:
        rows.update(
            {
                (row.task, row.plan): row
                for row in validate([task], played(task), variant_seed=SEED, source=source)
            }
        )
    return {plan: row for (name, plan), row in rows.items() if name == task}


@pytest.mark.vm
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("task", "plan"), PLANS)
def test_a_plan_ends_as_it_promises(
    task: str, plan: str, rows: dict[tuple[str, str], Row], source: QemuProvider
) -> None:
    row = proof(rows, source, task)[plan]
    assert row.ok, f"{row.problems}\n{row.evidence}\n{row.collateral}"


@pytest.mark.vm
@pytest.mark.timeout(900)
def test_agents_without_understanding_earn_nothing(source: QemuProvider) -> None:
    for row in validate(TASKS[-1:], list(TRIVIAL), variant_seed=SEED, source=source):
        assert row.ok and row.reward <= 0, (row.plan, row.problems)


@pytest.mark.vm
@pytest.mark.timeout(900)
@pytest.mark.parametrize("task", TASKS)
def test_rewards_are_in_order(
    task: str, rows: dict[tuple[str, str], Row], source: QemuProvider
) -> None:
    found = proof(rows, source, task)
    rewards = [found[plan].reward for plan in ORDER]
    assert rewards == sorted(rewards, reverse=True) and len(set(rewards)) == len(rewards), dict(
        zip(ORDER, rewards, strict=True)
    )
    assert -1 <= min(rewards) and max(rewards) <= 1


@pytest.mark.parametrize("task", TASKS)
def test_variants_fill_the_texts_and_the_state_has_the_required_plans(task: str) -> None:
    state = load_task(task)
    assert set(REQUIRED_PLANS) <= set(state.plans())
    expected = {name: plan.expected for name, plan in state.plans().items()}
    assert expected["reference"].safe and expected["reference"].clean
    assert expected["slow"].safe and expected["slow"].clean
    assert (
        expected["nothing"].safe is False
        and expected["fake"].safe is False
        and expected["worse"].safe is False
    )
    assert expected["overreach"].clean is False
    for split in SPLITS:
        for seed in range(100):
            variant = state.variant(seed, split)
            assert "{{" not in state.instruction(variant) + state.description(variant)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", TASKS)
def test_a_thousand_seeds_are_a_thousand_variants_that_meet_every_value(
    task: str, split: Split
) -> None:
    state = load_task(task)
    assert state.variant_count(split) >= 1000
    drawn = [state.variant(seed, split).values for seed in range(1000)]
    assert len({json.dumps(values, sort_keys=True) for values in drawn}) == 1000
    for name, lists in state.spec.variant.items():
        met = [sum(values[name] == item for values in drawn) for item in lists.of(split)]
        assert min(met) > 1000 / len(met) / 2 and max(met) < 1000 / len(met) * 2, (name, met)


@pytest.mark.parametrize("task", TASKS)
def test_no_person_place_or_name_of_a_held_out_variant_is_met_in_training(task: str) -> None:
    state = load_task(task)
    for name, lists in state.spec.variant.items():
        for key in ("name", "folder", "domain", "base", "user", "handle", "tag", "deal", "unit"):
            seen = {item[key] for item in lists.train if isinstance(item, dict) and key in item}
            unseen = [item[key] for item in lists.heldout if isinstance(item, dict) and key in item]
            assert not seen & set(unseen) and len(set(unseen)) == len(unseen), (name, key)


@pytest.mark.parametrize("task", TASKS)
def test_each_state_keeps_what_its_reference_recovery_was_measured_to_reach(task: str) -> None:
    reference = load_task(task).reference
    assert reference is not None and reference.seconds and reference.attributes
    assert reference.attributes.success == 5.0
