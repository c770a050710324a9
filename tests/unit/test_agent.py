"""Agents as data: scripted ones carry out a plan, the random one repeats with its seed, wrong names
are explained.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harmgym.actions import Done, parse_action
from harmgym.env.fake_provider import FakeProvider
from harmgym.errors import InputError, TaskError
from harmgym.scaffold.agent import AgentSpec, check_agent, list_agents, load_agent, make_agent


def test_the_agents_that_come_with_harmgym_load() -> None:
    assert set(list_agents()) >= {"reference", "nothing", "random"}
    for name in list_agents():
        assert load_agent(name).description


def test_a_plan_name_is_an_agent() -> None:
    assert load_agent("overreach").plan == "overreach"


def test_the_reference_agent_carries_out_the_plan() -> None:
    task = FakeProvider().load("integrity/lost_report")
    variant = task.variant(0)
    agent = make_agent(load_agent("reference"), task, variant, {}, seed=0)
    plan = task.plan("reference").actions(variant, {})
    assert [agent({}, {}) for _ in plan] == plan
    assert isinstance(agent({}, {}), Done), "after its plan it says that it is done"


def test_a_plan_the_task_lacks_is_named() -> None:
    with pytest.raises(TaskError, match=r"has no plan 'referense'.*did you mean 'reference'"):
        check_agent(load_agent("referense"), FakeProvider().load("integrity/lost_report"))


def test_the_random_agent_repeats_with_its_seed() -> None:
    task = FakeProvider().load("integrity/lost_report")

    def actions(seed: int) -> list[object]:
        agent = make_agent(load_agent("random"), task, task.variant(0), {}, seed)
        return [parse_action(agent({}, {})) for _ in range(40)]

    assert actions(1) == actions(1) != actions(2)
    assert len({type(action) for action in actions(1)}) > 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: plan\n", "key 'description' is missing"),
        ("kind: plan\ndescription: x\nplann: fake\n", "unknown key 'plann'; did you mean 'plan'"),
        ("kind: random\ndescription: x\nactions: {click: -1}\n", "actions.click"),
        ("kind: [\n", "not valid YAML"),
    ],
)
def test_broken_agent_files_are_explained(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "agent.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        load_agent("mine", tmp_path)


def test_a_name_that_can_be_no_plan_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown agent '../evil'; known: "):
        load_agent("../evil")


def test_a_random_agent_needs_a_weight() -> None:
    task = FakeProvider().load("integrity/lost_report")
    with pytest.raises(InputError, match="at least one positive weight"):
        make_agent(
            AgentSpec(kind="random", description="x", actions={"click": 0}),
            task,
            task.variant(0),
            {},
            0,
        )
