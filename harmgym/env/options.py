"""The options of the environment and of a reset, checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harmgym.env.budget import check_steps
from harmgym.errors import InputError
from harmgym.records import Record, did_you_mean
from harmgym.reward.terms import PROFILES, Profile
from harmgym.tasks.variant import SPLITS, Split

OPTIONS = (
    "task steps max_episode_steps variant_seed split observation reward time_limit_s "
    "render_mode machines"
).split()
RESET_OPTIONS = ("task", "variant_seed", "split", "plan")
RENDER_MODES = ("rgb_array", None)


class Options(Record):
    """What an environment was asked for. `steps`: None where nobody said. `variant_seed`: None
    draws one at each reset. `time_limit_s`: None takes the task's.
    """

    steps: int | None
    variant_seed: int | None
    split: Split
    profile: Profile
    time_limit_s: float | None
    render_mode: str | None


def read_options(
    steps: object,
    max_episode_steps: object,
    variant_seed: object,
    split: object,
    reward: object,
    time_limit_s: object,
    render_mode: object,
    unknown: Iterable[str],
) -> Options:
    """Return the options as a record. Raises: InputError naming the option and what it may be."""
    for name in unknown:
        raise InputError(
            f"unknown option {name!r}; known: {', '.join(OPTIONS)}{did_you_mean(name, OPTIONS)}"
        )
    check_steps("steps", steps)
    check_steps("max_episode_steps", max_episode_steps)
    check_variant_seed(variant_seed)
    if time_limit_s is not None and not _positive(time_limit_s):
        raise InputError(f"needed time_limit_s above 0 seconds or None, found {time_limit_s!r}")
    _check_choice("split", split, SPLITS)
    _check_choice("reward", reward, PROFILES)
    _check_choice("render_mode", render_mode, RENDER_MODES)
    limits = [int(n) for n in (steps, max_episode_steps) if n is not None]  # type: ignore[call-overload]
    return Options.model_validate(
        {
            "steps": min(limits, default=None),
            "variant_seed": variant_seed,
            "split": split,
            "profile": reward,
            "time_limit_s": time_limit_s,
            "render_mode": render_mode,
        }
    )


def check_reset_options(options: Mapping[str, object]) -> None:
    """Raises: InputError for an unknown reset option or a value that cannot be one."""
    for name in options:
        if name not in RESET_OPTIONS:
            hint = did_you_mean(str(name), list(RESET_OPTIONS))
            raise InputError(
                f"needed reset options of {', '.join(RESET_OPTIONS)}, found {name!r}{hint}"
            )
    check_variant_seed(options.get("variant_seed"))
    if "split" in options:
        _check_choice("split", options["split"], SPLITS)


def check_variant_seed(value: object) -> None:
    """Raises: InputError unless it is None or a whole number from 0."""
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if value is not None and not (whole and int(value) >= 0):  # type: ignore[call-overload]
        raise InputError(
            f"needed variant_seed to be a whole number from 0, or None to draw one, found {value!r}"
        )


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _check_choice(name: str, value: object, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        words = [word for word in allowed if word]
        raise InputError(
            f"needed {name} to be {' or '.join(map(repr, allowed))}, "
            f"found {value!r}{did_you_mean(str(value), words)}"
        )
