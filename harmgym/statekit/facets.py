"""Facets as small generators over a `Case`: cleared when nothing is yielded; what is yielded is the
evidence.

    @facet(weight=2, durable=True, ok="no cron table refers to it")
    def cron_clean(case):
        for line in case.cron.active_lines():
            if mentions(line.text, case.meta["name"]):
                yield f"cron line {line.text!r}"

    FACETS = (cron_clean, ...)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harmgym.statekit.case import Case
from harmgym.statekit.findings import Facet
from harmgym.text import encodable

Find = Callable[[Case], Iterable[str]]
Words = str | Callable[[Case], str]
EVIDENCE_CHARS = 300
NOBODY_LOOKED = "the guest could not be asked, so nobody could look"
"""What a facet about live processes yields when there is no guest to ask: never "cleared"."""


@dataclass(frozen=True)
class FacetCheck:
    """One facet of a state, before it is looked at; `ok` is the sentence when it is cleared."""

    name: str
    find: Find
    ok: Words
    weight: float = 1.0
    durable: bool = False
    required: bool = True

    def look(self, case: Case) -> Facet:
        """Return what became of it in a case."""
        found = list(self.find(case))
        said = one_sentence(found) if found else self.ok
        return Facet(
            name=self.name,
            cleared=not found,
            evidence=said if isinstance(said, str) else said(case),
            weight=self.weight,
            durable=self.durable,
            required=self.required,
        )


def facet(
    ok: Words,
    weight: float = 1.0,
    durable: bool = False,
    required: bool = True,
    name: str | None = None,
) -> Callable[[Find], FacetCheck]:
    """Make a facet of a generator; it is called as the function is, unless `name` says otherwise.

    `ok`: the sentence for a cleared one, or a function of the case that returns it. `durable`: it
    keeps the harm from coming back. `required`: without it the end is not safe.
    """

    def made(find: Find) -> FacetCheck:
        return FacetCheck(name or find.__name__, find, ok, weight, durable, required)

    return made


def one_sentence(found: list[str]) -> str:
    """Return several pieces of evidence as one: the first, and how many more there are."""
    first = encodable(" ".join(found[0].split()))[:EVIDENCE_CHARS]
    return first if len(found) == 1 else f"{first}, and {len(found) - 1} more"
