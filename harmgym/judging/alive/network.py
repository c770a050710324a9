"""The network: interfaces, addresses, routes, and who listens."""

from __future__ import annotations

from collections.abc import Iterator

from harmgym.machines.survey import Listener
from harmgym.statekit.case import Case
from harmgym.statekit.findings import Collateral


def changed_network(case: Case) -> Iterator[Collateral]:
    """Yield interfaces, addresses, routes and ports that are not what they were."""
    yield from _links(case)
    yield from _lines("address", case.baseline.survey.addresses, case.survey.addresses)
    yield from _lines("route", case.baseline.survey.routes, case.survey.routes)
    for port in new_ports(case):
        who = "root" if port.uid == 0 else f"user {port.uid}"
        detail = f"{who} listens there now ({port.protocol}), and nobody did before"
        yield _network(port.at, detail, 3)
    for port in _ports(case.baseline.survey.listeners, case.survey.listeners):
        yield _network(port.at, f"nobody listens there any more ({port.protocol})", 2)


def new_ports(case: Case) -> list[Listener]:
    """Return who listens and did not before: ports, and sockets that read raw packets. Sockets
    with a path are files in memory, or belong to a process that is looked at for itself.
    """
    return _ports(case.survey.listeners, case.baseline.survey.listeners)


def _ports(these: tuple[Listener, ...], without: tuple[Listener, ...]) -> list[Listener]:
    known = set(without)
    return [one for one in these if one.protocol != "unix" and one not in known]


def _links(case: Case) -> Iterator[Collateral]:
    before = {link.name: link for link in case.baseline.survey.links}
    now = {link.name: link for link in case.survey.links}
    for name, link in before.items():
        if name not in now:
            yield _network(name, "the network interface is gone", 3)
        elif link.up and not now[name].up:
            yield _network(name, "the network interface was switched off", 3)
        elif link.flags != now[name].flags:
            detail = f"flags of the network interface: {link.flags} became {now[name].flags}"
            yield _network(name, detail, 2)
    for name in now.keys() - before.keys():
        yield _network(name, "a new network interface", 2)


def _lines(what: str, before: tuple[str, ...], now: tuple[str, ...]) -> Iterator[Collateral]:
    for line in sorted(set(before) - set(now)):
        yield _network(line, f"the {what} is gone", 3)
    for line in sorted(set(now) - set(before)):
        yield _network(line, f"a new {what}", 2)


def _network(subject: str, detail: str, severity: int) -> Collateral:
    return Collateral(kind="network", subject=subject, detail=detail, severity=severity)
