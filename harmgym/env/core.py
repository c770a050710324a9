"""HarmRecovery-v0: an agent takes over a desktop on which harm has been done, and ends when it says
that it is done.

    env = gymnasium.make("HarmRecovery-v0", task="security/home_world_writable")
    observation, info = env.reset(seed=0)
    action = {"type": "shell", "command": "ls -la"}
    observation, reward, terminated, truncated, info = env.step(action)

| | |
| --- | --- |
| observation | Dict of `screenshot`, `terminal`, `instruction`: `harmgym.env.spaces` |
| action | a typed action (`harmgym.actions`), its JSON form, or an element of the action space |
| reward | 0 until the end, then a number in [-1, 1]: `harmgym.reward.terms` |
| terminated | the agent said `done`, or the state is beyond recovery |
| truncated | the steps or the time are used up, or the host failed |

`info` after every step: `step`, `steps_left`, `action` (JSON form), `ok`, `error` (a sentence or
None), `shell` (result or None). At the end also `verdict`, `reward` (its terms) and `is_success`
(safe and clean).

What goes wrong in the guest is the guest's doing, and is judged: the agent is root in there. Only
where the host is proved to be at fault is there `infra_failure` in place of a verdict, a mapping of
`failure_kind`, `stage`, `error`, `proof` and `evidence` (`harmgym.env.faults`), and the reward is
0.0; such an episode says nothing about the agent, so mask it in training. The next `reset` works.

Every exception that leaves `reset`, `step` and `close` is of `harmgym.errors`, or Gymnasium's
ResetNeeded.

An action that a model wrote wrongly (text or mapping that is no action, a key that does not exist)
costs a step, changes nothing and is explained in `info["error"]`. An object of another kind is an
error of the program and raises ActionError.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium.error import ResetNeeded

from harmgym.actions import Action, Done, parse_action
from harmgym.env.budget import DEFAULT_STEPS, budget_of
from harmgym.env.episode import EpisodeLog, as_json, perform, touches_screen
from harmgym.env.faults import answered, host_fault, infra_failure, typed
from harmgym.env.observing import Observation, Observer, copied, instruction
from harmgym.env.options import check_reset_options, read_options
from harmgym.env.provider import MachineProvider
from harmgym.env.providers import make_provider
from harmgym.env.sampler import Sampler
from harmgym.env.scoring import Outcome, outcome_of
from harmgym.env.spaces import PARTS, action_space, observation_space, to_action
from harmgym.errors import (
    ActionError,
    HarmgymError,
    HostFault,
    InputError,
    MachineError,
    Stage,
)
from harmgym.judging.blame import what_went_wrong
from harmgym.judging.judge import Ended, cut_by_guest
from harmgym.machines.protocol import Machine, MachineState, Screenshot
from harmgym.tasks.task import Task
from harmgym.tasks.variant import Variant

AHEAD = 2
"""How many coming resets are prepared: the next, and one more for when this episode is long."""
Info = dict[str, Any]
Step = tuple[Observation, float, bool, bool, Info]


class HarmRecoveryEnv(gymnasium.Env[Observation, Any]):
    """See the module's text, and `__init__` for the options."""

    metadata: Info = {"render_modes": ["rgb_array"], "render_fps": 2}

    def __init__(
        self,
        task: str | Task | None = None,
        steps: int | None = None,
        variant_seed: int | None = 0,
        split: str = "train",
        observation: Sequence[str] = PARTS,
        reward: str = "preference",
        time_limit_s: float | None = None,
        render_mode: str | None = None,
        machines: MachineProvider | str | None = None,
        max_episode_steps: int | None = None,
        **unknown: object,
    ) -> None:
        """Make the environment; machines start at the first reset.

        Args:
            task: a task's id, a category, or a glob such as ``"*/hidden_*"``; each reset draws one
                that matches. None: all.
            steps: most steps an episode may have, 15 where nothing is said; the published budgets
                are 15 and 50. Gymnasium's `max_episode_steps` and `TimeLimit` say the same: the
                least of them is the budget.
            variant_seed: which variant of the task; None draws one at each reset from the generator
                that `reset(seed=)` sets.
            split: ``"train"`` or ``"heldout"`` variants.
            observation: parts of the observation: screenshot, terminal, instruction.
            reward: ``"preference"`` (checks, then what people prefer), ``"checks"`` (safe end or
                not) or ``"plan"`` (how good the announced plan is, see `harmgym.reward.terms`).
            time_limit_s: most seconds an episode may last, the agent's thinking included; None:
                what the task says.
            render_mode: ``"rgb_array"`` or None.
            machines: where machines come from: ``"qemu"`` (also None), ``"fake"``, or a
                `MachineProvider`, which `close` leaves open.

        Raises: InputError (TaskError for an unknown task) in one sentence.
        """
        self._options = read_options(
            steps,
            max_episode_steps,
            variant_seed,
            split,
            reward,
            time_limit_s,
            render_mode,
            unknown,
        )
        space = observation_space(observation)
        self.observation_space = space
        self.action_space = action_space()
        self.render_mode = render_mode
        self.provider = make_provider(machines)
        self._owns_provider = not isinstance(machines, MachineProvider)
        self._tasks = (task,) if isinstance(task, Task) else self._matching(task)
        self._sampler = Sampler(self._tasks, self._options.split, self._options.variant_seed)
        self._observer = Observer(space.spaces, render_mode is not None)
        self._budget = self._options.steps or DEFAULT_STEPS
        self._log: EpisodeLog | None = None
        self._last: Observation = {}
        self.outcome: Outcome | None = None
        """How the last episode ended, as records; None when its machine broke."""

    def _matching(self, filter: str | None) -> tuple[Task, ...]:
        return tuple(self.provider.load(name) for name in self.provider.tasks(filter))

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
        return self._observer.parts

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that a reset draws from."""
        return self._tasks

    @property
    def budget(self) -> int:
        """The most steps that the episode under way may have; before the first reset, what was
        asked for.
        """
        return self._budget

    @property
    def task(self) -> Task:
        """The task of the episode under way."""
        return self.log.task

    @property
    def variant(self) -> Variant:
        return self.log.lease.variant

    @property
    def meta(self) -> Mapping[str, object]:
        """What the task's set-up returned. It holds answers: never show it to an agent."""
        return self.log.lease.meta

    @property
    def machine(self) -> Machine:
        """The machine of the episode under way."""
        return self.log.machine

    # Reset
    def reset(
        self, *, seed: int | None = None, options: Info | None = None
    ) -> tuple[Observation, Info]:
        """Restore a machine in the task's harm state and return what the agent sees.

        `options` may set `task`, `variant_seed` and `split` for this episode, and `plan`: the text
        of what the agent means to do, which the reward profile ``"plan"`` scores. `info`: `task`,
        `variant` (seed, split), `steps_left`, `time_limit_s`.

        Raises: InputError for bad options; MachineError when a second, fresh machine failed as the
            first did.
        """
        try:
            super().reset(seed=seed)
        except gymnasium.error.Error as err:
            raise InputError(f"needed a seed that is a number from 0 or None: {err}") from None
        chosen = dict(options or {})
        check_reset_options(chosen)
        self._budget = budget_of(self, self._options.steps)
        task, variant = self._choose(chosen)
        plan = str(chosen.get("plan") or "")
        self._release()
        self.outcome = None
        try:
            self._begin(task, variant, plan)
        except MachineError:
            # Once more, with a fresh machine; a second fault is the caller's to see.
            self._begin(task, variant, plan)
        self._prepare_next()
        info = {
            "task": task.id,
            "variant": {"seed": variant.seed, "split": variant.split},
            "steps_left": self._budget,
            "time_limit_s": self.log.time_limit_s,
        }
        return self._last, info

    def _choose(self, options: Info) -> tuple[Task, Variant]:
        sampler = self._sampler
        if {"task", "split", "variant_seed"} & set(options):
            sampler = Sampler(
                self._matching(options["task"]) if "task" in options else self._tasks,
                options.get("split", self._options.split),
                options.get("variant_seed", self._options.variant_seed),
            )
        return sampler.draw(self.np_random)

    def _prepare_next(self) -> None:
        """Have the variants of the next resets set up while this episode runs."""
        if self._sampler.random:
            for task, variant in self._sampler.ahead(self.np_random, AHEAD):
                self.provider.prepare(task, variant)

    def _begin(self, task: Task, variant: Variant, plan: str) -> None:
        with _typed("reset"):
            lease = self.provider.acquire(task, variant)
            try:
                lease.machine.resume()
                log = EpisodeLog(
                    lease=lease,
                    budget=self._budget,
                    time_limit_s=self._options.time_limit_s or task.time_limit_s,
                    instruction=instruction(task, variant, self._budget),
                    plan=plan,
                )
                log.start()
                observation = self._observer.observe(log)
            except BaseException:
                self.provider.release(lease)
                raise
        self._log, self._last = log, observation

    # Step
    def step(self, action: Any) -> Step:
        """Carry one action out. See the module's text.

        Raises: ActionError for an object that is no action; ResetNeeded when no episode is under
            way.
        """
        log = self.log
        with _typed("act"):
            parsed, error = read_action(action)
            info: Info = {"action": as_json(parsed, action), "error": error, "shell": None}
        stage: Stage = "act"
        try:
            if parsed is not None:
                try:
                    info["shell"] = perform(log, parsed)
                except ActionError as err:
                    info["error"] = str(err)
            ok = info["error"] is None
            log.add(info["action"], ok)
            info |= {"step": len(log.steps), "steps_left": log.steps_left, "ok": ok}
            done = parsed if ok else None
            stage = "settle" if touches_screen(done) else "observe"
            self._last = self._observer.observe(log, done, settle=touches_screen(done))
            terminated, truncated = self._ended(log, done, info)
        except InputError:
            raise
        except Exception as err:  # the guest may answer anything, and the host may fail anywhere
            with _typed(stage):
                return self._cut_off(log, err, stage, info)
        if not (terminated or truncated):
            return self._last, 0.0, False, False, info
        try:
            return self._last, self._judge(log, info), terminated, truncated, info
        except HostFault as fault:
            return self._infra_failure(log, fault, info)

    def _ended(self, log: EpisodeLog, action: Action | None, info: Info) -> tuple[bool, bool]:
        if isinstance(action, Done):
            return True, False
        beyond = getattr(log.task.checks, "beyond_recovery", None)
        reason = beyond(log.machine, log.lease.variant) if beyond else None
        if reason:
            info["beyond_recovery"] = str(reason)
            return True, False
        return False, log.steps_left <= 0 or log.seconds >= log.time_limit_s

    # End
    def _judge(self, log: EpisodeLog, info: Info, ended: Ended | None = None) -> float:
        blame = functools.partial(self._blame, log)
        with _typed("check"):
            outcome = outcome_of(log.lease, log.record(), self._options.profile, blame, ended)
        self.outcome = outcome
        info["verdict"] = outcome.verdict.model_dump(mode="json")
        info["reward"] = outcome.reward.model_dump(mode="json")
        # The name that Stable-Baselines3 and others draw a success curve from.
        info["is_success"] = outcome.verdict.safe and outcome.verdict.clean
        self._release()
        return float(outcome.reward.total) + 0.0  # no negative zero

    def _blame(self, log: EpisodeLog, error: Exception, stage: Stage) -> None:
        """Raises: HostFault when the host is at fault for an error."""
        machine = log.machine
        said_no = answered(error, machine.state is not MachineState.BROKEN)
        fault = host_fault(error, stage, self.provider.host(log.lease, log.journal_start), said_no)
        if fault is not None:
            raise fault

    def _cut_off(self, log: EpisodeLog, error: Exception, stage: Stage, info: Info) -> Step:
        """A guest that the agent ended, silenced or broke is judged from its disk; only a fault of
        the host is not judged at all.
        """
        if "step" not in info:
            log.add(info["action"], False)
        try:
            self._blame(log, error, stage)
            words = f"the guest brought the episode to an end ({stage}): {what_went_wrong(error)}"
            ended = Ended(words, answers=log.machine.state is not MachineState.BROKEN)
            reason = cut_by_guest(log.machine.journal()[log.journal_start :]) or words
            info |= {"beyond_recovery": reason, "error": reason, "ok": False}
            info |= {"step": len(log.steps), "steps_left": log.steps_left}
            reward = self._judge(log, info, ended)
        except HostFault as fault:
            return self._infra_failure(log, fault, info)
        self._last = copied(self._last)
        return self._last, reward, True, False, info

    def _infra_failure(self, log: EpisodeLog, fault: HostFault, info: Info) -> Step:
        evidence = self.provider.keep_evidence(log.lease, fault)
        self._release()
        info.pop("beyond_recovery", None)
        info |= {"step": len(log.steps), "steps_left": log.steps_left}
        info |= {"ok": False, "error": str(fault), "infra_failure": infra_failure(fault, evidence)}
        self._last = copied(self._last)
        return self._last, 0.0, False, True, info

    def _release(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            # A machine that cannot be stopped cleanly is killed by its provider; there is nothing
            # that the caller could do.
            with contextlib.suppress(MachineError, OSError):
                self.provider.release(log.lease)

    def render(self) -> Screenshot | None:
        """Return the last screen, uint8 (800, 1280, 3), when `render_mode` is "rgb_array"."""
        if self.render_mode is None:
            gymnasium.logger.warn(
                'render() needs an environment made with render_mode="rgb_array"; '
                "nothing was rendered"
            )
            return None
        if self._observer.frame is None:
            raise ResetNeeded("there is no screen to render; call reset() first")
        return self._observer.frame.copy()

    def close(self) -> None:
        """Stop the machine, and the provider when this environment made it. Idempotent."""
        with _typed("close"):
            self._release()
            if self._owns_provider:
                self.provider.close()


@contextlib.contextmanager
def _typed(stage: Stage) -> Iterator[None]:
    """Let no error out that is not of this project's tree."""
    try:
        yield
    except HarmgymError:
        raise
    except Exception as err:
        raise typed(err, stage) from err


def read_action(given: Any) -> tuple[Action | None, str | None]:
    """Return (action, None), or (None, why not) for text and mappings, which come from a model.

    Raises: ActionError for an object that is neither a typed action, a mapping, text nor an element
        of the action space.
    """
    if isinstance(given, tuple | list) and len(given) == 2 and not isinstance(given[0], str):
        return to_action(given), None
    try:
        return parse_action(given), None
    except RecursionError:
        return None, "needed an action, found something that is nested without end"
    except ActionError as err:
        if isinstance(given, str | Mapping):
            return None, str(err)
        raise
