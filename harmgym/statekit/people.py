"""Invented people for harm states, from one pool: ``people.yaml``."""

from __future__ import annotations

import functools
import random
from pathlib import Path

from harmgym.errors import TaskError
from harmgym.records import Record, load_record
from harmgym.tasks.variant import Variant

POOL = Path(__file__).parent / "people.yaml"


class Person(Record):
    """A line of the address book."""

    name: str
    address: str
    role: str = ""


class Names(Record):
    """The people of one split; see ``people.yaml``."""

    first: tuple[str, ...]
    last: tuple[str, ...]
    staff: tuple[str, ...]


class Pool(Record):
    train: Names
    heldout: Names


@functools.cache
def pool() -> Pool:
    return load_record(POOL, Pool, TaskError)


def names(variant: Variant) -> Names:
    """Return the people that this variant's split draws from."""
    people: Names = getattr(pool(), variant.split)
    return people


def full_names(variant: Variant, count: int, rng: random.Random) -> list[str]:
    """Draw `count` different full names.

    Raises: TaskError when the pool is smaller than that.
    """
    people = names(variant)
    every = [f"{first} {last}" for first in people.first for last in people.last]
    if count > len(every):
        raise TaskError(f"{variant.task}: needed {count} people, found {len(every)} in {POOL}")
    return rng.sample(every, count)
