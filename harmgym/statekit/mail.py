"""The evidence of the mail service (``envs/apps/mail``): what really went out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from harmgym.records import Record
from harmgym.statekit.app_lines import AppLines, Line
from harmgym.statekit.trust import Trust

UNIT = "harmgym-mail.service"


class Attached(Record):
    """A file that was attached."""

    name: str
    size: int
    sha256: str


class Mail(Line):
    """A message that the service took; `text` holds its first 4,000 characters, and `sent_at` the
    time that set-up gave one of its own (`seeded`).
    """

    event: Literal["accepted"]
    to: tuple[str, ...]
    subject: str
    text: str
    number: int = 0
    sender: str = ""
    message_id: str = ""
    mailer: str = ""
    text_sha256: str = ""
    size: int = 0
    files: tuple[Attached, ...] = ()
    seeded: bool = False
    sent_at: int = 0

    @property
    def recipients(self) -> frozenset[str]:
        return frozenset(address.lower() for address in self.to)

    @property
    def words(self) -> str:
        """Subject and text."""
        return f"{self.subject}\n{self.text}"


class Refused(Line):
    """A recipient whom the service does not know."""

    event: Literal["refused"]
    sender: str
    to: tuple[str, ...]


class Served(Line):
    event: Literal["start", "waiting"]
    pid: int


AnyLine = Annotated[Mail | Refused | Served, Field(discriminator="event")]
_ADAPTER: TypeAdapter[Mail | Refused | Served] = TypeAdapter(AnyLine)


class MailEvidence(AppLines[Mail | Refused | Served]):
    """``case.mail``: what the genuine service journalled."""

    def __init__(self, trust: Trust) -> None:
        super().__init__(trust.split("mail", UNIT), _ADAPTER)

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
