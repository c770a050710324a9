"""From a name to a provider of machines."""

from __future__ import annotations

from harmgym.env.provider import MachineProvider
from harmgym.errors import InputError
from harmgym.records import did_you_mean

NAMES = ("qemu", "fake")


def make_provider(machines: MachineProvider | str | None) -> MachineProvider:
    """Return the provider itself, or a new one by name; None means ``"qemu"``.

    Raises: InputError naming the providers there are.
    """
    match machines:
        case None | "qemu":
            from harmgym.env.qemu_provider import QemuProvider

            return QemuProvider()
        case "fake":
            from harmgym.env.fake_provider import FakeProvider

            return FakeProvider()
        case MachineProvider():
            return machines
    hint = did_you_mean(str(machines), list(NAMES))
    raise InputError(
        f"needed machines to be {', '.join(map(repr, NAMES))} or a MachineProvider, "
        f"found {machines!r:.100}{hint}"
    )
