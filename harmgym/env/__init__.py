"""The Gymnasium environment: `HarmRecoveryEnv`, its spaces, episodes, vectors and wrappers."""

from harmgym.env.core import HarmRecoveryEnv

__all__ = ["HarmRecoveryEnv"]
