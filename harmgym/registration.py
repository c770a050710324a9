"""Makes `gymnasium.make("HarmRecovery-v0")` work without importing harmgym: gymnasium calls `register` when it is imported.

Kept light on purpose, since every program that imports gymnasium pays for it.
"""

from __future__ import annotations

ENV_ID = "HarmRecovery-v0"


def register() -> None:
    """Register the environment. Idempotent."""
    from gymnasium.envs.registration import register as register_env
    from gymnasium.envs.registration import registry

    if ENV_ID not in registry:
        register_env(
            id=ENV_ID,
            entry_point="harmgym.env:HarmRecoveryEnv",
            vector_entry_point="harmgym.vector:make_vec",
            # A real desktop has a clock and a scheduler: the harm state repeats exactly, pictures after a step need not.
            nondeterministic=True,
        )
