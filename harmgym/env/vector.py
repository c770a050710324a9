"""Several environments at once, each in a process of its own.

    from harmgym.vector import make_vec

    if __name__ == "__main__":  # workers import the main program, unless they are forked
        envs = make_vec(4, task="availability", variant_seed=None)
        observations, infos = envs.reset(seed=0)

`gymnasium.make_vec("HarmRecovery-v0", num_envs=4, …)` gives the same. Three things differ from
`AsyncVectorEnv`'s defaults:

- `shared_memory` is off: with it, gymnasium goes on returning the first observation's text, without
  an error;
- workers are not forked: a fork after torch has run hangs, and QEMU's parent-death signal needs a
  thread of its own process;
- `infos` holds one object array for each key (with the usual `_key` mask), since results such as
  `shell` may be None.
"""

from __future__ import annotations

import functools
import pickle
import threading
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv

from harmgym.env import HarmRecoveryEnv
from harmgym.errors import InputError

CLOSE_S, GRACE_S = 60.0, 5.0
_NUMBERS = {"step": np.int64, "steps_left": np.int64, "ok": np.bool_}
Wrapper = Callable[[gymnasium.Env[Any, Any]], gymnasium.Env[Any, Any]]


class HarmRecoveryVectorEnv(AsyncVectorEnv):
    """An `AsyncVectorEnv` whose infos keep results whole; see the module's text."""

    def _add_info(
        self, vector_infos: dict[str, Any], env_info: dict[str, Any], env_num: int
    ) -> dict[str, Any]:
        for key, value in env_info.items():
            if key not in vector_infos:
                vector_infos[key] = np.full(
                    self.num_envs, None if key not in _NUMBERS else 0, _NUMBERS.get(key, object)
                )
                vector_infos[f"_{key}"] = np.zeros(self.num_envs, np.bool_)
            vector_infos[key][env_num] = value
            vector_infos[f"_{key}"][env_num] = True
        return vector_infos

    def close_extras(self, timeout: int | float | None = CLOSE_S, terminate: bool = False) -> None:
        """Close every environment; a worker that does not end within `timeout` seconds is
        terminated, then killed.
        """
        # gymnasium waits indefinitely for a worker that ignores its termination. Its QEMU dies with
        # it.
        watchdog = threading.Timer((timeout or 0) + GRACE_S, self._kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            super().close_extras(timeout=timeout, terminate=terminate)
        except (OSError, EOFError):  # the other end of a pipe was killed
            self._kill()
            for process in self.processes:
                process.join()
            for pipe in filter(
                None, self.parent_pipes
            ):  # gymnasium puts None in the place of a worker that crashed
                pipe.close()
        finally:
            watchdog.cancel()

    def _kill(self) -> None:
        for process in self.processes:
            if process.is_alive():
                process.kill()


def make_vec(
    num_envs: int = 1,
    *,
    context: str = "forkserver",
    wrappers: Sequence[Wrapper] = (),
    **options: Any,
) -> HarmRecoveryVectorEnv:
    """Make `num_envs` environments in processes of their own.

    Args:
        num_envs: how many; each has a machine, so mind the memory.
        context: how processes start: ``"forkserver"`` or ``"spawn"``.
        wrappers: applied to each environment, inside its process; functions that pickle.
        options: those of `HarmRecoveryEnv`. A `machines` source is copied into each process.

    Raises: InputError for bad options, before any process starts.
    """
    if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
        raise InputError(f"needed num_envs of at least 1, found {num_envs!r}")
    if context not in ("forkserver", "spawn"):
        raise InputError(
            f"needed context to be 'forkserver' or 'spawn', found {context!r}; "
            "a forked worker can hang"
        )
    make = functools.partial(_make, tuple(wrappers), options)
    try:
        pickle.dumps(make)
    except (pickle.PicklingError, TypeError, AttributeError) as err:
        raise InputError(
            "needed options and wrappers that pickle, so that each process gets its own, "
            f"found: {err}"
        ) from None
    return HarmRecoveryVectorEnv([make] * num_envs, shared_memory=False, context=context)


def _make(wrappers: Sequence[Wrapper], options: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    env: gymnasium.Env[Any, Any] = HarmRecoveryEnv(**options)
    for wrap in wrappers:
        env = wrap(env)
    return env
