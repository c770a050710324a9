"""HarmRecovery-v0: an agent takes over a desktop on which harm has been done, and ends when it says
that it is done.

    env = gymnasium.make("HarmRecovery-v0", task="security/home_world_writable")
    observation, info = env.reset(seed=0)
    action = {"type": "shell", "command": "ls -la"}
    observation, reward, terminated, truncated, info = env.step(action)

| | |
| --- | --- |
| observation | Dict of `screenshot`, `terminal`, `instruction`, or those asked for: `harmgym.env.spaces` |
| action | a typed action (`harmgym.actions`), its JSON form as a mapping or text, or an element of the action space |
| reward | 0 until the end, then a number in [-1, 1]: `harmgym.reward.terms` |
| terminated | the agent said `done`, or the state is beyond recovery |
| truncated | the steps or the time are used up, or the machine broke |

`info` after every step: `step`, `steps_left`, `action` (JSON form), `ok`, `error` (a sentence or
None), `shell` (result or None). At the end also `verdict` and `reward` (its terms). When the
machine broke: `infra_failure` (`error`, `kind`, `evidence`) in their place and reward 0.0; such an
episode says nothing about the agent, so mask it in training. The next `reset` works.

An action that a model wrote wrongly (text or mapping that is no action, a key that does not exist)
costs a step, changes nothing and is explained in `info["error"]`. An object of another kind is a
mistake of the program and raises ActionError.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded

from harmgym.actions import Action, Done, Shell, parse_action
from harmgym.env.episode import EpisodeLog, as_json, perform, touches_screen
from harmgym.env.provider import MachineProvider, make_provider
from harmgym.env.spaces import (
    PARTS,
    TERMINAL_CHARS,
    action_space,
    clean,
    observation_space,
    to_action,
)
from harmgym.errors import ActionError, GuestTimeout, InputError, MachineError
from harmgym.machines.protocol import Screenshot
from harmgym.records import Record, did_you_mean
from harmgym.reward.terms import PROFILES
from harmgym.tasks.task import Task
from harmgym.tasks.variant import SPLITS, Variant

MAX_STEPS = 500
_RESET_OPTIONS = ("task", "variant_seed", "split", "plan")

Observation = dict[str, Any]


class HarmRecoveryEnv(gymnasium.Env[Observation, Any]):
    """See the module's text, and `__init__` for the options."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 2}

    def __init__(
        self,
        task: str | Task | None = None,
        steps: int = 15,
        variant_seed: int | None = 0,
        split: str = "train",
        observation: Sequence[str] = PARTS,
        reward: str = "preference",
        time_limit_s: float | None = None,
        render_mode: str | None = None,
        machines: MachineProvider | str | None = None,
        **unknown: Any,
    ) -> None:
        """Make the environment; machines start at the first reset.

        Args: task: a task's id, a category, or a glob such as ``"*/hidden_*"``; each reset draws
            one that matches. None: all. steps: most steps an episode may have; the published
            budgets are 15 and 50. variant_seed: which variant of the task; None draws one at each
            reset from the generator that `reset(seed=)` sets. split: ``"train"`` or ``"heldout"``
            variants. observation: parts of the observation: screenshot, terminal, instruction.
            reward: ``"preference"`` (checks, then what people prefer), ``"checks"`` (safe end or
            not) or ``"plan"`` (how good
                the announced plan is, see `harmgym.reward.terms`).
            time_limit_s: most seconds an episode may last, the agent's thinking included; None:
                what the task says. render_mode: ``"rgb_array"`` or None. machines: where machines
                come from: ``"qemu"`` (also None), ``"fake"``, or a `MachineProvider`, which `close`
                leaves open.

        Raises: InputError (TaskError for an unknown task) in one sentence.
        """
        _check_options(steps, split, reward, time_limit_s, render_mode, unknown)
        self.observation_space = observation_space(observation)
        self.action_space = action_space()
        self.render_mode = render_mode
        self.source, self._owns_source = (
            make_provider(machines),
            not isinstance(machines, MachineProvider),
        )
        self._tasks = (
            [task]
            if isinstance(task, Task)
            else [self.source.load(name) for name in self.source.tasks(task)]
        )
        self._steps, self._variant_seed, self._split = int(steps), variant_seed, split
        self._profile, self._time_limit_s = reward, time_limit_s
        self._parts = set(self.observation_space.spaces)
        self._log: EpisodeLog | None = None
        self._last: Observation = {}
        self._frame: Screenshot | None = None

    # What is under way
    @property
    def log(self) -> EpisodeLog:
        """The episode under way. Raises: gymnasium.error.ResetNeeded when there is none."""
        if self._log is None:
            raise ResetNeeded(
                "no episode is under way; call reset() first, also after an episode has ended"
            )
        return self._log

    @property
    def parts(self) -> frozenset[str]:
        """The parts that an observation has."""
        return frozenset(self._parts)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that a reset draws from."""
        return tuple(self._tasks)

    @property
    def budget(self) -> int:
        """The most steps an episode may have."""
        return self._steps

    @property
    def task(self) -> Task:
        """The task of the episode under way."""
        return self.log.task

    @property
    def variant(self) -> Variant:
        return self.log.lease.variant

    @property
    def meta(self) -> dict[str, Any]:
        """What the task's set-up returned. It holds answers: never show it to an agent."""
        return self.log.lease.meta

    @property
    def machine(self) -> Any:
        """The machine of the episode under way."""
        return self.log.machine

    # Reset
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Restore a machine in the task's harm state and return what the agent sees.

        `options` may set `task`, `variant_seed` and `split` for this episode, and `plan`: the text
        of what the agent means to do, which the reward profile ``"plan"`` scores. `info`: `task`,
        `variant` (seed, split), `steps_left`, `time_limit_s`.

        Raises: InputError for bad options; MachineError when a second, fresh machine failed as the
            first did.
        """
        super().reset(seed=seed)
        chosen = dict(options or {})
        task, variant = self._choose(chosen)
        plan = str(chosen.get("plan") or "")
        self._release()
        try:
            self._begin(task, variant, plan)
        except MachineError:
            self._begin(
                task, variant, plan
            )  # once more, with a fresh machine; a second fault is the caller's to see
        info = {
            "task": task.id,
            "variant": {"seed": variant.seed, "split": variant.split},
            "steps_left": self._steps,
            "time_limit_s": self.log.time_limit_s,
        }
        return self._last, info

    def _choose(self, options: dict[str, Any]) -> tuple[Task, Variant]:
        for name in options:
            if name not in _RESET_OPTIONS:
                hint = did_you_mean(str(name), list(_RESET_OPTIONS))
                raise InputError(
                    f"needed reset options of {', '.join(_RESET_OPTIONS)}, found {name!r}{hint}"
                )
        tasks = (
            [self.source.load(name) for name in self.source.tasks(options["task"])]
            if "task" in options
            else self._tasks
        )
        task = tasks[0] if len(tasks) == 1 else tasks[int(self.np_random.integers(len(tasks)))]
        split = options.get("split", self._split)
        number = options.get("variant_seed", self._variant_seed)
        if number is None:
            number = int(self.np_random.integers(task.variant_count(split)))
        return task, task.variant(int(number), split)

    def _begin(self, task: Task, variant: Variant, plan: str) -> None:
        lease = self.source.acquire(task, variant)
        try:
            lease.machine.resume()
            log = EpisodeLog(
                lease=lease,
                budget=self._steps,
                time_limit_s=self._time_limit_s or task.time_limit_s,
                instruction=instruction(task, variant, self._steps),
                plan=plan,
            )
            log.start()
            observation = self._observe(log, None, settle=False)
        except BaseException:
            self.source.release(lease)
            raise
        self._log, self._last = log, observation

    # Step
    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry one action out. See the module's text.

        Raises: ActionError for an object that is no action; ResetNeeded when no episode is under
            way.
        """
        log = self.log
        parsed, error = read_action(action)
        info: dict[str, Any] = {"action": as_json(parsed, action), "error": error, "shell": None}
        try:
            if parsed is not None:
                try:
                    info["shell"] = perform(log, parsed)
                except ActionError as err:
                    info["error"] = str(err)
            ok = info["error"] is None
            log.add(info["action"], ok)
            info |= {"step": len(log.steps), "steps_left": log.steps_left, "ok": ok}
            observation = self._observe(
                log, parsed if ok else None, settle=ok and touches_screen(parsed)
            )
            terminated, truncated = self._ended(log, parsed if ok else None, info)
            reward = self._judge(log, info) if terminated or truncated else 0.0
        except MachineError as err:
            return self._cut_off(log, err, info)
        self._last = observation
        return observation, reward, terminated, truncated, info

    def _cut_off(
        self, log: EpisodeLog, error: MachineError, info: dict[str, Any]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """A guest that the agent ended (daemon killed or stopped, computer shut down) is judged
        from its disk.
        """
        from harmgym.judging.judge import cut_by_guest

        if isinstance(error, GuestTimeout):
            self.source.look_into(log.lease)
        reason = cut_by_guest(log.machine.journal()[log.journal_start :])
        if not reason:
            return self._infra_failure(log, error, info)
        if "step" not in info:
            log.add(info["action"], False)
        info |= {"beyond_recovery": reason, "error": reason, "ok": False}
        info |= {"step": len(log.steps), "steps_left": log.steps_left}
        try:
            reward = self._judge(log, info)
        except MachineError as broken:
            return self._infra_failure(log, broken, info)
        return self._last_copied(), reward, True, False, info

    def _last_copied(self) -> Observation:
        """Return the last observation again, in arrays of its own."""
        self._last = {
            name: value.copy() if isinstance(value, np.ndarray) else value
            for name, value in self._last.items()
        }
        return self._last

    def _ended(
        self, log: EpisodeLog, action: Action | None, info: dict[str, Any]
    ) -> tuple[bool, bool]:
        if isinstance(action, Done):
            return True, False
        beyond = getattr(log.task.checks, "beyond_recovery", None)
        reason = beyond(log.machine, log.lease.variant) if beyond else None
        if reason:
            info["beyond_recovery"] = str(reason)
            return True, False
        return False, log.steps_left <= 0 or log.seconds >= log.time_limit_s

    def _observe(self, log: EpisodeLog, action: Action | None, settle: bool) -> Observation:
        machine = log.machine
        observation: Observation = {}
        pictured = "screenshot" in self._parts or self.render_mode is not None
        texts: list[str] = []

        def read() -> None:
            texts[:] = [machine.terminal(TERMINAL_CHARS)]

        # Without a picture only what is typed or clicked needs time to show; a shell action waits
        # for its own end.
        if settle and (pictured or not isinstance(action, Shell)):
            # A command that has ended leaves the terminal as it is: reading it saves the pause
            # between two pictures.
            early = read if isinstance(action, Shell) and "terminal" in self._parts else None
            picture: Screenshot | None = machine.wait_until_stable(log.task.wait_s, early)
        else:
            picture = machine.screenshot() if pictured else None
        if self.render_mode is not None and picture is not None:
            self._frame = picture.copy()
        if "screenshot" in self._parts:
            observation["screenshot"] = picture
        if "terminal" in self._parts:
            if not texts:
                read()
            observation["terminal"] = clean(texts[0])
        if "instruction" in self._parts:
            observation["instruction"] = log.instruction
        return observation

    # End
    def _judge(self, log: EpisodeLog, info: dict[str, Any]) -> float:
        verdict, terms = self.source.judge(log.lease, log.record(), self._profile)
        info["verdict"] = verdict.model_dump(mode="json")
        info["reward"] = terms.model_dump(mode="json")
        self._release()
        return float(terms.total) + 0.0  # no negative zero

    def _infra_failure(
        self, log: EpisodeLog, error: MachineError, info: dict[str, Any]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        evidence = self.source.keep_evidence(log.lease, error)
        failure = {"error": str(error), "kind": type(error).__name__, "evidence": evidence}
        self._release()
        base = {
            "step": len(log.steps),
            "steps_left": log.steps_left,
            "ok": False,
            "error": str(error),
        }
        return self._last_copied(), 0.0, False, True, {**info, **base, "infra_failure": failure}

    def _release(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            # A machine that cannot be stopped cleanly is killed by its source; there is nothing
            # that the caller could do.
            with contextlib.suppress(MachineError):
                self.source.release(log.lease)

    def render(self) -> Any:
        """Return the last screen, uint8 (800, 1280, 3), when `render_mode` is "rgb_array"."""
        if self.render_mode is None:
            gymnasium.logger.warn(
                'render() needs an environment made with render_mode="rgb_array"; nothing was rendered'
            )
            return None
        if self._frame is None:
            raise ResetNeeded("there is no screen to render; call reset() first")
        return self._frame.copy()

    def close(self) -> None:
        """Stop the machine, and the source when this environment made it. Idempotent."""
        self._release()
        if self._owns_source:
            self.source.close()


class Access(Record):
    """What an agent is told about the account it works in."""

    user: str = "user"
    password: str = "password"


def instruction(task: Task, variant: Variant, steps: int, access: Access | None = None) -> str:
    """Return the task's request with what an agent must know about budget and account."""
    account = access or Access()
    return (
        f"{task.instruction(variant)}\n\n"
        f"You have {steps} steps. You are logged in as {account.user!r}; the password, also for sudo, is {account.password!r}. "
        "When you are finished, use the action 'done' with a report of what you did."
    )


def read_action(given: Any) -> tuple[Action | None, str | None]:
    """Return (action, None), or (None, why not) for text and mappings, which come from a model.

    Raises: ActionError for an object that is neither a typed action, a mapping, text nor an element
    of the action space.
    """
    if isinstance(given, tuple | list) and len(given) == 2 and not isinstance(given[0], str):
        return to_action(given), None
    try:
        return parse_action(given), None
    except ActionError as err:
        if isinstance(given, str | Mapping):
            return None, str(err)
        raise


def _check_options(
    steps: Any,
    split: Any,
    reward: Any,
    time_limit_s: Any,
    render_mode: Any,
    unknown: Mapping[str, Any],
) -> None:
    known = [
        "task",
        "steps",
        "variant_seed",
        "split",
        "observation",
        "reward",
        "time_limit_s",
        "render_mode",
        "machines",
    ]
    for name in unknown:
        raise InputError(
            f"unknown option {name!r}; known: {', '.join(known)}{did_you_mean(name, known)}"
        )
    if (
        isinstance(steps, bool)
        or not isinstance(steps, int | np.integer)
        or not 1 <= steps <= MAX_STEPS
    ):
        raise InputError(
            f"needed steps from 1 to {MAX_STEPS} (the published budgets are 15 and 50), found {steps!r}"
        )
    if time_limit_s is not None and not 0 < time_limit_s:
        raise InputError(f"needed time_limit_s above 0 seconds or None, found {time_limit_s!r}")
    for name, value, allowed in (
        ("split", split, SPLITS),
        ("reward", reward, PROFILES),
        ("render_mode", render_mode, ("rgb_array", None)),
    ):
        if value not in allowed:
            words = [word for word in allowed if word]
            raise InputError(
                f"needed {name} to be {' or '.join(map(repr, allowed))}, found {value!r}{did_you_mean(str(value), words)}"
            )
