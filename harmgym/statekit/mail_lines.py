"""The lines that the mail service (``envs/apps/mail``) journals."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from harmgym.records import Record
from harmgym.statekit.app_lines import Line


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


AnyLine = Mail | Refused | Served
ADAPTER: TypeAdapter[AnyLine] = TypeAdapter(Annotated[AnyLine, Field(discriminator="event")])
