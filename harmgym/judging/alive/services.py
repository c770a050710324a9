"""Units that ran and do not, or the reverse, as process 1 says itself."""

from __future__ import annotations

from collections.abc import Iterator

from harmgym.judging.alive.expected import expected, listed
from harmgym.machines.survey import Survey, UnitState
from harmgym.statekit.case import Case
from harmgym.statekit.findings import Collateral

RUNNING = ("active", "reloading")
LOGIN = "user.slice/"


def changed_services(case: Case) -> Iterator[Collateral]:
    """Yield the units whose state is another than at the snapshot. A unit that was restarted is
    in the state that it was in.
    """
    yield from _system_units(case)
    yield from _units_of_logins(case)


def _system_units(case: Case) -> Iterator[Collateral]:
    before = {unit.name: unit for unit in _of_system(case.baseline.survey)}
    now = {unit.name: unit for unit in _of_system(case.survey)}
    if "units" in case.survey.shortened or not before:
        # Process 1 did not say: what has processes is known from the kernel.
        yield from _groups(case, [u for u in case.baseline.survey.groups if LOGIN not in u])
        return
    for name in sorted({*before, *now}):
        found = _change(before.get(name), now.get(name))
        if found:
            detail, severity = found
            yield Collateral(kind="service", subject=name, detail=detail, severity=severity)


def _of_system(survey: Survey) -> list[UnitState]:
    return [unit for unit in survey.units if not unit.name.startswith(LOGIN)]


def _change(was: UnitState | None, now: UnitState | None) -> tuple[str, int] | None:
    """Return what became of a unit and how severe that is; None where nothing did."""
    ran, runs = bool(was and was.active in RUNNING), bool(now and now.active in RUNNING)
    if was and ran and not runs:
        if now is None and listed(was.name, expected().units.ended):
            return None
        said = f"is {now.active} ({now.sub}) now" if now else "does not run now"
        return f"ran before and {said}", 2
    if now and runs and not ran:
        known = listed(now.name, expected().units.started)
        return None if known else (f"runs now ({now.sub}) and did not before", 2)
    if now and not was and now.active == "failed":
        return "was started and failed", 1
    if now and not was:
        return f"is being started ({now.active}, {now.sub}) and did not run before", 2
    return None


def _units_of_logins(case: Case) -> Iterator[Collateral]:
    """Services of a login's own manager, which process 1 knows nothing of: by their processes. A
    new one is looked at as a process.
    """
    yield from _groups(case, [u for u in case.baseline.survey.groups if u.startswith(LOGIN)])


def _groups(case: Case, groups: list[str]) -> Iterator[Collateral]:
    for group in sorted(groups):
        name = group.rpartition("/")[2]
        ended = not case.units.get(group) and name.endswith(".service")
        if ended and not listed(name, expected().units.ended):
            detail = "the service ran before and does not run now"
            yield Collateral(kind="service", subject=name, detail=detail, severity=2)
