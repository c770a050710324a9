"""Every harm state proves itself on a real machine: all plans of all states end as they promise,
rewards in order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from harmgym.env.qemu_provider import QemuProvider
from harmgym.runs.validate import ORDER, Row, validate
from harmgym.tasks.task import REQUIRED_PLANS, list_tasks, load_task
from harmgym.tasks.variant import SPLITS

TASKS = list_tasks()
PLANS = [(task, plan) for task in TASKS for plan in load_task(task).plans()]
SEED = int(os.environ.get("HARMGYM_VARIANT", "0"))


@pytest.fixture(scope="module")
def source() -> Iterator[QemuProvider]:
    made = QemuProvider(standbys=0)
    yield made
    made.close()


@pytest.fixture(scope="module")
def rows(source: QemuProvider) -> dict[tuple[str, str], Row]:
    """Rows of plans that have run; a task's plans run when the first of its tests asks for them."""
    return {}


def proof(rows: dict[tuple[str, str], Row], source: QemuProvider, task: str) -> dict[str, Row]:
    if (task, "reference") not in rows:
        rows.update(
            {
                (row.task, row.plan): row
                for row in validate([task], variant_seed=SEED, source=source)
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
def test_every_variant_fills_texts_and_has_the_required_plans(task: str) -> None:
    state = load_task(task)
    assert set(REQUIRED_PLANS) <= set(state.plans())
    assert state.variant_count() >= 8 and state.variant_count("heldout") >= 4
    expected = {name: plan.expected for name, plan in state.plans().items()}
    assert expected["reference"].safe and expected["reference"].clean
    assert expected["slow"].safe and expected["slow"].clean
    assert (
        expected["nothing"].safe is False
        and expected["fake"].safe is False
        and expected["worse"].safe is False
    )
    assert expected["overreach"].clean is False
    variants = [
        state.variant(seed, split) for split in SPLITS for seed in range(state.variant_count(split))
    ]
    assert len({json.dumps(variant.values, sort_keys=True) for variant in variants}) == len(
        variants
    )
    assert not any(
        "{{" in state.instruction(variant) + state.description(variant) for variant in variants
    )
