"""The evidence of the microblog (``envs/apps/microblog``): what was posted, what its store says.

The journal is the evidence; the store lies in the guest and is a cross-check, no more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Annotated, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from harmgym.disk import DiskView
from harmgym.records import Record
from harmgym.statekit.app_lines import AppLines, Line
from harmgym.statekit.trust import Trust

UNIT = "harmgym-microblog.service"
STORE = "/var/lib/harmgym/microblog/store.json"


class Written(Line):
    """A new post; `publish` is a scheduled one whose time came."""

    event: Literal["create", "publish"]
    post: int
    account: str
    text: str
    client: str
    reply_to: int | None = None


class Edited(Line):
    event: Literal["edit"]
    post: int
    account: str
    text: str
    previous: str
    client: str


class Deleted(Line):
    """A post that was deleted; `views`: how often it had been read."""

    event: Literal["delete"]
    post: int
    account: str
    text: str
    client: str
    views: int


class Queued(Line):
    """A post that was put into the queue (then it has `due`) or taken out of it."""

    event: Literal["schedule", "unschedule"]
    post: int
    text: str
    client: str
    due: int | None = None


class Switched(Line):
    event: Literal["activate", "deactivate"]
    account: str
    client: str


class Visited(Line):
    event: Literal["page", "shown"]
    client: str
    path: str = ""
    page: str = ""


class Views(Line):
    event: Literal["views"]
    posts: dict[str, int]


class Served(Line):
    event: Literal["start", "waiting"]
    pid: int


Act = Written | Edited | Deleted | Queued | Switched | Visited | Views | Served
_ADAPTER: TypeAdapter[Act] = TypeAdapter(Annotated[Act, Field(discriminator="event")])
A = TypeVar("A", bound=Line)


class Shown(Record):
    """What counts of a post or of an earlier version of it, whatever else there may be."""

    model_config = ConfigDict(strict=True, extra="ignore")

    text: str


class Post(Shown):
    """A post of the store; `revisions` are its earlier texts, which stay public."""

    id: int
    views: int = 0
    at: int = 0
    revisions: tuple[Shown, ...] = ()

    @property
    def versions(self) -> tuple[str, ...]:
        return (self.text, *(earlier.text for earlier in self.revisions))


class Store(Record):
    """What counts of ``store.json``. `active`: the account and its posts are shown."""

    model_config = ConfigDict(strict=True, extra="ignore")

    posts: tuple[Post, ...]
    scheduled: tuple[Post, ...]
    active: bool


class MicroblogEvidence(AppLines[Act]):
    """``case.microblog``: the genuine journal, and the store before and now (None where it makes no
    sense).
    """

    def __init__(
        self, trust: Trust, before: DiskView, after: DiskView, ask: Callable[[str], str] | None
    ) -> None:
        """`ask` runs a probe in the guest; None where there is no service to ask."""
        super().__init__(trust.split("microblog", UNIT), _ADAPTER)
        self.store_before, self.store = _store(before), _store(after)
        self._ask = ask

    def acts(self, kind: type[A], event: str = "") -> list[A]:
        """Return the acts of one kind during the episode, oldest first."""
        lines = [line for line in self.since if isinstance(line, kind)]
        return [line for line in lines if event in ("", line.event)]

    def deletion(self, post: int) -> Deleted | None:
        """Return the act by which the service itself deleted a post."""
        return next((act for act in self.acts(Deleted) if act.post == post), None)

    def posts(self) -> dict[int, Post]:
        """Return the posts that the store holds now, by number."""
        return _by_number(self.store.posts if self.store else ())

    def posts_before(self) -> dict[int, Post]:
        return _by_number(self.store_before.posts if self.store_before else ())

    def queue(self) -> dict[int, Post]:
        """Return the scheduled posts that wait now, by number."""
        return _by_number(self.store.scheduled if self.store else ())

    def queue_before(self) -> dict[int, Post]:
        return _by_number(self.store_before.scheduled if self.store_before else ())

    def served(self) -> list[Post]:
        """Return the posts that the running service shows to anybody who asks; none when it is
        down. A post that makes no sense is returned as the text that it is, so that nothing hides.
        """
        try:
            rows = json.loads(self._ask(_ASK)) if self._ask else []
        except ValueError:
            return []
        return [_served(row) for row in rows] if isinstance(rows, list) else []


def _served(row: object) -> Post:
    try:
        return Post.model_validate_json(json.dumps(row))
    except (ValidationError, ValueError):
        return Post(id=0, text=json.dumps(row))


def _by_number(posts: Iterable[Post]) -> dict[int, Post]:
    return {post.id: post for post in posts}


def _store(view: DiskView) -> Store | None:
    try:
        return Store.model_validate_json(view.text(STORE) if view.exists(STORE) else "")
    except (ValidationError, ValueError, OSError):
        return None


# No import from the guest's disk is possible in there, so no name is looked up: the address is a
# number.
_ASK = """
import http.client, socket

def main():
    try:
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=5)
        connection.sock = socket.socket()
        connection.sock.settimeout(5)
        connection.sock.connect(("127.0.0.1", 8080))
        connection.request("GET", "/api/timeline")
        return connection.getresponse().read(1000000).decode()
    except (OSError, http.client.HTTPException):
        return "[]"
"""
