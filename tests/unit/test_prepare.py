"""Looking ahead: the sampler's sequence is untouched, and the coming variants are asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from harmgym.env.core import AHEAD, HarmRecoveryEnv
from harmgym.env.fake_provider import FakeProvider
from harmgym.env.prepare import MOST_WAITING, Preparer
from harmgym.env.sampler import Sampler
from harmgym.errors import MachineError
from harmgym.tasks.task import Task
from harmgym.tasks.variant import Variant


@pytest.fixture
def tasks() -> tuple[Task, ...]:
    provider = FakeProvider()
    return tuple(provider.load(name) for name in provider.tasks(None))


def names(draws: list[tuple[Task, Variant]]) -> list[tuple[str, int]]:
    return [(task.id, variant.seed) for task, variant in draws]


def test_a_seed_gives_the_sequence_that_it_always_gave(tasks: tuple[Task, ...]) -> None:
    """Task first, then variant, one random number each: what recorded runs were drawn with."""
    sampler, generator = Sampler(tasks, "train", None), np.random.default_rng(7)
    expected = []
    by_hand = np.random.default_rng(7)
    for _ in range(20):
        task = tasks[int(by_hand.integers(len(tasks)))]
        expected.append((task.id, int(by_hand.integers(task.variant_count("train")))))
    assert names([sampler.draw(generator) for _ in range(20)]) == expected


def test_looking_ahead_sees_what_comes_and_changes_nothing(tasks: tuple[Task, ...]) -> None:
    sampler, generator = Sampler(tasks, "train", None), np.random.default_rng(3)
    seen = sampler.ahead(generator, 5)
    assert names(seen) == names([sampler.draw(generator) for _ in range(5)])
    assert len(set(names(seen))) > 1


def test_a_fixed_variant_of_one_task_has_nothing_ahead(tasks: tuple[Task, ...]) -> None:
    assert Sampler(tasks[:1], "train", 0).ahead(np.random.default_rng(0), 3) == []


class Noting(FakeProvider):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, int]] = []

    def prepare(self, task: Task, variant: Variant) -> None:
        self.asked.append((task.id, variant.seed))


def drawn(env: HarmRecoveryEnv, seed: int | None = None) -> tuple[str, int]:
    _, info = env.reset(seed=seed)
    return info["task"], info["variant"]["seed"]


def test_a_reset_asks_for_what_the_next_resets_get() -> None:
    provider = Noting()
    env = HarmRecoveryEnv(machines=provider, variant_seed=None)
    drawn(env, seed=5)
    asked = list(provider.asked)
    assert len(asked) == AHEAD
    assert [drawn(env) for _ in range(AHEAD)] == asked
    env.close()


def test_a_new_seed_gives_its_own_sequence_whatever_was_seen_ahead() -> None:
    env = HarmRecoveryEnv(machines=Noting(), variant_seed=None)
    fresh = HarmRecoveryEnv(machines=Noting(), variant_seed=None)
    drawn(env, seed=5)
    assert [drawn(env, seed=9), drawn(env)] == [drawn(fresh, seed=9), drawn(fresh)]
    env.close()
    fresh.close()


def test_a_fixed_variant_asks_for_nothing() -> None:
    provider = Noting()
    env = HarmRecoveryEnv(machines=provider, task=provider.tasks(None)[0])
    drawn(env, seed=5)
    assert provider.asked == []
    env.close()


class Builder:
    """Builds when it is let to, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.at_once = self.most = 0
        self.gate = threading.Event()
        self.error: Exception | None = None
        self.room = True

    def build(self, _task: Task, variant: Variant) -> None:
        self.begun.append(variant.seed)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.gate.wait(10)
        self.at_once -= 1
        if self.error:
            raise self.error


@pytest.fixture
def builder() -> Builder:
    return Builder()


@pytest.fixture
def preparer(builder: Builder) -> Iterator[Preparer]:
    made = Preparer(builder.build, lambda: builder.room)
    yield made
    builder.gate.set()
    made.close()


def variant(seed: int) -> Variant:
    return Variant(seed=seed, split="train", values={}, task="t")


def test_one_at_a_time_in_order_and_each_once(
    tasks: tuple[Task, ...], builder: Builder, preparer: Preparer
) -> None:
    for seed in (1, 2, 1, 2, 3):
        preparer.ask(tasks[0], variant(seed))
    builder.gate.set()
    assert preparer.wait_idle(10)
    assert builder.begun == [1, 2, 3] and builder.most == 1


def test_the_oldest_wishes_are_dropped(
    tasks: tuple[Task, ...], builder: Builder, preparer: Preparer
) -> None:
    for seed in range(30):
        preparer.ask(tasks[0], variant(seed))
    builder.gate.set()
    assert preparer.wait_idle(10)
    assert builder.begun[-MOST_WAITING:] == list(range(30 - MOST_WAITING, 30))
    assert len(builder.begun) <= MOST_WAITING + 1


@pytest.mark.parametrize("error", [MachineError("broke"), ValueError("anybody's code")])
def test_a_failure_is_not_fatal_and_the_wish_can_be_made_again(
    tasks: tuple[Task, ...], builder: Builder, preparer: Preparer, error: Exception
) -> None:
    builder.error = error
    builder.gate.set()
    for _ in range(2):
        preparer.ask(tasks[0], variant(1))
        assert preparer.wait_idle(10)
    assert builder.begun == [1, 1]


def test_nothing_is_built_without_room(
    tasks: tuple[Task, ...], builder: Builder, preparer: Preparer
) -> None:
    builder.room = False
    preparer.ask(tasks[0], variant(1))
    assert preparer.wait_idle(10)
    assert builder.begun == []


def test_closing_drops_what_waits(
    tasks: tuple[Task, ...], builder: Builder, preparer: Preparer
) -> None:
    for seed in range(5):
        preparer.ask(tasks[0], variant(seed))
    builder.gate.set()
    preparer.close()
    begun = list(builder.begun)
    preparer.ask(tasks[0], variant(9))
    assert preparer.wait_idle(10) and builder.begun == begun
