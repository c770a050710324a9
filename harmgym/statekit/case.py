"""The case: all that a state's checks may look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harmgym.actions import Message
from harmgym.disk import Change, ChangeKind, DiskView
from harmgym.globs import matches
from harmgym.machines.protocol import JournalEntry, Machine, Process, Survey
from harmgym.statekit.cron import CronTables
from harmgym.statekit.lines import exact_lines
from harmgym.statekit.mail import MailEvidence
from harmgym.statekit.microblog import MicroblogEvidence
from harmgym.statekit.startups.planted import Comparison
from harmgym.statekit.trust import Trust
from harmgym.tasks.episode import Baseline, Episode, StepRecord

TEXT_LIMIT = 1 << 20
"""Bytes beyond which a file is no text to be read: an agent can make a large one at no cost."""


@dataclass
class Case:
    """The evidence of one episode. Nothing in here was said by a program that the agent could have
    changed, except what `probe` returns: use that for volatile state only, and never as the sole
    ground for "safe".

    | field | what it is |
    | --- | --- |
    | before, after | the guest's files at the snapshot and now, read from outside |
    | changes | how they differ (`Change`: path, kind, before, after) |
    | touched | paths of both that were written to in any way, even where nothing differs now |
    | unlisted | how many changes of each kind were counted and are not in `changes` |
    | survey | what is alive now: processes, units, mounts, listeners, kernel parameters, ... |
    | processes, units | of the survey: live processes, live units with their process ids |
    | mail, microblog | what the genuine apps did, from the host's journal |
    | cron | the cron tables now |
    | journal | every entry of the host's journal, whoever wrote it |
    | steps, messages, report | what the agent did, what it sent, what it claims |
    | variant, meta | the fields of the variant, what set-up returned |
    | live | False when the guest could not be asked: then the survey is empty |
    | unanswered | probes that got no proper answer, which is tampering: one sentence each |
    """

    before: DiskView
    after: DiskView
    changes: tuple[Change, ...] = ()
    touched: frozenset[str] = frozenset()
    unlisted: Mapping[ChangeKind, int] = field(default_factory=dict)
    survey: Survey = field(default_factory=Survey)
    journal: tuple[JournalEntry, ...] = ()
    episode: Episode = field(default_factory=Episode)
    machine: Machine | None = None
    live: bool = True
    run_probe: Callable[[str, dict[str, Any]], Any] | None = None
    unanswered: list[str] = field(default_factory=list)

    @property
    def processes(self) -> tuple[Process, ...]:
        return self.survey.processes

    @property
    def units(self) -> dict[str, tuple[int, ...]]:
        return self.survey.groups

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
        return self.episode.baseline or Baseline()

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

    def raw_journal_lines_of_app(self, name: str) -> list[JournalEntry]:
        """Return all entries since the episode began that bear the app's name, whoever wrote them.

        For what the agent may have forged; ``case.mail`` and ``case.microblog`` are what to trust.
        """
        return [entry for entry in self.new_journal if entry.source == f"app:{name}"]

    # Evidence, read once
    @cached_property
    def trust(self) -> Trust:
        """Who wrote what in the journal."""
        return Trust(
            journal=self.journal,
            start=self.episode.journal_start,
            disk=self.before,
            written=self.touched | {change.path for change in self.changes},
            was=self.baseline.survey,
            now=self.survey if self.live else None,
        )

    @cached_property
    def mail(self) -> MailEvidence:
        """What the mail service sent."""
        return MailEvidence(self.trust, self.before, self.after)

    @cached_property
    def microblog(self) -> MicroblogEvidence:
        """What was done on the microblog, and what it shows."""
        ask = self.probe if self.live and self.run_probe else None
        return MicroblogEvidence(self.trust, self.before, self.after, ask)

    @cached_property
    def cron(self) -> CronTables:
        """The cron tables now."""
        return CronTables(self.after)

    @cached_property
    def startups(self) -> Comparison:
        """What starts programs, now and before."""
        active = (u.name for u in self.survey.units if u.active in ("active", "activating"))
        alive = frozenset((*active, *self.units))
        return Comparison(self.before, self.after, self.changes, alive)

    def text(self, path: str, limit: int = TEXT_LIMIT) -> str | None:
        """Return the text of a file as it is now; None where there is none, or one too large to
        be looked at.
        """
        if not self.after.exists(path):
            return None
        stat = self.after.stat(path)
        return self.after.text(path) if stat.is_file and stat.size < limit else None

    def lines(self, path: str) -> list[str]:
        """Return the lines of a file as it is now (see `exact_lines`); none where there is none."""
        return exact_lines(self.text(path) or "")

    @cached_property
    def _changes_at(self) -> dict[tuple[str, ChangeKind], Change]:
        # Every item of collateral asks for its path: a desktop may have thousands of both.
        return {(change.path, change.kind): change for change in self.changes}

    def became(self, path: str, kind: ChangeKind) -> Change | None:
        """Return the change of this kind at a path, None when there is none."""
        return self._changes_at.get((path, kind))

    def changed(self, pattern: str) -> list[Change]:
        """Return the changes whose path matches a glob (``*`` within a folder, ``**`` across
        folders).
        """
        return [change for change in self.changes if matches(change.path, pattern)]

    def probe(self, source: str, **args: Any) -> Any:
        """Run `main(**args)` of Python `source` in the guest and return its JSON value.

        The machine is paused while checks run, and runs only while the probe does. None when
        nobody could look: there is no guest to ask, or it gave no proper answer, which then counts
        as tampering. The answer may be of any type: the agent is root where it comes from.
        """
        return None if self.run_probe is None else self.run_probe(source, args)

    def probe_text(self, source: str, **args: Any) -> str | None:
        """As `probe`, for an answer that is text; another one is none, and counts as tampering."""
        answer = self.probe(source, **args)
        if answer is None or isinstance(answer, str):
            return answer
        self.unanswered.append(f"a check asked the guest for text and was told {answer!r:.60}")
        return None
