"""Where content lies (checkout or wheel) and where caches and runs go."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def content(kind: str) -> Path:
    """Return the folder ``envs``, ``vm_images`` or ``agents``, in a checkout and in an installed
    wheel alike.
    """
    checkout = _PACKAGE.parent / kind
    if checkout.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file():
        return checkout
    return _PACKAGE / "_content" / kind


def cache_dir() -> Path:
    """Return the folder of images and snapshots: ``$HARMGYM_CACHE`` or ``$XDG_CACHE_HOME/harmgym``
    or ``~/.cache/harmgym``.
    """
    chosen = os.environ.get("HARMGYM_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harmgym"


def runtime_dir() -> Path:
    """Return the folder for sockets and overlays of live machines, in RAM where the host has
    /dev/shm.

    Short on purpose: a UNIX socket path may have 107 bytes.
    """
    shm = Path("/dev/shm")
    base = shm if shm.is_dir() and os.access(shm, os.W_OK) else Path("/tmp")
    return base / f"harmgym-{os.getuid()}"
