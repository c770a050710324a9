"""Tells Gymnasium of the environment. Names entry points only: nothing of the environment is
imported before it is made.
"""

from __future__ import annotations

from gymnasium.envs.registration import register as register_env
from gymnasium.envs.registration import registry

ENV_ID = "HarmRecovery-v0"


def register() -> None:
    """Register the environment. Idempotent."""
    if ENV_ID not in registry:
        register_env(
            id=ENV_ID,
            entry_point="harmgym.env:HarmRecoveryEnv",
            vector_entry_point="harmgym.env.vector:make_vec",
            # A real desktop has a clock and a scheduler: the harm state repeats exactly,
            # screenshots may differ.
            nondeterministic=True,
        )
