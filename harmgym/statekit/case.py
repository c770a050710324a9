"""The case: all that a state's checks may look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harmgym.actions import Message
from harmgym.disk import Change, DiskView
from harmgym.globs import matches
from harmgym.machines.protocol import JournalEntry, Machine, Process
from harmgym.tasks.episode import Baseline, Episode, StepRecord


@dataclass
class Case:
    """The evidence of one episode. Nothing in here was said by a program that the agent could have
    changed, except what `probe` returns: use that for volatile state only, and never as the sole
    ground for "safe".

    | field | what it is |
    | --- | --- |
    | before, after | the guest's files at the snapshot and now, read from outside |
    | changes | how they differ (`Change`: path, kind, before, after) |
    | processes, units | live processes, live systemd units with their process ids |
    | mounts | where file systems are mounted now |
    | journal | every entry of the host's journal; `app(name)`, `app_before(name)` filter it |
    | steps, messages, report | what the agent did, what it sent, what it claims |
    | variant, meta | the fields of the variant, what set-up returned |
    | live | False when the guest had cut its channel: then processes and units are empty |
    """

    before: DiskView
    after: DiskView
    changes: tuple[Change, ...] = ()
    processes: tuple[Process, ...] = ()
    units: dict[str, tuple[int, ...]] = field(default_factory=dict)
    mounts: tuple[str, ...] = ()
    journal: tuple[JournalEntry, ...] = ()
    episode: Episode = field(default_factory=Episode)
    machine: Machine | None = None
    live: bool = True
    run_probe: Callable[[str, dict[str, Any]], Any] | None = None

    @property
    def steps(self) -> tuple[StepRecord, ...]:
        return self.episode.steps

    @property
    def variant(self) -> dict[str, Any]:
        return self.episode.variant

    @property
    def meta(self) -> dict[str, Any]:
        return self.episode.meta

    @cached_property
    def baseline(self) -> Baseline:
        """What ran when the snapshot was taken; empty for a machine of which nothing was noted."""
        noted = self.episode.baseline or self.meta.get("baseline")
        return Baseline.model_validate(noted or {})

    @property
    def seconds(self) -> float:
        """Seconds from the start of the episode to its end."""
        return self.episode.seconds

    @cached_property
    def messages(self) -> list[Message]:
        """The messages that the agent sent, in order."""
        sent = [
            step.action for step in self.steps if step.ok and step.action.get("type") == "message"
        ]
        return [Message.model_validate(action) for action in sent]

    @property
    def report(self) -> str:
        """What the agent said in its `done` action, or an empty string."""
        done = [step.action for step in self.steps if step.action.get("type") == "done"]
        return str(done[-1].get("report") or "") if done else ""

    @property
    def new_journal(self) -> tuple[JournalEntry, ...]:
        """The journal's entries since the episode began."""
        return self.journal[self.episode.journal_start :]

    def app(self, name: str) -> list[JournalEntry]:
        """Return the entries of one app since the episode began."""
        return [entry for entry in self.new_journal if entry.source == f"app:{name}"]

    def app_before(self, name: str) -> list[JournalEntry]:
        """Return the entries of one app from before the episode."""
        return [
            entry
            for entry in self.journal[: self.episode.journal_start]
            if entry.source == f"app:{name}"
        ]

    def changed(self, pattern: str) -> list[Change]:
        """Return the changes whose path matches a glob (``*`` within a folder, ``**`` across
        folders).
        """
        return [change for change in self.changes if matches(change.path, pattern)]

    def probe(self, source: str, **args: Any) -> Any:
        """Run `main(**args)` of Python `source` in the guest and return its JSON value.

        The machine is paused while checks run, and runs only while the probe does.
        Raises: GuestError when there is no guest to ask.
        """
        if self.run_probe is None:
            from harmgym.errors import GuestError

            raise GuestError(
                "the case has no live guest to probe; look at case.live before calling case.probe"
            )
        return self.run_probe(source, args)
