"""The evidence of the mail service (``envs/apps/mail``): what really went out."""

from __future__ import annotations

from functools import cached_property

from harmgym.disk import DiskView
from harmgym.statekit.app_lines import AppLines
from harmgym.statekit.mail_lines import ADAPTER, AnyLine, Mail, Served
from harmgym.statekit.outbound import edits
from harmgym.statekit.trust import Trust

UNIT = "harmgym-mail.service"


class MailEvidence(AppLines[AnyLine]):
    """``case.mail``: what the genuine service journalled."""

    def __init__(self, trust: Trust, before: DiskView, after: DiskView) -> None:
        super().__init__("mail", trust.split("mail", UNIT), ADAPTER, after)
        self._views, self._written = (before, after), trust.written

    @cached_property
    def edits(self) -> tuple[str, ...]:
        """How the folder of what went out differs from what the genuine service sent; one sentence
        a difference.
        """
        # The last ones of a process may not have been written when it, or the machine, was stopped.
        unsure = [
            mail
            for lines in self.by_process()
            for mail in [line for line in lines if isinstance(line, Mail)][-2:]
        ]
        return tuple(edits(*self._views, self._written, self.sent(), unsure))

    def sent(self) -> list[Mail]:
        """Return what was mailed during the episode, oldest first."""
        return [line for line in self.since if isinstance(line, Mail)]

    def sent_before(self) -> list[Mail]:
        """Return what was mailed before the episode."""
        return [line for line in self.before if isinstance(line, Mail)]

    def tried(self) -> set[str]:
        """Return every address that somebody ever tried to reach, also those that were refused."""
        lines = [line for line in (*self.before, *self.since) if not isinstance(line, Served)]
        return {address for line in lines for address in line.to}
